"""What somebody who knows no manifest asks for, as the inputs of a workflow. Pure."""

import math
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from atelier.workflows.copies import BATCH_SIZE
from atelier.workflows.manifest import Input, Manifest
from atelier.workflows.nearest import listed, nearest
from atelier.workflows.problem import InputProblem, InputsInvalid, shown

# Folders below models/ whose files draw: what a person means who names a model.
MODEL_FOLDERS: Final = ("checkpoints", "diffusion_models")
IMAGES: Final = "images"
ASPECT_RATIO: Final = "aspect_ratio"
SQUARE: Final = "1:1"
_AREA: Final = 1024 * 1024
_SIDE_STEP: Final = 64
# Words in the name of a picture that don't tell which one it is.
_NOISE: Final = re.compile(r"image|picture|photo|img|input|[^a-z0-9]")
_LETTERS: Final = {letter: str(number) for number, letter in enumerate("abcdefgh", start=1)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """A generation in the words that are the same for every workflow.

    None, a blank text and the seed -1 leave the choice to the workflow. ``images`` are what
    ``image_ref`` takes, under names of the caller's; ``more`` are further inputs under the
    workflow's own.
    """

    prompt: str | None = None
    seed: int | None = None
    model: str | None = None
    aspect_ratio: str | None = None
    batch_size: int = 1
    images: Mapping[str, Any] = field(default_factory=dict)
    more: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Fitted:
    """``inputs`` as the workflow names them, and ``words``: which word of the wish means each."""

    inputs: Mapping[str, Any]
    words: Mapping[str, str]


def fit(manifest: Manifest, wish: Wish, models: Mapping[str, Collection[str]] | None) -> Fitted:
    """Find for each part of ``wish`` the input of the workflow that means it.

    ``models`` are the files that instances have by folder, None where nobody knows. A prompt
    without an input for it is left out, and so is what says nothing new (a square, a random
    seed). Raises InputsInvalid with all that can't be followed, each by its word in the wish.
    """
    fitting = _Fitting(manifest)
    fitting.put(_prompt_input(manifest), "prompt", wish.prompt)
    fitting.put(_first(manifest, "seed"), "seed", wish.seed)
    if wish.model and wish.model.strip():
        fitting.put_model(wish.model, models)
    if wish.aspect_ratio:
        fitting.put_aspect_ratio(wish.aspect_ratio)
    if wish.batch_size != 1:
        fitting.put(manifest.input(BATCH_SIZE.name), "batch_size", wish.batch_size)
    fitting.put_images(wish.images)
    for name, value in wish.more.items():
        if value is not None:
            fitting.inputs.setdefault(name, value)
    if fitting.problems:
        raise InputsInvalid(fitting.problems)
    return Fitted(fitting.inputs, fitting.words)


class _Fitting:
    def __init__(self, manifest: Manifest) -> None:
        self._manifest = manifest
        self.inputs: dict[str, Any] = {}
        self.words: dict[str, str] = {}
        self.problems: list[InputProblem] = []

    def put(self, entry: Input | None, word: str, value: Any) -> None:
        if entry is not None:
            self.words[entry.name] = word
            if value is not None:
                self.inputs[entry.name] = value

    def put_model(self, model: str, models: Mapping[str, Collection[str]] | None) -> None:
        entries = _model_inputs(self._manifest)
        if not entries:
            self._refuse("model", f"can't be chosen for {self._manifest.name}; leave it out", [])
            return
        has = [entry for entry in entries if model in (models or {}).get(entry.folder or "", ())]
        if models is not None and not has:
            known = [file for entry in entries for file in models.get(entry.folder or "", ())]
            close = nearest(model, known, limit=50)
            folders = " or ".join(dict.fromkeys(entry.folder or "" for entry in entries))
            there = listed(close[:10], len(set(known)))
            self._refuse(
                "model",
                f"must be a file in {folders} of an instance, not {shown(model)}; there: {there}",
                close,
            )
            return
        self.put((has or entries)[0], "model", model)

    def put_aspect_ratio(self, ratio: str) -> None:
        manifest = self._manifest
        if (entry := manifest.input(ASPECT_RATIO)) is not None:
            self.put(entry, ASPECT_RATIO, ratio)
        elif (entry := _first(manifest, "size")) is not None:
            default = entry.default if isinstance(entry.default, Mapping) else {}
            area = default.get("width", 0) * default.get("height", 0) or _AREA
            width, height = sides(ratio, area, (entry, entry))
            self.put(entry, ASPECT_RATIO, {"width": width, "height": height})
        elif (both := _width_and_height(manifest)) is not None:
            area = (both[0].default or 0) * (both[1].default or 0) or _AREA
            for entry, side in zip(both, sides(ratio, area, both), strict=True):
                self.put(entry, ASPECT_RATIO, side)
        elif ratio != SQUARE:
            self._refuse(
                ASPECT_RATIO,
                f"can't be chosen for {manifest.name}; leave it out, or send {SQUARE}",
                [SQUARE],
            )

    def put_images(self, images: Mapping[str, Any]) -> None:
        entries = [entry for entry in self._manifest.inputs if entry.type in ("image", "mask")]
        self.words |= {entry.name: f"{IMAGES}.{entry.name}" for entry in entries}
        found = match_images(list(images), entries)
        for given, value in images.items():
            entry = found.get(given)
            if entry is not None:
                self.put(entry, f"{IMAGES}.{given}", value)
                continue
            names = [entry.name for entry in entries]
            self._refuse(
                f"{IMAGES}.{given}",
                f"is not a picture that {self._manifest.name} takes; "
                f"it takes {listed(names, len(names))}",
                names,
            )

    def _refuse(self, word: str, problem: str, allowed: Sequence[Any]) -> None:
        self.problems.append(InputProblem(word, problem, allowed=list(allowed)))


def match_images(given: Sequence[str], entries: Sequence[Input]) -> dict[str, Input]:
    """Which input each name means: the same name, else one that differs in spelling only.

    ``image_a``, ``A`` and ``image1`` are the same, and so are ``source`` and ``sourceImage``.
    What is then left alone on both sides, or alone against what is required, belongs together.
    """
    found: dict[str, Input] = {}
    for spelling in (str, _plain):
        left = [entry for entry in entries if entry not in found.values()]
        free = {spelling(entry.name): entry for entry in reversed(left)}
        for name in given:
            if name not in found and (entry := free.pop(spelling(name), None)) is not None:
                found[name] = entry
    names = [name for name in given if name not in found]
    left = [entry for entry in entries if entry not in found.values()]
    for alone in (left, [entry for entry in left if entry.required]):
        if len(names) == len(alone) == 1:
            return found | {names[0]: alone[0]}
    return found


def sides(ratio: str, area: int, entries: Sequence[Input]) -> tuple[int, int]:
    """Width and height of about ``area`` pixels in the shape ``ratio``, as the inputs allow."""
    across, down = (int(part) for part in ratio.split(":"))
    width = math.sqrt(area * across / down)
    first, second = (
        _side(length, entry)
        for length, entry in zip((width, width * down / across), entries, strict=True)
    )
    return first, second


def _side(length: float, entry: Input) -> int:
    step = int(entry.step or _SIDE_STEP)
    low, high = int(entry.min or step), int(entry.max or length + step)
    return max(low, min(high, round(length / step) * step))


def _plain(name: str) -> str:
    plain = _NOISE.sub("", name.casefold())
    return _LETTERS.get(plain, plain)


def _first(manifest: Manifest, kind: str) -> Input | None:
    return next((entry for entry in manifest.inputs if entry.type == kind), None)


def _prompt_input(manifest: Manifest) -> Input | None:
    texts = [entry for entry in manifest.inputs if entry.type == "text"]
    named = next((entry for entry in texts if entry.name == "prompt"), None)
    return named or next((entry for entry in texts if "negative" not in entry.name), None)


def _model_inputs(manifest: Manifest) -> list[Input]:
    """Inputs that a model's name may mean, the likeliest first."""
    entries = [entry for entry in manifest.inputs if entry.type == "model"]
    drawing = [entry for entry in entries if entry.folder in MODEL_FOLDERS]
    return sorted(drawing or entries, key=lambda entry: entry.name != "model")


def _width_and_height(manifest: Manifest) -> tuple[Input, Input] | None:
    width, height = manifest.input("width"), manifest.input("height")
    both = width is not None and height is not None and width.type == height.type == "integer"
    return (width, height) if both and width is not None and height is not None else None
