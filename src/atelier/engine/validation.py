"""What ``POST /prompt`` answers to a graph: ComfyUI's errors, in its words and shapes."""

import traceback
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from atelier.engine.folders import Folders
from atelier.engine.graph import Graph, is_link, sorted_by_need
from atelier.engine.nodes import NODES, NodeClass
from atelier.engine.nodes.node import Input

_LONGEST_LIST_TOLD: Final = 20
_ORDINARY: Final = (KeyError, IndexError, TypeError, ValueError, AttributeError)


@dataclass(frozen=True, slots=True)
class Validation:
    """``outputs`` may be run. None may: ``error`` says why. ``node_errors`` by node id."""

    outputs: list[str]
    error: dict[str, Any] | None
    node_errors: dict[str, dict[str, Any]]


@dataclass(slots=True)
class _Verdict:
    """``fault``: checking the node raised, which ComfyUI blames on the node downstream."""

    valid: bool = True
    errors: list[dict[str, Any]] = field(default_factory=list)
    fault: Exception | None = None


def validate(graph: Any, folders: Folders, targets: list[str] | None = None) -> Validation:
    """Check ``graph``, writing values converted to their inputs' types into it.

    ``targets``: the output nodes that are wanted; None: all.
    """
    if not isinstance(graph, dict):
        return _refused("invalid_prompt", "The prompt is not an object of nodes by id.")
    for node_id, node in graph.items():
        details = f"Node ID '#{node_id}'"
        if not isinstance(node, dict) or "class_type" not in node:
            message = "Cannot execute because a node is missing the class_type property."
            return _refused("invalid_prompt", message, details)
        class_type = node["class_type"]
        if not isinstance(class_type, str) or class_type not in NODES:
            message = f"Cannot execute because node {class_type} does not exist."
            return _refused("invalid_prompt", message, details)
    outputs = [
        node_id
        for node_id, node in graph.items()
        if NODES[node["class_type"]].output_node and (targets is None or node_id in targets)
    ]
    if not outputs:
        return _refused("prompt_no_outputs", "Prompt has no outputs")
    return _validate_outputs(graph, outputs, folders)


def _validate_outputs(graph: Graph, outputs: list[str], folders: Folders) -> Validation:
    verdicts: dict[str, _Verdict] = {}
    good: list[str] = []
    details: list[str] = []
    node_errors: dict[str, dict[str, Any]] = {}
    for output in outputs:
        needed, on_cycle = sorted_by_need(graph, [output])
        for node_id in needed:
            if node_id not in verdicts:
                verdicts[node_id] = _check(graph, node_id, verdicts, on_cycle, folders)
        verdict = verdicts[output]
        if verdict.fault is not None:
            verdict.errors = [_fault("exception_during_validation", verdict.fault)]
            verdict.fault = None
            verdict.valid = False
        if verdict.valid:
            good.append(output)
            continue
        details += [f"{error['message']}: {error['details']}" for error in verdict.errors]
        # As ComfyUI does, this blames every bad node met so far on this output.
        for node_id, found in verdicts.items():
            if found.errors:
                entry = node_errors.setdefault(
                    node_id,
                    {
                        "errors": found.errors,
                        "dependent_outputs": [],
                        "class_type": graph[node_id]["class_type"],
                    },
                )
                entry["dependent_outputs"].append(output)
    if good:
        return Validation(good, None, node_errors)
    message = "Prompt outputs failed validation"
    refused = _refused("prompt_outputs_failed_validation", message, "\n".join(details))
    return Validation([], refused.error, node_errors)


def _check(
    graph: Graph,
    node_id: str,
    verdicts: dict[str, _Verdict],
    on_cycle: set[str],
    folders: Folders,
) -> _Verdict:
    node = NODES[graph[node_id]["class_type"]]
    # ComfyUI runs out of stack on a cycle and then reports no error of any node.
    verdict = _Verdict(valid=node_id not in on_cycle)
    try:
        given = graph[node_id]["inputs"]
        for name, item in node.inputs.items():
            if name not in given:
                if name in node.required:
                    verdict.errors.append(_error("required_input_missing", name))
            elif isinstance(given[name], list):
                _check_link(graph, name, item, given[name], verdicts, verdict, folders)
            else:
                _check_value(node, name, item, given, verdict, folders)
        _check_custom(node, given, verdict, folders)
    except _ORDINARY as error:
        verdict.fault = error
    verdict.valid = verdict.valid and not verdict.errors
    return verdict


