"""Findings as a person reads them, or a program."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict

import orjson
from rich.console import Console
from rich.table import Table
from rich.text import Text

from atelier.cli.doctor.finding import Finding, Level

_MARKS: dict[Level, tuple[str, str]] = {
    "ok": ("ok", "green"),
    "warning": ("warn", "yellow"),
    "failed": ("FAIL", "bold red"),
}


def as_json(findings: Sequence[Finding]) -> str:
    return orjson.dumps([asdict(one) for one in findings], option=orjson.OPT_INDENT_2).decode()


def show(findings: Sequence[Finding], console: Console) -> None:
    """A table on a terminal, else a line for each finding and one for its hint."""
    if console.is_terminal:
        console.print(_table(findings))
    else:
        for finding in findings:
            mark, _ = _MARKS[finding.level]
            _print(console, f"{mark:4} {finding.part}: {finding.message}")
            if finding.hint:
                _print(console, f"     {finding.hint}")
    _print(console, _summary(findings))


def _print(console: Console, line: str) -> None:
    console.print(line, soft_wrap=True, markup=False)


def _table(findings: Sequence[Finding]) -> Table:
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold", max_width=40)
    table.add_column(overflow="fold")
    for finding in findings:
        mark, style = _MARKS[finding.level]
        said = Text(finding.message)
        if finding.hint:
            said.append(f"\n{finding.hint}", style="dim")
        table.add_row(Text(mark, style=style), Text(finding.part), said)
    return table


def _summary(findings: Sequence[Finding]) -> str:
    number = Counter[str](one.level for one in findings)
    words = [
        f"{number[level]} {word}{'s' if number[level] != 1 else ''}"
        for level, word in (("failed", "failure"), ("warning", "warning"))
        if number[level]
    ]
    return f"{' and '.join(words)}." if words else "Everything works."
