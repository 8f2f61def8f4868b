"""Several pictures of one job: what depends on the seed stands in the graph once for each. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from atelier.workflows.graph import Graph, is_link, links, output_nodes
from atelier.workflows.manifest import Input, Manifest
from atelier.workflows.values import seed_range

MOST: Final = 4
_SAVED_AS: Final = "filename_prefix"  # of all core nodes that save

BATCH_SIZE: Final = Input(
    name="batch_size",
    type="integer",
    min=1,
    max=MOST,
    title={"en": "Pictures", "zh-Hans": "图片数量", "zh-Hant": "圖片數量"},
    help={
        "en": "How many pictures are made, each with the next seed. Left out, one.",
        "zh-Hans": "生成的图片数量，每张依次使用下一个种子。留空则为一张。",
        "zh-Hant": "產生的圖片數量，每張依序使用下一個種子。留空則為一張。",
    },
)


def with_batch_size(manifest: Manifest) -> Manifest:
    """``manifest``, with the input ``batch_size`` unless it has one of that name."""
    if manifest.input(BATCH_SIZE.name) is not None:
        return manifest
    return manifest.model_copy(update={"inputs": (*manifest.inputs, BATCH_SIZE)})


def copies(manifest: Manifest, variant: str, inputs: Mapping[str, Any]) -> int:
    """How often the graph of ``variant`` has to do its work; 1 where it makes several itself."""
    if manifest.variant(variant).targets.get(BATCH_SIZE.name):
        return 1
    number = inputs.get(BATCH_SIZE.name)
    return number if isinstance(number, int) and number > 1 else 1


def repeat(graph: Graph, manifest: Manifest, variant: str, inputs: Mapping[str, Any]) -> Graph:
    """``graph``, which is bound, with all that depends on a seed in as many copies as are asked.

    The copies have the seeds that follow, and share what doesn't depend on one (a model is loaded
    once). The nodes whose results count are copied in any case: where nothing is drawn by lot,
    the pictures are equal.
    """
    number = copies(manifest, variant, inputs)
    if number == 1:
        return graph
    seeds = _seeds(graph, manifest, variant)
    again = _downstream(graph, [node for node, _ in seeds])
    again |= set(results(graph, manifest, variant, {}) or output_nodes(graph))
    repeated = dict(graph)
    for place in range(1, number):
        for node in graph:
            if node not in again:
                continue
            copied: dict[str, Any] = {
                name: [copy_of(graph, value[0], place), value[1]]
                if is_link(value) and value[0] in again
                else value
                for name, value in graph[node]["inputs"].items()
            }
            for name in copied.keys() & {name for seeded, name in seeds if seeded == node}:
                low, high = seed_range(seeds[node, name])
                copied[name] = low + (copied[name] - low + place) % (high - low + 1)
            # ComfyUI runs equal nodes once, and a file is one result, whoever names it.
            if isinstance(prefix := copied.get(_SAVED_AS), str):
                copied[_SAVED_AS] = f"{prefix}_{place + 1}"
            repeated[copy_of(graph, node, place)] = {**graph[node], "inputs": copied}
    return repeated


def results(
    graph: Graph, manifest: Manifest, variant: str, inputs: Mapping[str, Any]
) -> tuple[str, ...]:
    """The nodes whose results count, in the order of the pictures; empty: all that deliver."""
    nodes = [output.node for output in manifest.variant(variant).outputs]
    number = copies(manifest, variant, inputs)
    if not nodes and number > 1:
        nodes = list(graph)  # all count still, but ComfyUI may run them in any order
    return tuple(copy_of(graph, node, place) for place in range(number) for node in nodes)


def copy_of(graph: Graph, node: str, place: int) -> str:
    """The id of the copy at ``place`` (0 is the node itself), one that ``graph`` doesn't have."""
    if place == 0:
        return node
    name = f"{node}-{place + 1}"
    while name in graph:
        name += "'"
    return name


def _seeds(graph: Graph, manifest: Manifest, variant: str) -> dict[tuple[str, str], Input]:
    """Where in the graph a seed stands as a number."""
    targets = manifest.variant(variant).targets
    return {
        (target.node, target.input): entry
        for entry in manifest.inputs
        if entry.type == "seed"
        for target in targets.get(entry.name, ())
        if type(graph.get(target.node, {}).get("inputs", {}).get(target.input)) is int
    }


def _downstream(graph: Graph, starts: Sequence[str]) -> set[str]:
    """``starts`` and all nodes that depend on them."""
    takers: dict[str, list[str]] = {}
    for link in links(graph):
        takers.setdefault(link.source, []).append(link.node)
    found: set[str] = set()
    waiting = list(starts)
    while waiting:
        node = waiting.pop()
        if node not in found:
            found.add(node)
            waiting += takers.get(node, ())
    return found
