"""What a workflow tells about itself: typed inputs, and where each goes in which graph."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from atelier.errors import WorkflowError
from atelier.workflows.needs import Needs

InputType = Literal[
    "text",
    "integer",
    "float",
    "boolean",
    "choice",
    "image",
    "mask",
    "seed",
    "model",
    "size",
    "any",  # taken as it is: a value that an inline graph is given
]
Text = str | Annotated[dict[str, str], Field(min_length=1)]
Name = Annotated[str, Field(min_length=1)]
Scalar = bool | int | float | str


class _Data(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class VariantUnknown(WorkflowError):
    """The workflow has no variant of that name."""

    code = "WORKFLOW_VARIANT_UNKNOWN"


class Choice(_Data):
    """One value of a choice; templates read ``data`` as ``{input.key}``."""

    value: Scalar
    title: Text | None = None
    help: Text | None = None
    data: dict[str, Any] = Field(default_factory=dict)


class Input(_Data):
    """One input of a workflow, in the caller's terms.

    ``min`` and ``max`` are inclusive, for a size per side, for a text its length. Numbers are
    moved to the nearest ``step``. ``choices_from: styles`` stands for the library's styles,
    ``variants`` for the workflow's: what is chosen there is the one that runs. Models, pictures
    and what ``decides`` leave, when they are given, only the variants that use them. ``prefer``
    are glob patterns, best first, for a model that is left out; what matches a pattern with a
    leading ``!`` is taken last.
    """

    name: Name
    type: InputType
    title: Text | None = None
    help: Text | None = None
    required: bool = False
    default: Any = None
    min: float | int | None = None
    max: float | int | None = None
    step: float | int | None = Field(default=None, gt=0)
    choices: tuple[Choice, ...] = ()
    choices_from: Literal["styles", "variants"] | None = None
    decides: bool = False
    folder: str | None = None
    prefer: tuple[str, ...] = ()
    placeholder: Text | None = None
    example: Any = None

    @model_validator(mode="before")
    @classmethod
    def _plain_choices(cls, data: Any) -> Any:
        if isinstance(data, Mapping) and isinstance(data.get("choices"), list):
            choices = [
                c if isinstance(c, Mapping | Choice) else {"value": c} for c in data["choices"]
            ]
            return {**data, "choices": choices}
        return data

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.type == "choice" and not (self.choices or self.choices_from):
            raise ValueError(f"the choice {self.name!r} needs `choices` or `choices_from`")
        if self.type == "model" and not self.folder:
            raise ValueError(f"the model {self.name!r} needs a `folder`, e.g. checkpoints")
        return self

    def choice(self, value: Any) -> Choice | None:
        return next((choice for choice in self.choices if choice.value == value), None)


class Target(_Data):
    """One place in a graph that an input is written to.

    Plainly the value itself; through ``map`` what it stands for; through ``template`` a text in
    which ``{name}`` and ``{name.key}`` stand for any input's value or a part of it. A template
    that is one placeholder and nothing else passes that value on with its type.
    """

    node: Name
    input: Name
    map: dict[str, Any] | None = None
    template: str | None = None

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if self.map is not None and self.template is not None:
            raise ValueError("a target takes `map` or `template`, not both")
        return self


class Output(_Data):
    """A node whose results count."""

    node: Name
    kind: Literal["image", "video", "audio", "3d", "text"] = "image"


class Variant(_Data):
    """One graph that does the work; ``targets`` by input name.

    Targets are written in the order of the manifest's inputs, those of a left-out input not at
    all: a later input overrides an earlier one at the same place. Without ``outputs`` every node
    that delivers counts. ``requires`` are inputs without which the variant is not for the job.
    ``leave_out`` names, by input, nodes that stand in the graph only for its sake: when it is left
    out, so are they and every link to them. ``example`` are inputs that show the variant.
    """

    name: Name
    kind: Literal["diffusion", "model", "classic", "custom"]
    graph: Name
    title: Text | None = None
    targets: dict[str, tuple[Target, ...]] = Field(default_factory=dict)
    outputs: tuple[Output, ...] = ()
    requires: tuple[Name, ...] = ()
    leave_out: dict[str, tuple[Name, ...]] = Field(default_factory=dict)
    needs: Needs = Field(default_factory=Needs)
    example: dict[str, Any] | None = None


class Manifest(_Data):
    """A workflow's description; ``variants`` in order of preference.

    ``icon`` is the name of a Lucide icon. ``example`` are inputs to try it with, where a variant
    has none of its own; a picture there may be ``example:NAME``, one of those that come along.
    """

    name: Name
    title: Text
    help: Text | None = None
    category: str = "other"
    icon: str | None = None
    example: dict[str, Any] = Field(default_factory=dict)
    inputs: tuple[Input, ...] = ()
    variants: tuple[Variant, ...] = Field(min_length=1)

    def input(self, name: str) -> Input | None:
        return next((entry for entry in self.inputs if entry.name == name), None)

    def variant(self, name: str) -> Variant:
        for variant in self.variants:
            if variant.name == name:
                return variant
        known = [variant.name for variant in self.variants]
        raise VariantUnknown(
            f"The workflow {self.name} has no variant {name!r}.",
            hint=f"It has {', '.join(known)}.",
            known=known,
        )


class Classic(BaseModel):
    """How the classic node renders a style: the nearest of its own looks."""

    model_config = ConfigDict(frozen=True, extra="allow")

    look: Name


class Style(_Data):
    """A look that a picture can be given; ``order`` sorts lists, lowest first."""

    name: Name
    title: Text
    help: Text | None = None
    prompt: Name
    negative: str = ""
    classic: Classic
    order: int = 1000


def in_language(text: Text | None, language: str = "en") -> str:
    """Return ``text`` in ``language`` (en, zh-Hans, zh-Hant), else in English, else in any."""
    if text is None or isinstance(text, str):
        return text or ""
    return text.get(language) or text.get("en") or next(iter(text.values()))
