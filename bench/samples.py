"""Arithmetic on what was measured. Pure."""

import math
from collections.abc import Iterable, Sequence


def percentile(values: Iterable[float], percent: float) -> float:
    """The smallest value that ``percent`` of all don't exceed (nearest rank).

    Raises ValueError without values.
    """
    ordered = sorted(values)
    if not ordered:
        raise ValueError("There is nothing to take a percentile of.")
    return ordered[max(math.ceil(percent / 100 * len(ordered)), 1) - 1]


def median(values: Iterable[float]) -> float:
    """The middle value, or the mean of the two in the middle. Raises ValueError without values."""
    ordered = sorted(values)
    if not ordered:
        raise ValueError("There is nothing to take a median of.")
    middle = len(ordered) // 2
    if len(ordered) % 2:
        return ordered[middle]
    return (ordered[middle - 1] + ordered[middle]) / 2


def rate_after(ends: Sequence[float], start: float) -> float:
    """Ends per second from ``start`` to the last of them, of those after ``start``.

    With all work queued by ``start`` this is what the queue was worked off at. Raises
    ValueError where nothing ended after ``start``.
    """
    after = [end for end in ends if end > start]
    if not after:
        raise ValueError("All had ended before the last was queued: queue more.")
    return len(after) / (max(after) - start)


def parse_kilobytes(text: str, name: str) -> int:
    """Bytes that a line ``name:  123 kB`` of Linux's /proc tells. Raises ValueError."""
    for line in text.splitlines():
        key, _, rest = line.partition(":")
        if key == name:
            amount, unit = rest.split()
            if unit != "kB":
                raise ValueError(f"{name} is given in {unit}.")
            return int(amount) * 1024
    raise ValueError(f"There is no {name}.")
