"""Results of nodes, kept between prompts for as long as nothing that they depend on changes."""

import hashlib
import secrets
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from atelier.comfy.protocol import dump_json
from atelier.engine.folders import Folders
from atelier.engine.graph import Graph, is_link, node_class, sorted_by_need

Signature: TypeAlias = str
_OVERHEAD_BYTES = 1024


@dataclass(frozen=True, slots=True)
class Result:
    """What a node returned: its outputs, and what it told the client (or None)."""

    values: tuple[Any, ...]
    ui: Mapping[str, Any] | None
    size_bytes: int = field(init=False)

    def __post_init__(self) -> None:
        sizes = (getattr(value, "nbytes", 0) for value in self.values)
        object.__setattr__(self, "size_bytes", _OVERHEAD_BYTES + sum(sizes))


class ResultCache:
    """Keeps the results that were used last, up to ``max_bytes``."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._results: OrderedDict[Signature, Result] = OrderedDict()
        self.size_bytes = 0

    def get(self, signature: Signature) -> Result | None:
        result = self._results.get(signature)
        if result is not None:
            self._results.move_to_end(signature)
        return result

    def put(self, signature: Signature, result: Result) -> None:
        """Keep ``result`` unless it alone is past the limit; the least recently used go."""
        if result.size_bytes > self._max_bytes:
            return
        if (replaced := self._results.pop(signature, None)) is not None:
            self.size_bytes -= replaced.size_bytes
        self._results[signature] = result
        self.size_bytes += result.size_bytes
        while self.size_bytes > self._max_bytes:
            _, dropped = self._results.popitem(last=False)
            self.size_bytes -= dropped.size_bytes

    def clear(self) -> None:
        self._results.clear()
        self.size_bytes = 0


def signatures(graph: Graph, folders: Folders) -> dict[str, Signature]:
    """Return for each node a hash of all that its result depends on, files' contents included.

    The node's own id is no part of it: two nodes that do the same share one result, as in
    ComfyUI. What can't be told (a file that is gone, a cycle) gets one that never comes again.
    """
    order, on_cycle = sorted_by_need(graph, list(graph))
    signed: dict[str, Signature] = {}
    for node_id in order:
        node, given = node_class(graph, node_id), graph[node_id].get("inputs")
        if node_id in on_cycle or not isinstance(given, dict):
            signed[node_id] = secrets.token_hex(16)
            continue
        parts: list[Any] = [node.name]
        constants: dict[str, Any] = {}
        for name in sorted(node.inputs.keys() & given.keys()):
            value = given[name]
            if is_link(value):
                source = signed.get(value[0]) or secrets.token_hex(16)
                parts.append([name, source, value[1]])
            else:
                constants[name] = value
        if node.fingerprint is not None:
            try:
                parts.append(node.fingerprint(folders, **constants))
            except (OSError, TypeError, ValueError, AttributeError):
                parts.append(secrets.token_hex(16))
        parts.append(constants)
        signed[node_id] = hashlib.blake2b(dump_json(parts), digest_size=16).hexdigest()
    return signed
