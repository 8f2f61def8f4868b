"""The workflows and styles that there are, read from folders of data files."""

import tomllib
from collections.abc import Callable, Mapping, Sequence
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, TypeVar

import orjson
from pydantic import BaseModel, ValidationError

from atelier.errors import NotFound
from atelier.workflows.graph import Graph, GraphMalformed, parse_graph
from atelier.workflows.inline import inline
from atelier.workflows.manifest import Manifest, Style
from atelier.workflows.nearest import listed, nearest
from atelier.workflows.requirement import (
    Alternative,
    ModelNeed,
    requirements,
    resolve_models,
    satisfied,
)
from atelier.workflows.schema import input_schema
from atelier.workflows.workflow import LibraryInvalid, Workflow, build

__all__ = [
    "Alternative",
    "Library",
    "LibraryInvalid",
    "ModelNeed",
    "Style",
    "Workflow",
    "WorkflowUnknown",
    "inline",
    "input_schema",
    "requirements",
    "resolve_models",
    "satisfied",
]

Folder = Path | Traversable
_Model = TypeVar("_Model", bound=BaseModel)
_READERS: Mapping[str, Callable[[bytes], Any]] = {
    ".json": orjson.loads,
    ".toml": lambda data: tomllib.loads(data.decode()),
}


class WorkflowUnknown(NotFound):
    """There is no workflow of that name."""

    code = "WORKFLOW_UNKNOWN"

    def __init__(self, name: str, known: Sequence[str]) -> None:
        allowed = nearest(name, known, limit=50)
        super().__init__(
            f"There is no workflow {name!r}.",
            hint=f"There are: {listed(allowed, len(known))}.",
            allowed=list(allowed),
            total=len(known),
        )


class Library:
    """The shipped workflows and styles, and those of ``folders``.

    A folder holds ``NAME/manifest.json`` with its graphs beside it, and ``styles/NAME.json``;
    manifests and styles may be TOML. A later folder adds, or overrides by name. Raises
    LibraryInvalid with all problems of all files.
    """

    def __init__(self, folders: Sequence[Folder] = (), *, builtin: bool = True) -> None:
        shipped = [files("atelier.workflows").joinpath("builtin")] if builtin else []
        manifests: dict[str, tuple[Manifest, dict[str, Graph]]] = {}
        styles: dict[str, Style] = {}
        problems: list[str] = []
        for folder in [*shipped, *folders]:
            if not folder.is_dir():
                problems.append(f"{folder} is not a folder")
                continue
            for entry in sorted(folder.iterdir(), key=lambda entry: entry.name):
                try:
                    if entry.name == "styles" and entry.is_dir():
                        styles.update({style.name: style for style in _styles(entry)})
                    elif entry.is_dir() and (file := _manifest_file(entry)) is not None:
                        manifest = _read(file, Manifest, name=entry.name)
                        manifests[manifest.name] = manifest, _graphs(manifest, entry)
                except LibraryInvalid as error:
                    problems += error.problems
        ordered = sorted(styles.values(), key=lambda style: (style.order, style.name))
        self._styles = {style.name: style for style in ordered}
        self._workflows: dict[str, Workflow] = {}
        for name, (manifest, graphs) in manifests.items():
            try:
                self._workflows[name] = build(manifest, graphs, self._styles)
            except LibraryInvalid as error:
                problems += error.problems
        if problems:
            raise LibraryInvalid(problems)

    def names(self) -> tuple[str, ...]:
        return tuple(self._workflows)

    def get(self, name: str) -> Workflow:
        """Return the workflow; raises WorkflowUnknown, which lists those that there are."""
        workflow = self._workflows.get(name)
        if workflow is None:
            raise WorkflowUnknown(name, self.names())
        return workflow

    def styles(self) -> Mapping[str, Style]:
        """Return all styles by name, in the order in which they are shown."""
        return self._styles


def _manifest_file(folder: Folder) -> Folder | None:
    for suffix in _READERS:
        file = folder.joinpath(f"manifest{suffix}")
        if file.is_file():
            return file
    return None


def _styles(folder: Folder) -> list[Style]:
    found: list[Style] = []
    problems: list[str] = []
    for file in sorted(folder.iterdir(), key=lambda file: file.name):
        stem, dot, suffix = file.name.rpartition(".")
        if dot + suffix not in _READERS:
            continue
        try:
            found.append(_read(file, Style, name=stem))
        except LibraryInvalid as error:
            problems += error.problems
    if problems:
        raise LibraryInvalid(problems)
    return found


def _graphs(manifest: Manifest, folder: Folder) -> dict[str, Graph]:
    graphs: dict[str, Graph] = {}
    problems: list[str] = []
    for variant in manifest.variants:
        file = folder.joinpath(variant.graph)
        if "/" in variant.graph or "\\" in variant.graph or not file.is_file():
            problems.append(f"{folder}: there is no file {variant.graph} beside the manifest")
            continue
        try:
            graphs[variant.name] = parse_graph(_parse(file))
        except GraphMalformed as error:
            problems.append(f"{file}: {'; '.join(error.problems)}")
        except LibraryInvalid as error:
            problems += error.problems
    if problems:
        raise LibraryInvalid(problems)
    return graphs


def _parse(file: Folder) -> Any:
    read = _READERS.get(file.name[file.name.rfind(".") :])
    if read is None:
        raise LibraryInvalid([f"{file}: its name must end in {' or '.join(_READERS)}"])
    try:
        return read(file.read_bytes())
    except (ValueError, OSError) as error:  # both readers' errors are ValueErrors
        raise LibraryInvalid([f"{file}: {error}"]) from error


def _read(file: Folder, model: type[_Model], *, name: str) -> _Model:
    """The file as a model; its name is that of the file or folder, and need not be in it."""
    body = _parse(file)
    if not isinstance(body, dict):
        raise LibraryInvalid([f"{file}: it is not an object"])
    if body.setdefault("name", name) != name:
        raise LibraryInvalid([f"{file}: its name {body['name']!r} must be {name!r}"])
    try:
        return model.model_validate(body)
    except ValidationError as error:
        raise LibraryInvalid(
            [
                f"{file}: {'.'.join(map(str, detail['loc'])) or 'file'}: {detail['msg']}"
                for detail in error.errors(include_url=False)
            ]
        ) from error
