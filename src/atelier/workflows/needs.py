"""What a variant needs of a ComfyUI beyond its core: model files and packages of custom nodes."""

from fnmatch import fnmatchcase
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

_Text = Annotated[str, Field(min_length=1)]


class _Data(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ModelFile(_Data):
    """A model file: ``file`` below ``models/folder``, published at ``url``.

    ``match`` are glob patterns, best first and regardless of case, of files that do as well;
    what matches a pattern with a leading ``!`` never does. ``input`` is the workflow's input that
    chooses among them; without it the graph names ``file`` itself.
    """

    folder: _Text
    file: _Text
    url: _Text
    size_gib: float | None = Field(default=None, gt=0)
    match: tuple[str, ...] = ()
    input: str | None = None

    @property
    def path(self) -> str:
        """Where the file goes."""
        return f"ComfyUI/models/{self.folder}/{self.file}"


class NodePackage(_Data):
    """A package of custom nodes, to be put below ``custom_nodes/``, and the classes used of it."""

    package: _Text
    url: _Text
    classes: tuple[str, ...] = Field(min_length=1)

    @property
    def path(self) -> str:
        return f"ComfyUI/custom_nodes/{self.package}"


class Needs(_Data):
    """``comfyui`` is the first version whose core has the nodes and knows the models."""

    models: tuple[ModelFile, ...] = ()
    nodes: tuple[NodePackage, ...] = ()
    comfyui: str | None = None

    def chosen_by(self, name: str) -> ModelFile | None:
        """Return the model file that the input ``name`` chooses."""
        return next((model for model in self.models if model.input == name), None)

    def named(self, folder: str, file: str) -> ModelFile | None:
        """Return the model file that a graph names so."""
        for model in self.models:
            if model.input is None and (model.folder, model.file) == (folder, file):
                return model
        return None


def fits(file: str, match: tuple[str, ...]) -> bool:
    """True if ``file`` matches one of the patterns and none with a leading ``!``.

    Without patterns that ask for something, everything fits that isn't excluded.
    """
    return rank(file, match) is not None


def rank(file: str, match: tuple[str, ...]) -> int | None:
    """Return the place of the first pattern that ``file`` matches, None if it doesn't fit."""
    name = file.casefold()
    wanted = [pattern.casefold() for pattern in match if not pattern.startswith("!")]
    excluded = [pattern[1:].casefold() for pattern in match if pattern.startswith("!")]
    if any(fnmatchcase(name, pattern) for pattern in excluded):
        return None
    if not wanted:
        return 0
    return next((place for place, one in enumerate(wanted) if fnmatchcase(name, one)), None)
