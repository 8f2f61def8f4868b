"""The likeliest of many names, for messages that say what would have been valid."""

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any


def nearest(word: object, known: Iterable[Any], limit: int = 10) -> tuple[Any, ...]:
    """Return at most ``limit`` of ``known``: those that look like ``word`` first, then the rest."""
    values = list(dict.fromkeys(known))
    spelled: dict[str, Any] = {}
    for value in values:
        spelled.setdefault(str(value).casefold(), value)
    close = get_close_matches(str(word).casefold(), spelled, n=limit, cutoff=0.5)
    first = [spelled[name] for name in close]
    return tuple(dict.fromkeys([*first, *values]))[:limit]


def listed(names: Iterable[Any], total: int) -> str:
    """Return ``a, b, c`` and how many more there are than those."""
    shown = [str(name) for name in names]
    more = f" and {total - len(shown)} more" if total > len(shown) else ""
    return (", ".join(shown) or "none") + more
