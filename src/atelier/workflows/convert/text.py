"""What the front end writes into texts when it exports a graph."""

import re
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Final

Pick = Callable[[Sequence[str]], str]

_COMMENTS: Final = re.compile(r"/\*[\s\S]*?\*/|//.*")
_ESCAPED: Final = re.compile(r"\\([{}|])")
_VARIABLE: Final = re.compile(r"%([^%]+)%")
_NOT_IN_NAMES: Final = re.compile(r'[/?<>\\:*|"\x00-\x1F\x7F]')
_DATE_PART: Final = re.compile(r"yyyy|yy|MM?|dd?|hh?|mm?|ss?")
_DEEPEST: Final = 100  # choices within choices


def first(options: Sequence[str]) -> str:
    return options[0]


def resolve_choices(text: str, pick: Pick) -> str:
    """``text`` without comments and with ``{a|b}`` replaced by what ``pick`` takes of [a, b].

    Choices may stand within choices; a backslash before a brace or bar takes its meaning away.
    """
    return _resolved(text, pick, _DEEPEST)


def _resolved(text: str, pick: Pick, depth: int) -> str:
    text = _COMMENTS.sub("", text)
    parts: list[str] = []
    place = 0
    while place < len(text):
        if text[place] == "\\":
            parts.append(text[place : place + 2])
            place += 2
        elif text[place] == "{" and depth:
            options, place = _options(text, place + 1)
            parts.append(_resolved(pick(options), pick, depth - 1))
        else:
            parts.append(text[place])
            place += 1
    return _ESCAPED.sub(r"\1", "".join(parts))


def _options(text: str, place: int) -> tuple[list[str], int]:
    """The alternatives that begin at ``place``, and where the text goes on behind them."""
    options: list[str] = []
    start, depth = place, 0
    while place < len(text):
        character = text[place]
        if character == "\\":
            place += 2
            continue
        if character == "}" and not depth:
            return [*options, text[start:place]], place + 1
        if character == "|" and not depth:
            options.append(text[start:place])
            start = place + 1
        depth += {"{": 1, "}": -1}.get(character, 0)
        place += 1
    return [*options, text[start:]], place


def replace_variables(
    text: str, look_up: Callable[[str, str], str | None], now: datetime | None
) -> str:
    """``text`` with ``%node.widget%`` and ``%date:yyyy-MM-dd%`` filled in for a file name.

    ``look_up`` gives a widget's value by its node's name and its own; what it doesn't know stays
    as it is, and dates do without ``now``.
    """

    def replaced(found: re.Match[str]) -> str:
        name, *rest = found[1].split(".")
        if len(rest) != 1:
            if now is None or not name.startswith("date:"):
                return found[0]
            return _date(name.removeprefix("date:"), now)
        value = look_up(name, rest[0])
        return found[0] if value is None else _NOT_IN_NAMES.sub("_", value)

    return _VARIABLE.sub(replaced, text)


def _date(pattern: str, now: datetime) -> str:
    numbers = {"M": now.month, "d": now.day, "h": now.hour, "m": now.minute, "s": now.second}

    def part(found: re.Match[str]) -> str:
        token = found[0]
        if token[0] == "y":
            return f"{now.year:04d}"[-len(token) :]
        return f"{numbers[token[0]]:0{len(token)}d}"

    return _DATE_PART.sub(part, pattern)
