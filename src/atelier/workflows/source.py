"""A folder of workflows and styles, read again where its files have changed."""

import os
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, Final

import orjson
from pydantic import ValidationError

from atelier.workflows.definition import (
    NAME_RULE,
    Definition,
    DefinitionInvalid,
    define,
    described,
    explained,
    is_name,
)
from atelier.workflows.derive import GRAPH_FILE
from atelier.workflows.formats import ConversionUnavailable, graph_of
from atelier.workflows.graph import GraphMalformed
from atelier.workflows.manifest import Style

Folder = Path | Traversable

_READERS: Final[Mapping[str, Callable[[bytes], Any]]] = {
    ".json": orjson.loads,
    ".toml": lambda data: tomllib.loads(data.decode()),
}
_STYLES: Final = "styles"
# Files are read before any instance is asked.
_UI_FORMAT: Final = "it is in the UI format; `atelier workflows convert` makes an API graph of it"


class _Faulty(Exception):
    def __init__(self, *problems: str) -> None:
        self.problems = problems


@dataclass(frozen=True, slots=True)
class Entry:
    """What one file or folder gives: a workflow, or styles, and what is wrong with it."""

    stamp: object = None
    workflows: Mapping[str, Definition] = field(default_factory=dict)
    styles: Mapping[str, Style] = field(default_factory=dict)
    problems: tuple[str, ...] = ()


class Source:
    """``NAME/manifest.json`` with its graphs, ``NAME/graph.json``, ``NAME.json``, ``styles/``.

    Manifests and styles may be TOML. What is faulty keeps what it was before; what is gone is
    gone, but a folder that can't be read at all keeps everything.
    """

    def __init__(self, folder: Folder) -> None:
        self.folder = folder
        self._entries: Mapping[str, Entry] = {}
        self._away: str | None = None

    @property
    def workflows(self) -> dict[str, Definition]:
        return {
            key: one for entry in self._entries.values() for key, one in entry.workflows.items()
        }

    @property
    def styles(self) -> dict[str, Style]:
        return {key: one for entry in self._entries.values() for key, one in entry.styles.items()}

    @property
    def problems(self) -> tuple[str, ...]:
        found = [problem for entry in self._entries.values() for problem in entry.problems]
        return tuple(found if self._away is None else [self._away, *found])

    def scan(self) -> bool:
        """Look at all files, and read what has changed; whether anything has."""
        before, away = self._entries, self._away
        try:
            if not self.folder.is_dir():
                raise FileNotFoundError
            stamps = dict(_stamps(self.folder))
        except OSError as error:
            reason = f"can't be read ({error.strerror})" if error.strerror else "is not a folder"
            self._away = f"{self.folder} {reason}"
            return self._away != away
        self._away = None
        entries = {}
        for name, stamp in sorted(stamps.items()):
            known = before.get(name, Entry())
            same = stamp is not None and known.stamp == stamp
            entries[name] = known if same else _read_entry(self.folder, name, stamp, known)
        # Replaced as a whole: others may be reading.
        self._entries = entries
        return entries != before or away is not None


def _stamps(folder: Folder) -> Iterator[tuple[str, object]]:
    """What may hold something, with what changes when it does; None where nothing tells."""
    if not isinstance(folder, Path):
        yield from ((one.name, None) for one in folder.iterdir() if _counts(one.name))
        return
    with os.scandir(folder) as entries:
        for entry in entries:
            if not _counts(entry.name):
                continue
            if entry.is_dir():
                yield entry.name, _stamps_within(entry.path)
            elif entry.name.endswith(".json"):
                yield entry.name, _stamp(entry)


def _stamps_within(folder: str) -> object:
    try:
        with os.scandir(folder) as files:
            return tuple(sorted(_stamp(file) for file in files if _counts(file.name)))
    except OSError:  # reading it will tell
        return None


def _counts(name: str) -> bool:
    # Kubernetes keeps the true files of a mounted map in ..data; editors keep backups.
    return not name.startswith((".", "__")) and not name.endswith("~")


def _stamp(entry: "os.DirEntry[str]") -> tuple[str, int, int, int]:
    try:
        state = entry.stat()
    except OSError:  # gone meanwhile, or a link to nothing
        return entry.name, 0, 0, 0
    return entry.name, state.st_mtime_ns, state.st_size, state.st_ino


