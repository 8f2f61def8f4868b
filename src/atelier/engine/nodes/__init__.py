"""The node classes, one file per family; ``NODES`` has them all by name."""

from collections.abc import Mapping
from typing import Final

from atelier.engine.nodes import (
    animation,
    arranging,
    blending,
    compositing,
    filters,
    loading,
    masks,
    moving,
    primitives,
    retouching,
    saving,
    scaling,
    sketching,
    stylising,
    transform,
    video,
)
from atelier.engine.nodes.node import NodeClass

_FAMILIES = (
    loading,
    saving,
    transform,
    scaling,
    filters,
    compositing,
    masks,
    primitives,
    stylising,
    arranging,
    retouching,
    blending,
    sketching,
    moving,
    video,
    animation,
)

NODES: Final[Mapping[str, NodeClass]] = {
    node.name: node for family in _FAMILIES for node in family.NODES
}

__all__ = ["NODES", "NodeClass"]
