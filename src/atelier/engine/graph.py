"""Links and order in a prompt's graph."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeAlias

from atelier.engine.nodes import NODES, NodeClass

Graph: TypeAlias = Mapping[str, Mapping[str, Any]]


def node_class(graph: Graph, node_id: str) -> NodeClass:
    return NODES[graph[node_id]["class_type"]]


def is_link(value: Any) -> bool:
    """Return whether an input's value is ``[node id, output number]``."""
    return (
        isinstance(value, list)
        and len(value) == 2
        and isinstance(value[0], str)
        and isinstance(value[1], int)
    )


def upstream(graph: Graph, node_id: str) -> Iterator[str]:
    """Yield the nodes that ``node_id`` takes a declared input from; one may come twice."""
    given = graph[node_id].get("inputs")
    if not isinstance(given, dict):
        return
    for name in node_class(graph, node_id).inputs:
        value = given.get(name)
        if isinstance(value, list) and is_link(value) and value[0] in graph:
            yield value[0]


def sorted_by_need(graph: Graph, roots: list[str]) -> tuple[list[str], set[str]]:
    """Return ``roots`` and all that they need, needed ones first, and who is on a cycle.

    Without recursion: a chain may have any length.
    """
    done: dict[str, None] = {}
    open_nodes: dict[str, None] = {}
    on_cycle: set[str] = set()
    for root in roots:
        stack = [(root, upstream(graph, root))] if root not in done else []
        open_nodes = dict.fromkeys([root] if stack else [])
        while stack:
            node_id, rest = stack[-1]
            for needed in rest:
                if needed in open_nodes:
                    path = list(open_nodes)
                    on_cycle.update(path[path.index(needed) :])
                elif needed not in done:
                    open_nodes[needed] = None
                    stack.append((needed, upstream(graph, needed)))
                    break
            else:
                stack.pop()
                del open_nodes[node_id]
                done[node_id] = None
    return list(done), on_cycle


class Plan:
    """Hands out a prompt's nodes in ComfyUI's order: what shows the user something soon, first."""

    def __init__(self, graph: Graph, outputs: list[str], is_cached: Callable[[str], bool]) -> None:
        self._graph = graph
        self._is_cached = is_cached
        self._needs: dict[str, set[str]] = {}  # by node still to run, in the order of adding
        self._serves: dict[str, dict[str, None]] = {}
        for node_id in outputs:
            self._add(node_id)

    def _add(self, root: str) -> None:
        waiting = [root]
        while waiting:
            node_id = waiting.pop()
            if node_id in self._needs:
                continue
            taken_from = dict.fromkeys(upstream(self._graph, node_id))
            needed = [other for other in taken_from if not self._is_cached(other)]
            self._needs[node_id] = set(needed)
            self._serves.setdefault(node_id, {})
            for other in needed:
                self._serves.setdefault(other, {})[node_id] = None
            waiting.extend(needed)

    @property
    def nodes(self) -> list[str]:
        """The nodes still to run, and cached outputs still to be told about."""
        return list(self._needs)

    def next(self) -> str | None:
        """Return the node to run now; None when all have."""
        ready = [node_id for node_id, needs in self._needs.items() if not needs]
        if not ready:
            return None
        for distance in range(3):
            for node_id in ready:
                if self._leads_to_output(node_id, distance):
                    return node_id
        return ready[0]

    def finish(self, node_id: str) -> None:
        """Take ``node_id`` off the plan; what waited for it may run."""
        del self._needs[node_id]
        for other in self._serves.pop(node_id):
            self._needs[other].discard(node_id)

    def _leads_to_output(self, node_id: str, distance: int) -> bool:
        if distance == 0:
            return node_class(self._graph, node_id).output_node
        return any(
            self._leads_to_output(other, distance - 1) for other in self._serves.get(node_id, ())
        )
