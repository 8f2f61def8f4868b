"""A manifest together with its graphs, made sure to fit each other."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from atelier.errors import ConfigurationError
from atelier.workflows.bind import placeholders
from atelier.workflows.copies import with_batch_size
from atelier.workflows.graph import Graph
from atelier.workflows.manifest import Choice, Input, Manifest, Style, Variant
from atelier.workflows.problem import InputProblem
from atelier.workflows.values import normalise


class LibraryInvalid(ConfigurationError):
    """A file of the library is wrong; ``data["problems"]`` says what, each naming its file."""

    code = "LIBRARY_INVALID"

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__(
            "The workflow library is faulty: " + "; ".join(problems), problems=problems
        )
        self.problems = tuple(problems)


@dataclass(frozen=True, slots=True)
class Workflow:
    """What can be run by name; ``graphs`` by variant name, ``version`` a hash of all of it."""

    manifest: Manifest
    graphs: Mapping[str, Graph]
    version: str

    @property
    def name(self) -> str:
        return self.manifest.name


def build(manifest: Manifest, graphs: Mapping[str, Graph], styles: Mapping[str, Style]) -> Workflow:
    """Return the workflow with ``choices_from`` filled in and the input ``batch_size``.

    Raises LibraryInvalid with every place where manifest and graphs don't fit each other.
    """
    manifest = manifest.model_copy(
        update={"inputs": tuple(_with_choices(entry, styles) for entry in manifest.inputs)}
    )
    manifest = with_batch_size(manifest)
    problems = [f"workflow {manifest.name}: {problem}" for problem in _problems(manifest, graphs)]
    if problems:
        raise LibraryInvalid(problems)
    return Workflow(manifest, graphs, version_of(content_of(manifest, graphs)))


def content_of(manifest: Manifest, graphs: Mapping[str, Graph]) -> dict[str, Any]:
    """Return the JSON-able form in which a workflow is kept, and of which its version is made.

    Fields that have their default are left out: a field that a later release adds changes no
    version, and an earlier one can read what a later one has kept.
    """
    return {
        "manifest": manifest.model_dump(mode="json", exclude_defaults=True),
        "graphs": dict(graphs),
    }


def _with_choices(entry: Input, styles: Mapping[str, Style]) -> Input:
    if entry.choices_from is None:
        return entry
    choices = tuple(
        Choice(value=style.name, title=style.title, help=style.help, data=style.model_dump())
        for style in styles.values()
    )
    return entry.model_copy(update={"choices": choices})


def version_of(content: Mapping[str, Any]) -> str:
    """Return 16 hex digits that change with ``content``."""
    return hashlib.sha256(orjson.dumps(content, option=orjson.OPT_SORT_KEYS)).hexdigest()[:16]


def _problems(manifest: Manifest, graphs: Mapping[str, Graph]) -> Iterator[str]:
    names = [entry.name for entry in manifest.inputs]
    yield from (f"two inputs are named {name}" for name in _twice(names))
    yield from (
        f"two variants are named {name}" for name in _twice([v.name for v in manifest.variants])
    )
    for entry in manifest.inputs:
        for field, value in (("default", entry.default), ("example", entry.example)):
            if value is None or (entry.type == "seed" and value == -1):
                continue
            try:
                normalise(entry, value)
            except InputProblem as problem:
                yield f"the {field} of {entry.name} {problem.problem}"
    for variant in manifest.variants:
        problems = _variant_problems(variant, graphs[variant.name], manifest)
        yield from (f"variant {variant.name}: {problem}" for problem in problems)


def _variant_problems(variant: Variant, graph: Graph, manifest: Manifest) -> Iterator[str]:
    for name, targets in variant.targets.items():
        if manifest.input(name) is None:
            yield f"there are targets for {name}, which is no input"
        for target in targets:
            if target.node not in graph:
                yield f"{name} goes to node {target.node}, which is not in {variant.graph}"
            elif target.input not in graph[target.node]["inputs"]:
                yield f"{name} goes to {target.input} of node {target.node}, which lacks it"
            for path in placeholders(target.template or ""):
                problem = _placeholder_problem(path, manifest)
                if problem:
                    yield f"the template of {name} names {problem}"
    for output in variant.outputs:
        if output.node not in graph:
            yield f"node {output.node} is an output and not in {variant.graph}"


def _placeholder_problem(path: tuple[str, ...], manifest: Manifest) -> str | None:
    name, *keys = path
    entry = manifest.input(name)
    if entry is None:
        return f"{name}, which is no input"
    for choice in entry.choices if keys else ():
        part: Any = choice.data
        for key in keys:
            part = part.get(key) if isinstance(part, Mapping) else None
        if part is None:
            return f"{'.'.join(path)}, which the choice {choice.value} does not have"
    return None


def _twice(names: Sequence[str]) -> list[str]:
    return sorted({name for name in names if names.count(name) > 1})
