"""The inputs of one run: validated, completed, and what the rest of the way asks of them."""

from collections.abc import Mapping
from typing import Any, Final, Protocol

from atelier.workflows.manifest import Input, Manifest
from atelier.workflows.problem import InputMissing, InputProblem, InputsInvalid, InputUnknown
from atelier.workflows.values import image_ref, normalise, seed_range

DRAW: Final = -1


class Rng(Protocol):
    """What ``random.Random`` offers, as far as a seed needs it."""

    def randrange(self, start: int, stop: int, /) -> int: ...


def complete(manifest: Manifest, inputs: Mapping[str, Any], *, rng: Rng) -> dict[str, Any]:
    """Return every input that has a value: those given, then defaults and a drawn seed.

    Null counts as left out, and so does a blank text. Images become ``{"url": ...}`` or
    ``{"asset": ...}``, sizes ``{"width": ..., "height": ...}``; a model that is left out stays so
    until an instance is known. Raises InputsInvalid with all problems at once.
    """
    known = [entry.name for entry in manifest.inputs]
    problems: list[InputProblem] = [
        InputUnknown(name, known) for name in inputs if name not in known
    ]
    completed: dict[str, Any] = {}
    for entry in manifest.inputs:
        value = inputs.get(entry.name)
        if _left_out(entry, value):
            value = entry.default
        try:
            if entry.type == "seed" and _is_drawn(value):
                low, high = seed_range(entry)
                value = rng.randrange(low, high + 1)
            if value is not None:
                completed[entry.name] = normalise(entry, value)
            elif entry.required:
                raise InputMissing(entry.name)
        except InputProblem as problem:
            problems.append(problem)
    if problems:
        raise InputsInvalid(problems)
    return completed


def defaults(manifest: Manifest) -> dict[str, Any]:
    """Return the inputs that have a value when a caller gives none."""
    return {entry.name: entry.default for entry in manifest.inputs if entry.default is not None}


def image_refs(manifest: Manifest, inputs: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    """Return the pictures among ``inputs`` that still have to be brought to the instance."""
    found = {}
    for entry in manifest.inputs:
        if entry.type in ("image", "mask"):
            value = inputs.get(entry.name)
            if isinstance(value, Mapping) and (ref := image_ref(value)):
                found[entry.name] = ref
    return found


def seed_of(manifest: Manifest, inputs: Mapping[str, Any]) -> int | None:
    """Return the seed that the job reports: that of the first input of type seed."""
    for entry in manifest.inputs:
        if entry.type == "seed":
            seed = inputs.get(entry.name)
            return seed if isinstance(seed, int) else None
    return None


def draws_seed(manifest: Manifest, inputs: Mapping[str, Any]) -> bool:
    """Return whether ``complete`` leaves a seed of these to chance."""
    for entry in manifest.inputs:
        if entry.type == "seed":
            value = inputs.get(entry.name)
            if _is_drawn(entry.default if _left_out(entry, value) else value):
                return True
    return False


def _is_drawn(value: Any) -> bool:
    return value in (None, DRAW, str(DRAW))


def _left_out(entry: Input, value: Any) -> bool:
    if isinstance(value, str) and entry.type in ("text", "image", "mask", "model"):
        return not value.strip()
    return value is None
