"""Values of labels, bounded: each is a series that Prometheus keeps."""

from typing import Final

OTHER: Final = "other"


class Labels:
    """Lets the first ``most`` values through; later ones are ``other``.

    Workflows and models are named by callers: without a bound anyone could fill the memory.
    """

    def __init__(self, *, most: int) -> None:
        self._most = most
        self._known: set[str] = set()

    def bounded(self, value: str) -> str:
        if value in self._known:
            return value
        if len(self._known) >= self._most:
            return OTHER
        self._known.add(value)
        return value
