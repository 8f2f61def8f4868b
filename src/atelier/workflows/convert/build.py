"""Puts every subgraph in its place: from a document to a tree of scopes."""

from collections.abc import Mapping
from typing import Final

from atelier.comfy.object_info import ObjectInfo
from atelier.workflows.check import Problem
from atelier.workflows.convert.editor import Document, EditorGraph
from atelier.workflows.convert.scopes import Role, Scope, role_of
from atelier.workflows.convert.widgets import Face, face_of, guessed_face

# More than any graph that people draw; a few subgraphs within each other could make billions.
MOST_NODES: Final = 20_000
MOST_LEVELS: Final = 40


class Builder:
    def __init__(
        self,
        document: Document,
        subgraphs: Mapping[str, EditorGraph],
        object_info: ObjectInfo,
        problems: list[Problem],
    ) -> None:
        self._document = document
        self._subgraphs = subgraphs
        self._object_info = object_info
        self._problems = problems
        self._known: dict[int, tuple[dict[str, Role], dict[str, Face]]] = {}
        self._left = MOST_NODES

    def build(self) -> Scope:
        """The whole graph. What can't be put in its place is told in the problems."""
        scope = self._scope(self._document.root, (), None, None)
        if self._left < 0:
            message = f"With all subgraphs in place there are more than {MOST_NODES} nodes."
            self._problems.append(Problem("", "", "", "malformed", message))
        return scope

    def _scope(
        self, graph: EditorGraph, within: tuple[str, ...], parent: Scope | None, at: str | None
    ) -> Scope:
        roles, faces = self._read(graph)
        instance = parent.graph.nodes[at] if parent is not None and at is not None else None
        scope = Scope(graph, roles, faces, instance, parent)
        for node in graph.nodes.values():
            if roles[node.id] != "subgraph":
                continue
            inner = self._subgraphs[node.type]
            self._left -= len(inner.nodes) + 1
            if node.type in within or len(within) >= MOST_LEVELS:
                self._problems.append(_endless(scope.path + node.id, node.type, inner))
                inner = EditorGraph({}, {}, inner.name, inner.inputs, inner.outputs)
            elif self._left < 0:
                inner = EditorGraph({}, {}, inner.name, inner.inputs, inner.outputs)
            scope.inner[node.id] = self._scope(inner, (*within, node.type), scope, node.id)
        return scope

    def _read(self, graph: EditorGraph) -> tuple[dict[str, Role], dict[str, Face]]:
        """Roles and faces of a definition's nodes: the same wherever it is used."""
        if id(graph) in self._known:
            return self._known[id(graph)]
        roles: dict[str, Role] = {}
        faces: dict[str, Face] = {}
        for node in graph.nodes.values():
            role = role_of(node, self._object_info.classes.__contains__, self._subgraphs)
            roles[node.id] = role
            info = self._object_info.node(node.type)
            if role != "node":
                continue
            face = face_of(node, info) if info is not None else guessed_face(node)
            if face is not None:
                faces[node.id] = face
        self._known[id(graph)] = roles, faces
        return roles, faces


def _endless(node: str, kind: str, graph: EditorGraph) -> Problem:
    name = graph.name or kind
    return Problem(node, kind, "", "cycle", f"Node {node}: the subgraph {name} contains itself.")
