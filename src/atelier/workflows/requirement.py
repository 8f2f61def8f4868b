"""What a job needs of an instance, and whether an instance has it. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, Final

from atelier.comfy.object_info import ObjectInfo, model_folder
from atelier.workflows.graph import Graph, class_types
from atelier.workflows.manifest import Manifest, Variant
from atelier.workflows.nearest import listed, nearest
from atelier.workflows.workflow import Workflow

GRAPH_VARIANT: Final = "graph"  # what the one alternative of a bare graph is called
_MODEL_SUFFIXES: Final = (".safetensors", ".ckpt", ".pt", ".pt2", ".pth", ".bin", ".sft", ".gguf")


@dataclass(frozen=True, slots=True)
class ModelNeed:
    """A model file that a loader must offer: ``name``, or any where that is None.

    ``folder`` is empty where it isn't known which folder the loader reads.
    """

    class_type: str
    input: str
    folder: str
    name: str | None
    prefer: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Alternative:
    """One way to do the job: everything here must be there."""

    variant: str
    classes: frozenset[str]
    models: tuple[ModelNeed, ...] = ()


def requirements(
    workflow: Workflow | Graph, inputs: Mapping[str, Any] | None = None
) -> tuple[Alternative, ...]:
    """Return the ways to run ``workflow`` with ``inputs``, in order of preference.

    A model that the caller named leaves only the variants that use it.
    """
    if not isinstance(workflow, Workflow):
        needs = tuple(_named_models(workflow, frozenset()))
        return (Alternative(GRAPH_VARIANT, class_types(workflow), needs),)
    given = inputs or {}
    variants = workflow.manifest.variants
    named = [e.name for e in workflow.manifest.inputs if e.type == "model" and given.get(e.name)]
    using = [variant for variant in variants if all(name in variant.targets for name in named)]
    return tuple(_alternative(workflow, variant, given) for variant in using or variants)


def satisfied(alternative: Alternative, object_info: ObjectInfo) -> list[str]:
    """Return in words what the instance lacks; nothing if it can run ``alternative``."""
    absent = sorted(alternative.classes - object_info.nodes.keys())
    missing = [f"the node {class_type}" for class_type in absent]
    for need in alternative.models:
        node = object_info.node(need.class_type)
        spec = node.inputs.get(need.input) if node is not None else None
        if spec is None or spec.choices is None:
            continue
        files = object_info.choices(need.class_type, need.input)
        where = need.folder or f"{need.class_type}.{need.input}"
        if need.name is None and not files:
            missing.append(f"any model in {where}")
        elif need.name is not None and need.name not in files:
            there = listed(nearest(need.name, files, limit=5), len(files))
            missing.append(f"the model {need.name} in {where} (there: {there})")
    return missing


def resolve_models(
    manifest: Manifest, inputs: Mapping[str, Any], object_info: ObjectInfo
) -> dict[str, Any]:
    """Return ``inputs`` with every model that was left out chosen from what the instance has.

    Where the instance has none, the model stays left out.
    """
    resolved = dict(inputs)
    for entry in manifest.inputs:
        if entry.type == "model" and not resolved.get(entry.name):
            best = best_model(object_info.model_files(entry.folder or ""), entry.prefer)
            if best is not None:
                resolved[entry.name] = best
    return resolved


def best_model(files: Sequence[str], prefer: Sequence[str]) -> str | None:
    """Return the file that matches the earliest pattern, regardless of case.

    Files that match a pattern with a leading ``!`` come last, among equals the first listed wins.
    """
    wanted = [pattern.casefold() for pattern in prefer if not pattern.startswith("!")]
    unwanted = [pattern[1:].casefold() for pattern in prefer if pattern.startswith("!")]

    def rank(file: str) -> tuple[bool, int]:
        name = file.casefold()
        matches = (place for place, pattern in enumerate(wanted) if fnmatchcase(name, pattern))
        avoided = any(fnmatchcase(name, pattern) for pattern in unwanted)
        return avoided, next(matches, len(wanted))

    return min(files, key=rank, default=None)


def names_model(class_type: str, input_name: str, value: object) -> bool:
    """True if a literal at that input is a model file's name, also of a custom node's loader."""
    if not isinstance(value, str):
        return False
    if model_folder(class_type, input_name) is not None:
        return True
    return value.lower().endswith(_MODEL_SUFFIXES) and "\n" not in value


def _alternative(workflow: Workflow, variant: Variant, inputs: Mapping[str, Any]) -> Alternative:
    graph = workflow.graphs[variant.name]
    written = {(t.node, t.input) for targets in variant.targets.values() for t in targets}
    needs = []
    for entry in workflow.manifest.inputs:
        value = inputs.get(entry.name) or None
        for target in variant.targets.get(entry.name, ()):
            loader = graph[target.node]["class_type"], target.input
            if entry.type == "model":
                needs.append(ModelNeed(*loader, entry.folder or "", value, entry.prefer))
            elif entry.type == "any" and names_model(*loader, value):
                needs.append(ModelNeed(*loader, model_folder(*loader) or "", value))
    needs += _named_models(graph, frozenset(written))
    return Alternative(variant.name, class_types(graph), tuple(needs))


def _named_models(graph: Graph, written: frozenset[tuple[str, str]]) -> Iterator[ModelNeed]:
    for node_id, node in graph.items():
        class_type = node["class_type"]
        for name, value in node["inputs"].items():
            if (node_id, name) not in written and names_model(class_type, name, value):
                folder = model_folder(class_type, name) or ""
                yield ModelNeed(class_type, name, folder, value)
