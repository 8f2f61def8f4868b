"""One measured figure, and the table of them."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Figure:
    """``met`` is None where there is nothing to meet, or nothing could be measured."""

    name: str
    measured: str
    target: str = ""
    met: bool | None = None


def at_most(name: str, value: float, limit: float, unit: str, *, digits: int = 1) -> Figure:
    return Figure(
        name, f"{value:.{digits}f} {unit}", f"at most {limit:g} {unit}", met=value <= limit
    )


def at_least(name: str, value: float, limit: float, unit: str = "", *, digits: int = 2) -> Figure:
    return Figure(
        name,
        f"{value:.{digits}f} {unit}".rstrip(),
        f"at least {limit:g} {unit}".rstrip(),
        met=value >= limit,
    )


def skipped(name: str, reason: str) -> Figure:
    return Figure(name, f"not measured: {reason}")


def table(figures: Sequence[Figure]) -> str:
    """Rows of figure, measured, target, met or not; the words stand in aligned columns."""
    met = {True: "met", False: "NOT MET", None: ""}
    rows = [("figure", "measured", "target", "")]
    rows += [(one.name, one.measured, one.target, met[one.met]) for one in figures]
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    return "\n".join([lines[0], "-" * max(map(len, lines)), *lines[1:]])
