"""The JSON Schema of a workflow's inputs, for the OpenAPI document and for forms."""

from collections.abc import Mapping
from typing import Any

from atelier.workflows.inputs import DRAW
from atelier.workflows.manifest import Input, in_language
from atelier.workflows.values import seed_range
from atelier.workflows.workflow import Workflow


def input_schema(workflow: Workflow, language: str = "en") -> dict[str, Any]:
    """Return a JSON Schema (2020-12) of the object that ``complete`` takes, with an example."""
    inputs = workflow.manifest.inputs
    schema: dict[str, Any] = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "title": in_language(workflow.manifest.title, language),
        "description": in_language(workflow.manifest.help, language),
        "properties": {entry.name: _property(entry, language) for entry in inputs},
        "required": [entry.name for entry in inputs if entry.required and entry.default is None],
        "additionalProperties": False,
    }
    example = {entry.name: entry.example for entry in inputs if entry.example is not None}
    if example and set(schema["required"]) <= example.keys():
        schema["examples"] = [example]
    return schema


def _property(entry: Input, language: str) -> dict[str, Any]:
    described: dict[str, Any] = {
        "title": in_language(entry.title, language) or entry.name,
        "description": _description(entry, language),
    }
    if entry.default is not None:
        described["default"] = entry.default
    if entry.example is not None:
        described["examples"] = [entry.example]
    return {key: value for key, value in described.items() if value != ""} | _type(entry)


def _description(entry: Input, language: str) -> str:
    text = in_language(entry.help, language)
    titles = [
        f"`{choice.value}`: {in_language(choice.title, language)}"
        for choice in entry.choices
        if choice.title is not None
    ]
    return "\n\n".join(part for part in (text, "; ".join(titles)) if part)


def _type(entry: Input) -> dict[str, Any]:
    match entry.type:
        case "text":
            return {"type": "string"} | _bounds(entry, "minLength", "maxLength")
        case "integer":
            return {"type": "integer"} | _bounds(entry)
        case "float":
            return {"type": "number"} | _bounds(entry)
        case "boolean":
            return {"type": "boolean"}
        case "choice":
            return {"enum": [choice.value for choice in entry.choices]} | _same_type(entry)
        case "seed":
            low, high = seed_range(entry)
            return {"type": "integer", "minimum": min(low, DRAW), "maximum": high}
        case "model":
            return {"type": "string"}
        case "size":
            side = {"type": "integer"} | _bounds(entry)
            sides = {"width": side, "height": side}
            return {
                "anyOf": [
                    _object(sides),
                    {"type": "string", "pattern": r"^\s*[0-9]+\s*[xX×]\s*[0-9]+\s*$"},
                ]
            }
        case "image" | "mask":
            address = {"type": "string", "format": "uri"}
            return {
                "anyOf": [
                    {**address, "description": "An http, https or data: URL, or asset:ID"},
                    _object({"url": address}),
                    _object({"asset": {"type": "string", "minLength": 1}}),
                ]
            }
        case "any":
            return {}


def _same_type(entry: Input) -> dict[str, Any]:
    kinds = {type(choice.value) for choice in entry.choices}
    names = {str: "string", bool: "boolean", int: "integer", float: "number"}
    return {"type": names[kinds.pop()]} if len(kinds) == 1 else {}


def _object(properties: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": dict(properties),
        "required": list(properties),
        "additionalProperties": False,
    }


def _bounds(entry: Input, low: str = "minimum", high: str = "maximum") -> dict[str, Any]:
    bounds = {low: entry.min, high: entry.max}
    return {key: bound for key, bound in bounds.items() if bound is not None}