def _check_link(
    graph: Graph,
    name: str,
    item: Input,
    link: list[Any],
    verdicts: dict[str, _Verdict],
    verdict: _Verdict,
    folders: Folders,
) -> None:
    config = _config(item, folders)
    if len(link) != 2:
        verdict.errors.append(
            _error("bad_linked_input", name, input_config=config, received_value=link)
        )
        return
    source, slot = link
    received = NODES[graph[source]["class_type"]].outputs[slot]
    if not _fits(received, config[0]):
        what = f"{name}, received_type({received}) mismatch input_type({config[0]})"
        told = {"input_config": config, "received_type": received, "linked_node": link}
        verdict.errors.append(_error("return_type_mismatch", name, what, **told))
        return
    if not is_link(link):
        raise TypeError(f"{link} is no link")
    found = verdicts.get(source)
    if found is None or found.valid is False:
        verdict.valid = False
    if found is not None and found.fault is not None:
        told = {"input_name": name, "input_config": config, "linked_node": link}
        found.errors = [_fault("exception_during_inner_validation", found.fault, **told)]
        found.fault = None
        found.valid = verdict.valid = False


def _check_value(
    node: NodeClass,
    name: str,
    item: Input,
    given: dict[str, Any],
    verdict: _Verdict,
    folders: Folders,
) -> None:
    value = given[name]
    if isinstance(value, dict) and "__value__" in value:
        value = given[name] = value["__value__"]
    convert = _CONVERSIONS.get(item.type) if isinstance(item.type, str) else None
    if convert is not None:
        try:
            value = given[name] = convert(value)
        except (TypeError, ValueError, OverflowError) as error:
            what = f"{name}, {value}, {error}"
            told = {"received_value": value, "exception_message": str(error)}
            told = {"input_config": _config(item, folders), **told}
            message = f"Failed to convert an input value to a {item.type} value"
            verdict.errors.append(_error("invalid_input_type", name, what, message, **told))
            return
    if name in node.checked:
        return
    problem = _out_of_range(value, item.options or {})
    if problem is not None:
        kind, message = problem
        told = {"input_config": _config(item, folders), "received_value": value}
        verdict.errors.append(_error(kind, name, None, message, **told))
        return
    choices = item.choices
    if choices is not None and value not in choices:
        long = len(choices) > _LONGEST_LIST_TOLD
        listed = f"(list of length {len(choices)})" if long else str(list(choices))
        told = {
            "input_config": None if long else _config(item, folders),
            "received_value": value,
        }
        what = f"{name}: '{value}' not in {listed}"
        verdict.errors.append(_error("value_not_in_list", name, what, **told))


def _check_custom(
    node: NodeClass, given: dict[str, Any], verdict: _Verdict, folders: Folders
) -> None:
    if node.check is None:
        return
    values = {name: given[name] for name in node.checked if name in given}
    if not values:
        return
    problem = node.check(folders, **values)
    if problem is not None:
        verdict.errors += [
            _error("custom_validation_failed", name, f"{name} - {problem}") for name in values
        ]


def _out_of_range(value: Any, options: Mapping[str, Any]) -> tuple[str, str] | None:
    if "min" in options and value < options["min"]:
        low = options["min"]
        return "value_smaller_than_min", f"Value {value} smaller than min of {low}"
    if "max" in options and value > options["max"]:
        return "value_bigger_than_max", f"Value {value} bigger than max of {options['max']}"
    return None


def _fits(received: str, wanted: str | list[str]) -> bool:
    if wanted == "*" or received == wanted:
        return True
    if isinstance(wanted, list):
        return False
    return not {part.strip() for part in received.split(",")}.isdisjoint(
        part.strip() for part in wanted.split(",")
    )


def _config(item: Input, folders: Folders) -> list[Any]:
    return [item.told_type(folders), dict(item.options or {})]


_CONVERSIONS: Final = {"INT": int, "FLOAT": float, "STRING": str, "BOOLEAN": bool}

_MESSAGES: Final = {
    "required_input_missing": "Required input is missing",
    "bad_linked_input": "Bad linked input, must be a length-2 list of [node_id, slot_index]",
    "return_type_mismatch": "Return type mismatch between linked nodes",
    "value_not_in_list": "Value not in list",
    "custom_validation_failed": "Custom validation failed for node",
    "exception_during_validation": "Exception when validating node",
    "exception_during_inner_validation": "Exception when validating inner node",
}


def _error(
    kind: str, name: str, details: str | None = None, message: str | None = None, **told: Any
) -> dict[str, Any]:
    return {
        "type": kind,
        "message": message or _MESSAGES[kind],
        "details": name if details is None else details,
        "extra_info": {"input_name": name, **told},
    }


def _fault(kind: str, error: Exception, **told: Any) -> dict[str, Any]:
    frames = traceback.format_tb(error.__traceback__)
    extra = {**told, "exception_type": type(error).__qualname__, "traceback": frames}
    if kind == "exception_during_inner_validation":
        extra["exception_message"] = str(error)
    return {
        "type": kind,
        "message": _MESSAGES[kind],
        "details": str(error),
        "extra_info": extra,
    }


def _refused(kind: str, message: str, details: str = "") -> Validation:
    error = {"type": kind, "message": message, "details": details, "extra_info": {}}
    return Validation([], error, {})
