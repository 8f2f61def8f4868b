"""The workflows and styles that there are: shipped, from folders, and registered."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Final, Literal

from atelier.errors import NotFound
from atelier.workflows.definition import Definition
from atelier.workflows.inline import inline
from atelier.workflows.lacking import Lacking, lacking
from atelier.workflows.manifest import Style
from atelier.workflows.nearest import listed, nearest
from atelier.workflows.requirement import (
    Alternative,
    ModelNeed,
    NoVariantFits,
    fit_models,
    requirements,
    resolve_models,
    satisfied,
)
from atelier.workflows.schema import input_schema
from atelier.workflows.source import Folder, Source
from atelier.workflows.workflow import LibraryInvalid, Workflow, build

__all__ = [
    "Alternative",
    "Definition",
    "Lacking",
    "Library",
    "LibraryInvalid",
    "ModelNeed",
    "NoVariantFits",
    "Origin",
    "Style",
    "Workflow",
    "WorkflowUnknown",
    "fit_models",
    "inline",
    "input_schema",
    "lacking",
    "requirements",
    "resolve_models",
    "satisfied",
]

Origin = Literal["shipped", "folder", "own"]

_OWN: Final = -1  # the place of the registered ones among the sources


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


@dataclass(frozen=True, slots=True)
class _Built:
    definition: Definition
    styles: Mapping[str, Style]
    workflow: Workflow


class Library:
    """The shipped workflows and styles, those of ``folders``, and those that were registered.

    What comes later adds, or overrides by name; what is taken away uncovers what it overrode.
    Raises LibraryInvalid with all problems of all files, unless ``strict`` is False: then, as
    later on, what is faulty is left out or stays what it was, and ``problems`` tells.
    """

    def __init__(
        self, folders: Sequence[Folder] = (), *, builtin: bool = True, strict: bool = True
    ) -> None:
        shipped = [Source(files("atelier.workflows").joinpath("builtin"))] if builtin else []
        self._shipped = len(shipped)
        self._sources = [*shipped, *(Source(folder) for folder in folders)]
        self._own: Mapping[str, Definition] = {}
        self._own_problems: tuple[str, ...] = ()
        self._built: dict[tuple[int, str], _Built] = {}
        self._workflows: dict[str, tuple[Origin, Workflow]] = {}
        self._styles: dict[str, Style] = {}
        self._problems: tuple[str, ...] = ()
        self.revision = 0
        for source in self._sources:
            source.scan()
        self.assemble()
        if strict and self._problems:
            raise LibraryInvalid(self._problems)

    @property
    def problems(self) -> tuple[str, ...]:
        """What is wrong with files and registered workflows, a sentence each."""
        return self._problems

    def scan(self) -> bool:
        """Look at the folders' files; True if there is something to ``assemble``.

        Touches disks, so it belongs in a thread.
        """
        changed = [source.scan() for source in self._sources[self._shipped :]]
        return any(changed)

    def set_own(self, own: Mapping[str, Definition], problems: Sequence[str] = ()) -> None:
        """Replace the registered workflows."""
        self._own, self._own_problems = dict(own), tuple(problems)
        self.assemble()

    def assemble(self) -> None:
        """Put together what has been read. ``revision`` grows if that changed anything."""
        styles: dict[str, Style] = {}
        for source in self._sources:
            styles |= source.styles
        ordered = sorted(styles.values(), key=lambda style: (style.order, style.name))
        styles = {style.name: style for style in ordered}
        layers = [(number, one.workflows) for number, one in enumerate(self._sources)]
        layers.append((_OWN, dict(self._own)))
        problems = [problem for source in self._sources for problem in source.problems]
        problems += self._own_problems
        built: dict[tuple[int, str], _Built] = {}
        workflows: dict[str, tuple[Origin, Workflow]] = {}
        for number, definitions in layers:
            for name, definition in definitions.items():
                known = self._built.get((number, name))
                try:
                    one = _build(definition, styles, known)
                except LibraryInvalid as error:
                    problems += error.problems
                    if known is None:
                        continue
                    one = known
                built[number, name] = one
                workflows[name] = self._origin(number), one.workflow
        before = {name: one.version for name, (_, one) in self._workflows.items()}
        after = {name: one.version for name, (_, one) in workflows.items()}
        if before != after or list(before) != list(after) or self._styles != styles:
            self.revision += 1
        self._built, self._workflows, self._styles = built, workflows, styles
        self._problems = tuple(problems)

    def names(self) -> tuple[str, ...]:
        return tuple(self._workflows)

    def find(self, name: str) -> Workflow | None:
        found = self._workflows.get(name)
        return None if found is None else found[1]

    def get(self, name: str) -> Workflow:
        """Return the workflow; raises WorkflowUnknown, which lists those that there are."""
        workflow = self.find(name)
        if workflow is None:
            raise WorkflowUnknown(name, self.names())
        return workflow

    def origin(self, name: str) -> Origin:
        """Return where the workflow of that name comes from; raises WorkflowUnknown."""
        self.get(name)
        return self._workflows[name][0]

    def definition(self, name: str) -> Definition:
        """Return the workflow as it was handed in; raises WorkflowUnknown."""
        self.get(name)
        layers = [_OWN, *reversed(range(len(self._sources)))]
        found = (self._built.get((number, name)) for number in layers)
        return next(built.definition for built in found if built is not None)

    def build(self, definition: Definition) -> Workflow:
        """Return what ``definition`` would be here, without keeping it; raises LibraryInvalid."""
        return build(definition.manifest, definition.graphs, self._styles)

    def styles(self) -> Mapping[str, Style]:
        """Return all styles by name, in the order in which they are shown."""
        return self._styles

    def _origin(self, number: int) -> Origin:
        if number == _OWN:
            return "own"
        return "shipped" if number < self._shipped else "folder"


def _build(definition: Definition, styles: Mapping[str, Style], known: _Built | None) -> _Built:
    """The workflow, built anew only where something that it is made of has changed."""
    if known is not None and known.definition is definition:
        uses_styles = any(entry.choices_from for entry in definition.manifest.inputs)
        if not uses_styles or known.styles == styles:
            return known
    workflow = build(definition.manifest, definition.graphs, styles)
    return _Built(definition, styles, workflow)
