"""One value of an input, brought into the one form that its type has."""

import math
import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from atelier.workflows.manifest import Input, InputType
from atelier.workflows.problem import InputMistyped, InputNotAChoice, InputOutOfRange

SEED_MAX: Final = 2**53 - 1  # the largest integer that every JSON reader keeps exact
_SIZE: Final = re.compile(r"\s*(\d+)\s*[xX×]\s*(\d+)\s*")
_ADDRESSES: Final = ("http://", "https://", "data:")


def normalise(entry: Input, value: Any) -> Any:
    """Return ``value`` in the one form that its type has; raises an InputProblem."""
    return _NORMALISERS[entry.type](entry, value)


def image_ref(value: Any) -> dict[str, str] | None:
    """Return ``{"url": ...}`` or ``{"asset": ...}`` for what points to a picture, else None.

    A text counts if it begins with ``http://``, ``https://``, ``data:`` or ``asset:``.
    """
    if isinstance(value, Mapping):
        if len(value) != 1:
            return None
        kind, at = next(iter(value.items()))
        usable = kind in ("url", "asset") and isinstance(at, str) and at.strip()
        return {kind: at.strip()} if usable else None
    if not isinstance(value, str):
        return None
    at = value.strip()
    scheme = at[:8].lower()
    if scheme.startswith("asset:"):
        return {"asset": at[6:]} if at[6:] else None
    return {"url": at} if scheme.startswith(_ADDRESSES) else None


def seed_range(entry: Input) -> tuple[int, int]:
    low = 0 if entry.min is None else int(entry.min)
    return low, SEED_MAX if entry.max is None else int(entry.max)


def _text(entry: Input, value: Any) -> str:
    if not isinstance(value, str):
        raise InputMistyped(entry.name, value, "a text")
    low, high = entry.min, entry.max
    if (low is not None and len(value) < low) or (high is not None and len(value) > high):
        least = f"at least {low:g}" if low is not None else ""
        most = f"at most {high:g}" if high is not None else ""
        expected = " and ".join(bound for bound in (least, most) if bound)
        raise InputMistyped(entry.name, value, f"{expected} characters long")
    return value


def _integer(entry: Input, value: Any) -> int:
    number = _number(entry, value, "a whole number")
    if number != int(number):
        raise InputMistyped(entry.name, value, "a whole number")
    return int(_in_range(entry, int(number)))


def _float(entry: Input, value: Any) -> float:
    return float(_in_range(entry, _number(entry, value, "a number")))


def _seed(entry: Input, value: Any) -> int:
    low, high = seed_range(entry)
    number = _number(entry, value, "a whole number")
    if number != int(number):
        raise InputMistyped(entry.name, value, "a whole number")
    if not low <= number <= high:
        raise InputOutOfRange(entry.name, value, low, high)
    return int(number)


def _number(entry: Input, value: Any, expected: str) -> int | float:
    number: Any = value
    if isinstance(value, str):  # forms and command lines have nothing but texts
        try:
            number = float(value) if re.search(r"[.eE]", value) else int(value)
        except ValueError:
            raise InputMistyped(entry.name, value, expected) from None
    if isinstance(number, bool) or not isinstance(number, int | float) or not math.isfinite(number):
        raise InputMistyped(entry.name, value, expected)
    return number


def _in_range(entry: Input, number: int | float) -> int | float:
    low, high, step = entry.min, entry.max, entry.step
    if (low is not None and number < low) or (high is not None and number > high):
        raise InputOutOfRange(entry.name, number, low, high)
    if step is None:
        return number
    start = low or 0
    # 10 digits take away what binary fractions add (0.1 * 3); a step past the end comes back.
    moved = round(start + round((number - start) / step) * step, 10)
    return moved if high is None or moved <= high else moved - step


def _boolean(entry: Input, value: Any) -> bool:
    if isinstance(value, bool):
        return value
    words = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
    if isinstance(value, str) and value.strip().lower() in words:
        return words[value.strip().lower()]
    raise InputMistyped(entry.name, value, "true or false")


def _choice(entry: Input, value: Any) -> Any:
    for choice in entry.choices:
        same = choice.value == value and isinstance(choice.value, bool) == isinstance(value, bool)
        if same or (isinstance(value, str) and str(choice.value) == value):
            return choice.value
    raise InputNotAChoice(entry.name, value, [choice.value for choice in entry.choices])


def _image(entry: Input, value: Any) -> dict[str, str]:
    ref = image_ref(value)
    if ref is None:
        raise InputMistyped(
            entry.name, value, 'an http, https or data: URL, {"url": ...} or {"asset": ...}'
        )
    return ref


def _model(entry: Input, value: Any) -> str:
    if not isinstance(value, str):
        raise InputMistyped(entry.name, value, f"the name of a file in {entry.folder}")
    return value


def _size(entry: Input, value: Any) -> dict[str, int]:
    sides: Any = value
    if isinstance(value, str) and (match := _SIZE.fullmatch(value)):
        sides = {"width": int(match[1]), "height": int(match[2])}
    if not isinstance(sides, Mapping) or set(sides) != {"width", "height"}:
        raise InputMistyped(entry.name, value, '{"width": ..., "height": ...} or "1024x768"')
    return {side: _integer(entry, sides[side]) for side in ("width", "height")}


def _any(entry: Input, value: Any) -> Any:
    return value


_NORMALISERS: Final[Mapping[InputType, Callable[[Input, Any], Any]]] = {
    "text": _text,
    "integer": _integer,
    "float": _float,
    "boolean": _boolean,
    "choice": _choice,
    "image": _image,
    "mask": _image,
    "seed": _seed,
    "model": _model,
    "size": _size,
    "any": _any,
}
