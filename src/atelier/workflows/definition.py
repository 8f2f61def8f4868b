"""A workflow as somebody hands it in: a graph alone, with names of inputs, or with a manifest."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from pydantic import ValidationError

from atelier.comfy.object_info import ObjectInfo
from atelier.errors import WorkflowError
from atelier.workflows.check import check_links
from atelier.workflows.convert import ConversionFailed
from atelier.workflows.derive import GRAPH_FILE, derive
from atelier.workflows.formats import graph_of
from atelier.workflows.graph import Graph, GraphMalformed
from atelier.workflows.inline import NAME as INLINE
from atelier.workflows.manifest import Manifest
from atelier.workflows.problem import InputsInvalid

_PARTS: Final = ("graph", "graphs", "workflow", "manifest")
_ABOUT: Final = ("title", "help", "category", "icon")
# What GET tells besides: may be sent back, and says nothing.
_TOLD: Final = frozenset(
    {"name", "version", "number", "origin", "created_at", "input_schema", "runnable", "variant"}
    | {"missing", "checks", "variants", "example"}
)


# What would mean something else in an address, or in the documents.
_NAME: Final = re.compile(r"[^\W_][^/\\{}?#%]{0,99}")
NAME_RULE: Final = (
    "Begin with a letter or digit; at most 100 characters, no / \\ { } ? # %, no two dots in a row."
)


class DefinitionInvalid(WorkflowError):
    """What was handed in is no workflow; ``data["problems"]`` says all that is wrong with it."""

    code = "WORKFLOW_VALIDATION_ERROR"
    default_hint = (
        "Send a graph in the API format, {graph, manifest}, or {workflow, inputs: [names]}."
    )

    def __init__(self, name: str, problems: Sequence[str]) -> None:
        super().__init__(
            f"{name} can't be registered: {'; '.join(problems)}.", problems=list(problems)
        )
        self.problems = tuple(problems)


@dataclass(frozen=True, slots=True, eq=False)
class Definition:
    """A manifest with its graphs by variant, before both are made sure to fit."""

    manifest: Manifest
    graphs: Mapping[str, Graph]


def define(name: str, body: Any, object_info: ObjectInfo | None = None) -> Definition:
    """Return what ``body`` defines under ``name``.

    ``body`` is a graph; ``{"graph": ..., "manifest": ...}``, where ``workflow`` is another word
    for ``graph`` and ``graphs`` has one for each variant; or ``{"workflow": ..., "inputs":
    [names]}``. Raises DefinitionInvalid with all problems.
    """
    if not is_wrapped(body):
        return described(name, {}, {GRAPH_FILE: body}, object_info)
    problems = [
        f"{key} is not a known field (there are {', '.join((*_PARTS, 'inputs', *_ABOUT))})"
        for key in body
        if key not in (*_PARTS, "inputs", *_ABOUT) and key not in _TOLD
    ]
    manifest = body.get("manifest") or {}
    if not isinstance(manifest, Mapping):
        problems.append("manifest is not an object")
        manifest = {}
    graphs = body.get("graphs")
    if graphs is None:
        graph = body.get("graph", body.get("workflow"))
        if graph is None:
            problems.append("there is no graph")
        graphs = {} if graph is None else {GRAPH_FILE: graph}
    if not isinstance(graphs, Mapping):
        problems.append("graphs is not an object of a graph for each variant")
        graphs = {}
    if problems:
        raise DefinitionInvalid(name, problems)
    about = {key: body[key] for key in ("inputs", *_ABOUT) if body.get(key) not in (None, "")}
    return described(name, {**about, **manifest, "name": name}, graphs, object_info)


def described(
    name: str,
    about: Mapping[str, Any],
    graphs: Mapping[str, Any],
    object_info: ObjectInfo | None = None,
) -> Definition:
    """Return the workflow that a manifest describes, which need not have more than it wants to say.

    ``about`` without ``variants`` is completed from the one graph: ``inputs`` are names, or
    objects with a name. ``graphs`` go by variant or by file. Raises DefinitionInvalid.
    """
    problems: list[str] = []
    read: dict[str, Graph] = {}
    for key, graph in graphs.items():
        try:
            read[key] = graph_of(graph, object_info)
            problems += [problem.message.rstrip(".") for problem in check_links(read[key])]
        except GraphMalformed as error:
            where = "" if len(graphs) == 1 else f"{key}: "
            problems += [f"{where}{problem}" for problem in error.problems]
        except ConversionFailed as error:
            where = "" if len(graphs) == 1 else f"{key}: "
            problems += [f"{where}{problem.message.rstrip('.')}" for problem in error.problems]
    manifest = None
    try:
        if "variants" in about:
            manifest = Manifest.model_validate({"title": name, **about, "name": name})
        elif len(read) == 1:
            manifest = _completed(name, about, next(iter(read.values())), object_info)
        elif len(graphs) != 1:
            problems.append("a manifest without variants goes with one graph")
    except InputsInvalid as error:
        problems += [f"{problem.input} {problem.problem}" for problem in error.problems]
    except ValidationError as error:
        problems += explained(error)
    if manifest is None or problems:
        raise DefinitionInvalid(name, problems)
    return Definition(manifest, _by_variant(manifest, read))


def is_name(name: str) -> bool:
    """True if a workflow can be called so, in every script, and ``inline`` is not meant."""
    usable = _NAME.fullmatch(name) is not None and name.isprintable() and name == name.strip()
    return usable and ".." not in name and name != INLINE


def explained(error: ValidationError) -> list[str]:
    """Return pydantic's findings as a sentence each: where, and what."""
    return [
        f"{'.'.join(map(str, detail['loc'])) or 'manifest'}: "
        f"{str(detail['msg']).removeprefix('Value error, ')}"
        for detail in error.errors(include_url=False)
    ]


def is_wrapped(body: Any) -> bool:
    """True for a graph that comes with more than itself."""
    if not isinstance(body, Mapping):
        return False
    # A node may have any id, these words too.
    return any(
        key in body and not (isinstance(body[key], Mapping) and "class_type" in body[key])
        for key in _PARTS
    )


def _completed(
    name: str, about: Mapping[str, Any], graph: Graph, object_info: ObjectInfo | None
) -> Manifest:
    wanted = about.get("inputs")
    if wanted is not None and not _are_names(wanted):
        raise DefinitionInvalid(
            name, ["inputs is a list of names, or of objects that have a name and no targets"]
        )
    made = derive(name, graph, wanted, object_info=object_info)
    said = {key: value for key, value in about.items() if key != "inputs"}
    return Manifest.model_validate({**made.model_dump(), **said, "name": name})


def _are_names(wanted: Any) -> bool:
    return (
        isinstance(wanted, Sequence)
        and not isinstance(wanted, str)
        and all(isinstance(one, str | Mapping) for one in wanted)
    )


def _by_variant(manifest: Manifest, graphs: Mapping[str, Graph]) -> dict[str, Graph]:
    """The graph of each variant; variants of one file share it, missing ones stay away."""
    found = {}
    for variant in manifest.variants:
        graph = graphs.get(variant.name, graphs.get(variant.graph))
        if graph is None and len(graphs) == 1 and len(manifest.variants) == 1:
            graph = next(iter(graphs.values()))
        if graph is not None:
            found[variant.name] = graph
    missing = [one.name for one in manifest.variants if one.name not in found]
    if missing:
        raise DefinitionInvalid(
            manifest.name, [f"there is no graph for the variant {one}" for one in missing]
        )
    return found
