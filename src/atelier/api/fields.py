"""What is wrong with which field, in words that a person understands."""

import difflib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, get_args, get_type_hints

from pydantic import BaseModel

_SHOWN_CHARACTERS = 60


@dataclass(frozen=True, slots=True)
class FieldError:
    """``message`` reads on from the field's name: "must be at most 1"."""

    field: str
    message: str
    allowed: Any = None

    def as_dict(self) -> dict[str, Any]:
        known = {} if self.allowed is None else {"allowed": self.allowed}
        return {"field": self.field, "message": self.message, **known}


def sentence(errors: Sequence[FieldError]) -> str:
    """All of it in one line: what a log or a dialog shows."""
    if not errors:
        return "The request is invalid."
    return "; ".join(f"{error.field} {error.message}" for error in errors) + "."


def field_errors(errors: Iterable[Mapping[str, Any]], endpoint: Any) -> tuple[FieldError, ...]:
    """Translate pydantic's errors; ``endpoint`` tells which fields its body knows."""
    translated = [_field_error(error, endpoint) for error in errors]
    # A union reports every branch that didn't fit: one sentence for each field is enough.
    return tuple({(one.field, one.message): one for one in translated}.values())


def _field_error(error: Mapping[str, Any], endpoint: Any) -> FieldError:
    location = [str(part) for part in error["loc"] if part not in ("body", "query", "path")]
    name = ".".join(location) or "body"
    kind: str = error["type"]
    context: Mapping[str, Any] = error.get("ctx") or {}
    if kind == "extra_forbidden":
        known = _known_fields(endpoint, tuple(location[:-1]))
        near = difflib.get_close_matches(location[-1], known, 1)
        guess = f" (did you mean {near[0]}?)" if near else ""
        return FieldError(name, f"isn't a known field{guess}", list(known))
    if kind in ("literal_error", "enum"):
        # pydantic joins them for reading: 'a', 'b' or 'c'
        text = str(context.get("expected", "")).replace(" or ", ", ")
        allowed = [part.strip("'") for part in text.split(", ")]
        return FieldError(
            name, f"must be one of {', '.join(allowed)}; it is {_shown(error)}", allowed
        )
    say = _SENTENCES.get(kind)
    if say is not None:
        return FieldError(name, say(context, _shown(error)))
    message = str(error["msg"]).removeprefix("Value error, ")
    for start, replacement in (("Input should be", "must be"), ("Input should", "must")):
        message = message.replace(start, replacement)
    return FieldError(name, message)


def _shown(error: Mapping[str, Any]) -> str:
    text = repr(error.get("input"))
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}…"


_SENTENCES: Mapping[str, Callable[[Mapping[str, Any], str], str]] = {
    "missing": lambda c, v: "is required",
    "string_type": lambda c, v: f"must be text; it is {v}",
    "string_too_short": lambda c, v: (
        "must not be empty" if c["min_length"] == 1 else f"needs {c['min_length']} characters"
    ),
    "string_too_long": lambda c, v: f"may have at most {c['max_length']} characters",
    "string_pattern_mismatch": lambda c, v: "must not be empty",
    "greater_than_equal": lambda c, v: f"must be at least {c['ge']}; it is {v}",
    "less_than_equal": lambda c, v: f"must be at most {c['le']}; it is {v}",
    "too_long": lambda c, v: f"may have at most {c['max_length']} entries; it has more",
    "too_short": lambda c, v: f"needs at least {c['min_length']} entries",
    "int_parsing": lambda c, v: f"must be a whole number; it is {v}",
    "int_type": lambda c, v: f"must be a whole number; it is {v}",
    "int_from_float": lambda c, v: f"must be a whole number; it is {v}",
    "float_parsing": lambda c, v: f"must be a number; it is {v}",
    "float_type": lambda c, v: f"must be a number; it is {v}",
    "finite_number": lambda c, v: "must be a finite number",
    "bool_parsing": lambda c, v: f"must be true or false; it is {v}",
    "bool_type": lambda c, v: f"must be true or false; it is {v}",
    "list_type": lambda c, v: f"must be a list; it is {v}",
    "dict_type": lambda c, v: f"must be an object; it is {v}",
    "model_attributes_type": lambda c, v: f"must be an object; it is {v}",
    "model_type": lambda c, v: f"must be an object; it is {v}",
}


@lru_cache(maxsize=256)
def _known_fields(endpoint: Any, path: tuple[str, ...]) -> tuple[str, ...]:
    """Fields of the body that ``endpoint`` takes, or of the object at ``path`` in it."""
    for hint in get_type_hints(endpoint).values():
        if model := _model_in(hint):
            for name in path:
                field = model.model_fields.get(name)
                model = _model_in(field.annotation) if field else None
                if model is None:
                    return ()
            return tuple(model.model_fields)
    return ()


def _model_in(hint: Any) -> type[BaseModel] | None:
    """The model that ``hint`` is, or may be: of ``Model | None``."""
    for one in (hint, *get_args(hint)):
        if isinstance(one, type) and issubclass(one, BaseModel):
            return one
    return None