def _read_entry(folder: Folder, name: str, stamp: object, before: Entry) -> Entry:
    at = folder.joinpath(name)
    try:
        if name == _STYLES and at.is_dir():
            return _read_styles(at, stamp, before)
        found = _read_folder(at, name) if at.is_dir() else _read_file(at)
    except _Faulty as error:
        return Entry(stamp, before.workflows, before.styles, error.problems)
    except OSError as error:  # read again next time
        problem = f"{at}: {error.strerror or error}"
        return Entry(None, before.workflows, before.styles, (problem,))
    return Entry(stamp, {} if found is None else {found.manifest.name: found})


def _named(at: Folder, name: str) -> str:
    if not is_name(name):
        raise _Faulty(f"{at}: {name!r} can't be a workflow's name: {NAME_RULE.rstrip('.')}")
    return name


def _read_folder(folder: Folder, name: str) -> Definition | None:
    """The workflow of a folder with a manifest, or with nothing but a graph."""
    file = next((one for one in _manifests(folder) if one.is_file()), None)
    if file is None:
        graph = folder.joinpath(GRAPH_FILE)
        if not graph.is_file():
            return None
        return _defined(graph, _named(folder, name), _parse(graph))
    _named(folder, name)
    about = _parse(file)
    if not isinstance(about, dict):
        raise _Faulty(f"{file}: it is not an object")
    if about.setdefault("name", name) != name:
        raise _Faulty(f"{file}: its name {about['name']!r} must be {name!r}")
    graphs: dict[str, Any] = {}
    problems: list[str] = []
    for wanted in _graph_files(about):
        graph = folder.joinpath(wanted)
        if "/" in wanted or "\\" in wanted or not graph.is_file():
            problems.append(f"{folder}: there is no file {wanted} beside the manifest")
            continue
        try:
            graphs[wanted] = graph_of(_parse(graph))
        except _Faulty as error:
            problems += error.problems
        except GraphMalformed as error:
            problems += [f"{graph}: {problem}" for problem in error.problems]
        except ConversionUnavailable:
            problems.append(f"{graph}: {_UI_FORMAT}")
    if problems:
        raise _Faulty(*problems)
    try:
        return described(name, about, graphs)
    except ConversionUnavailable:
        raise _Faulty(f"{file}: {_UI_FORMAT}") from None
    except DefinitionInvalid as error:
        raise _Faulty(*(f"{file}: {problem}" for problem in error.problems)) from error


def _graph_files(about: Mapping[str, Any]) -> list[str]:
    variants = about.get("variants")
    if variants is None:
        return [GRAPH_FILE]
    named = [one.get("graph") for one in variants if isinstance(one, Mapping)]
    return list(dict.fromkeys(one for one in named if isinstance(one, str) and one))


def _read_file(file: Folder) -> Definition | None:
    """The workflow of a file by itself."""
    stem, dot, suffix = file.name.rpartition(".")
    if dot + suffix != ".json":
        return None
    return _defined(file, _named(file, stem), _parse(file))


def _defined(file: Folder, name: str, body: Any) -> Definition:
    try:
        return define(name, body)
    except ConversionUnavailable:
        raise _Faulty(f"{file}: {_UI_FORMAT}") from None
    except DefinitionInvalid as error:
        raise _Faulty(*(f"{file}: {problem}" for problem in error.problems)) from error


def _read_styles(folder: Folder, stamp: object, before: Entry) -> Entry:
    found: dict[str, Style] = {}
    problems: list[str] = []
    for file in sorted(folder.iterdir(), key=lambda file: file.name):
        stem, dot, suffix = file.name.rpartition(".")
        if dot + suffix not in _READERS or not _counts(file.name):
            continue
        try:
            found[stem] = _style(file, stem)
        except _Faulty as error:
            problems += error.problems
            if stem in before.styles:
                found[stem] = before.styles[stem]
    return Entry(stamp, styles=found, problems=tuple(problems))


def _style(file: Folder, name: str) -> Style:
    body = _parse(file)
    if not isinstance(body, dict):
        raise _Faulty(f"{file}: it is not an object")
    if body.setdefault("name", name) != name:
        raise _Faulty(f"{file}: its name {body['name']!r} must be {name!r}")
    try:
        return Style.model_validate(body)
    except ValidationError as error:
        raise _Faulty(*(f"{file}: {problem}" for problem in explained(error))) from error


def _manifests(folder: Folder) -> list[Folder]:
    return [folder.joinpath(f"manifest{suffix}") for suffix in _READERS]


def _parse(file: Folder) -> Any:
    read = _READERS.get(file.name[file.name.rfind(".") :])
    if read is None:
        raise _Faulty(f"{file}: its name must end in {' or '.join(_READERS)}")
    try:
        return read(file.read_bytes())
    except ValueError as error:  # both readers' errors are ValueErrors
        raise _Faulty(f"{file}: {error}") from error
