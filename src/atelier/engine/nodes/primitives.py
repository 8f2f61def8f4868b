"""Nodes that hold a value, and one that shows any."""

import json
import sys
from typing import Any

from atelier.engine.nodes.node import Input, NodeClass, Output

_CATEGORY = "utils/primitive"
_MODULE = "comfy_extras.nodes_primitive"


def _value(value: Any) -> Output:
    return Output(value)


def _show(source: Any = None) -> Output:
    if isinstance(source, str):
        text = source
    elif source is None or isinstance(source, bool | int | float):
        text = str(source)
    else:
        try:
            text = json.dumps(source)
        except (TypeError, ValueError):
            text = str(source)
    return Output(ui={"text": [text]})


def _primitive(name: str, display_name: str, kind: str, **options: Any) -> NodeClass:
    return NodeClass(
        name=name,
        display_name=display_name,
        category=_CATEGORY,
        module=_MODULE,
        schema=3,
        required={"value": Input(kind, options)},
        outputs=(kind,),
        run=_value,
    )


NODES = (
    _primitive(
        "PrimitiveInt",
        "Int",
        "INT",
        min=-sys.maxsize,
        max=sys.maxsize,
        control_after_generate=True,
    ),
    _primitive("PrimitiveFloat", "Float", "FLOAT", min=-sys.maxsize, max=sys.maxsize),
    _primitive("PrimitiveString", "String", "STRING", multiline=False),
    _primitive("PrimitiveStringMultiline", "String (Multiline)", "STRING", multiline=True),
    _primitive("PrimitiveBoolean", "Boolean", "BOOLEAN"),
    NodeClass(
        name="PreviewAny",
        display_name="Preview Any",
        category="utils",
        module="comfy_extras.nodes_preview_any",
        required={"source": Input("*", {})},
        outputs=(),
        output_node=True,
        run=_show,
    ),
)
