"""A graph sent in place of a workflow's name, run by the same means as a named one."""

from collections.abc import Mapping
from typing import Any, Final

from atelier.comfy.object_info import ObjectInfo
from atelier.workflows.derive import derive, place_of
from atelier.workflows.formats import graph_of
from atelier.workflows.graph import Graph
from atelier.workflows.manifest import Input, Manifest, Target, Variant
from atelier.workflows.requirement import GRAPH_VARIANT
from atelier.workflows.values import image_ref
from atelier.workflows.workflow import Workflow, version_of

NAME: Final = "inline"

# Inputs of core nodes whose text names a file of the instance: a URL there is a picture to bring.
IMAGE_INPUTS: Final = frozenset({("LoadImage", "image"), ("LoadImageMask", "image")})


def inline(body: Any, inputs: Mapping[str, Any], object_info: ObjectInfo | None = None) -> Workflow:
    """Return the graph ``body`` as a workflow with the inputs that ``inputs`` names.

    A key is ``NODE.INPUT``, taken as it is, or a word for what is found in the graph (``prompt``,
    ``seed``, ``image_url``), taken as of that kind. Besides, every picture that the graph itself
    gives by URL or asset is an input, with that picture as its default. Everything else, seeds
    too, stays as the graph has it, and every node that delivers counts. Raises GraphMalformed, or
    InputsInvalid with all keys that name nothing in the graph.
    """
    graph = graph_of(body, object_info)
    exact = {key: place_of(key, graph) for key in inputs}
    places = {key: place for key, place in exact.items() if place is not None}
    # Without object_info: planned at one instance and run at another, it must come out the same.
    words = derive(NAME, graph, [key for key, place in exact.items() if place is None])
    targets = dict(words.variants[0].targets)
    given = {(target.node, target.input) for at in targets.values() for target in at}
    given |= set(places.values())
    entries = list(words.inputs)
    entries += [_input(key, graph, place, inputs[key], None) for key, place in places.items()]
    for node_id, node in graph.items():
        for name, value in node["inputs"].items():
            if (node_id, name) not in given and _is_image(node["class_type"], name, value):
                key = f"{node_id}.{name}"
                places[key] = (node_id, name)
                entries.append(_input(key, graph, places[key], value, image_ref(value)))
    targets |= {key: (Target(node=at, input=name),) for key, (at, name) in places.items()}
    variant = Variant(name=GRAPH_VARIANT, kind="custom", graph="inline", targets=targets)
    manifest = Manifest(name=NAME, title="Graph", inputs=tuple(entries), variants=(variant,))
    return Workflow(manifest, {GRAPH_VARIANT: graph}, version_of(graph))


def _input(key: str, graph: Graph, place: tuple[str, str], value: Any, default: Any) -> Input:
    class_type = graph[place[0]]["class_type"]
    kind = "image" if _is_image(class_type, place[1], value) else "any"
    return Input.model_validate({"name": key, "type": kind, "default": default})


def _is_image(class_type: str, name: str, value: Any) -> bool:
    if isinstance(value, str) and (class_type, name) not in IMAGE_INPUTS:
        return False
    return image_ref(value) is not None
