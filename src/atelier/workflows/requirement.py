"""What a job needs of an instance, and whether an instance has it. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, Final

from atelier.comfy.model_key import names_model
from atelier.comfy.object_info import ObjectInfo, model_folder
from atelier.errors import InvalidRequest
from atelier.workflows.bind import without_left_out
from atelier.workflows.graph import Graph, class_types
from atelier.workflows.inputs import defaults
from atelier.workflows.manifest import Input, Manifest, Variant
from atelier.workflows.nearest import listed, nearest
from atelier.workflows.needs import Needs, fits, rank
from atelier.workflows.workflow import Workflow

GRAPH_VARIANT: Final = "graph"  # what the one alternative of a bare graph is called


@dataclass(frozen=True, slots=True)
class ModelNeed:
    """A model file that a loader must offer: ``name``, or any where that is None.

    ``folder`` is empty where it isn't known which folder the loader reads. ``match`` are patterns
    of the files that do in place of ``name``, or that alone do where there is no name.
    """

    class_type: str
    input: str
    folder: str
    name: str | None
    prefer: tuple[str, ...] = ()
    match: tuple[str, ...] = ()

    def best_of(self, files: Sequence[str]) -> str | None:
        """Return the file to use of those that the loader offers, None where none will do."""
        if self.name is not None and (self.name in files or not self.match):
            return self.name if self.name in files else None
        ranked = [(place, file) for file in files if (place := rank(file, self.match)) is not None]
        if not ranked:
            return None
        if not self.prefer:
            return min(ranked, key=lambda one: one[0])[1]
        return best_model([file for _, file in ranked], self.prefer)


@dataclass(frozen=True, slots=True)
class Alternative:
    """One way to do the job: everything here must be there."""

    variant: str
    classes: frozenset[str]
    models: tuple[ModelNeed, ...] = ()


class NoVariantFits(InvalidRequest):
    """No variant of the workflow takes these inputs together."""

    code = "NO_VARIANT_FITS"


def requirements(
    workflow: Workflow | Graph, inputs: Mapping[str, Any] | None = None
) -> tuple[Alternative, ...]:
    """Return the ways to run ``workflow`` with ``inputs``, in order of preference.

    These are the variants that use every model, picture and other input that decides, or the one
    that the caller chose. Without ``inputs`` they are all of them, with what is there by default.
    Raises NoVariantFits.
    """
    if not isinstance(workflow, Workflow):
        needs = tuple(_named_models(workflow, frozenset(), Needs()))
        return (Alternative(GRAPH_VARIANT, class_types(workflow), needs),)
    variants = workflow.manifest.variants
    if inputs is not None:
        reasons = {one.name: _unfit(one, workflow.manifest, inputs) for one in variants}
        variants = tuple(one for one in variants if reasons[one.name] is None)
        if not variants:
            raise NoVariantFits(
                f"No variant of {workflow.name} takes these inputs: "
                + "; ".join(f"{name} {reason}" for name, reason in reasons.items())
                + ".",
                hint="Leave out an input, or choose the variant whose inputs you give.",
                reasons=reasons,
            )
    given = defaults(workflow.manifest) if inputs is None else inputs
    return tuple(_alternative(workflow, variant, given) for variant in variants)


def _unfit(variant: Variant, manifest: Manifest, inputs: Mapping[str, Any]) -> str | None:
    """Why the variant is not for these inputs, completing a sentence that begins with its name."""
    given = [entry for entry in manifest.inputs if inputs.get(entry.name) is not None]
    chosen = [inputs[entry.name] for entry in given if entry.choices_from == "variants"]
    if chosen:
        return None if variant.name in chosen else "is not the one chosen"
    for name in variant.requires:
        if inputs.get(name) is None:
            return f"needs {name}"
    for entry in given:
        decides = entry.decides or entry.type in ("model", "image", "mask")
        if decides and entry.name not in variant.targets:
            return f"makes no use of {entry.name}"
        file = variant.needs.chosen_by(entry.name)
        if entry.type == "model" and file is not None and not fits(inputs[entry.name], file.match):
            return f"takes models like {file.file}"
    return None


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
        if need.best_of(files) is not None:
            continue
        if need.name is None:
            kind = f" like {' or '.join(_wanted(need.match))}" if _wanted(need.match) else ""
            missing.append(f"any model in {where}{kind}")
        else:
            there = listed(nearest(need.name, files, limit=5), len(files))
            missing.append(f"the model {need.name} in {where} (there: {there})")
    return missing


def resolve_models(
    manifest: Manifest, variant: Variant, inputs: Mapping[str, Any], object_info: ObjectInfo
) -> dict[str, Any]:
    """Return ``inputs`` with every model that was left out chosen from what the instance has.

    Where the instance has none that does, or the variant uses none, the model stays left out.
    """
    resolved = dict(inputs)
    for entry in manifest.inputs:
        if entry.type == "model" and entry.name in variant.targets and not inputs.get(entry.name):
            need = _input_need(entry, variant, None, ("", ""))
            best = need.best_of(object_info.model_files(need.folder))
            if best is not None:
                resolved[entry.name] = best
    return resolved


def fit_models(graph: Graph, variant: Variant, object_info: ObjectInfo) -> Graph:
    """Return ``graph`` with each file that the instance lacks replaced by one that does as well.

    What has no replacement stays.
    """
    fitted = dict(graph)
    for node_id, node in graph.items():
        for name, value in node["inputs"].items():
            need = _named_model(node["class_type"], name, value, variant.needs)
            if need is None or not need.match:
                continue
            best = need.best_of(object_info.choices(need.class_type, name))
            if best is not None:
                inputs = {**fitted[node_id]["inputs"], name: best}
                fitted[node_id] = {**node, "inputs": inputs}
    return fitted


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


def _alternative(workflow: Workflow, variant: Variant, inputs: Mapping[str, Any]) -> Alternative:
    graph = without_left_out(workflow.graphs[variant.name], variant, inputs)
    written = {(t.node, t.input) for targets in variant.targets.values() for t in targets}
    needs = []
    for entry in workflow.manifest.inputs:
        value = inputs.get(entry.name) or None
        for target in variant.targets.get(entry.name, ()):
            if target.node not in graph:
                continue
            loader = graph[target.node]["class_type"], target.input
            if entry.type == "model":
                needs.append(_input_need(entry, variant, value, loader))
            elif entry.type == "any" and names_model(*loader, value):
                needs.append(ModelNeed(*loader, model_folder(*loader) or "", value))
    needs += _named_models(graph, frozenset(written), variant.needs)
    return Alternative(variant.name, class_types(graph), tuple(needs))


def _input_need(
    entry: Input, variant: Variant, value: str | None, loader: tuple[str, str]
) -> ModelNeed:
    file = variant.needs.chosen_by(entry.name)
    folder = file.folder if file is not None else entry.folder or ""
    # A file that the caller names is taken as it is: whether it fits was asked before.
    match = file.match if file is not None and value is None else ()
    return ModelNeed(*loader, folder, value, entry.prefer, match)


def _named_models(
    graph: Graph, written: frozenset[tuple[str, str]], needs: Needs
) -> Iterator[ModelNeed]:
    for node_id, node in graph.items():
        for name, value in node["inputs"].items():
            need = _named_model(node["class_type"], name, value, needs)
            if (node_id, name) not in written and need is not None:
                yield need


def _named_model(class_type: str, name: str, value: object, needs: Needs) -> ModelNeed | None:
    if not isinstance(value, str) or not names_model(class_type, name, value):
        return None
    folder = model_folder(class_type, name) or ""
    file = needs.named(folder, value) or next(
        (model for model in needs.models if not folder and model.file == value), None
    )
    return ModelNeed(
        class_type,
        name,
        file.folder if file is not None else folder,
        value,
        match=file.match if file is not None else (),
    )


def _wanted(match: Sequence[str]) -> list[str]:
    return [pattern for pattern in match if not pattern.startswith("!")]
