"""Editing a manifest by saying only what changes. Pure."""

from collections.abc import Mapping
from typing import Any, Final

# Lists whose entries have a name, and can be told by it.
_NAMED: Final = ("inputs", "variants")


def patched(manifest: Mapping[str, Any], patch: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``manifest``, which is valid, merged with ``patch`` as RFC 7396 merges.

    ``inputs`` and ``variants`` may be an object by name instead of the whole list: null takes an
    entry away, a new name adds one at the end. An input that goes takes its targets along, one
    that gets another ``name`` keeps them.
    """
    made = dict(manifest)
    inputs = patch.get("inputs")
    moves = dict(_moves(manifest, inputs)) if isinstance(inputs, Mapping) else {}
    if moves:
        made["variants"] = [_moved(variant, moves) for variant in made["variants"]]
    for key, change in patch.items():
        if key in _NAMED and isinstance(change, Mapping):
            made[key] = _by_name(made.get(key, []), change)
        elif change is None:
            made.pop(key, None)
        else:
            made[key] = _merged(made.get(key), change)
    return made


def _merged(value: Any, change: Any) -> Any:
    if not isinstance(change, Mapping):
        return change
    made = dict(value) if isinstance(value, Mapping) else {}
    for key, one in change.items():
        if one is None:
            made.pop(key, None)
        else:
            made[key] = _merged(made.get(key), one)
    return made


def _by_name(entries: Any, changes: Mapping[str, Any]) -> list[Any]:
    made = []
    known = set()
    for entry in entries:
        name = entry.get("name")
        known.add(name)
        if name not in changes:
            made.append(entry)
        elif changes[name] is not None:
            made.append(_merged(entry, changes[name]))
    made += [
        {"name": name, **change}
        for name, change in changes.items()
        if name not in known and isinstance(change, Mapping)
    ]
    return made


def _moves(manifest: Mapping[str, Any], changes: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Inputs that are called something else now, or nothing at all."""
    known = [entry["name"] for entry in manifest.get("inputs", [])]
    moves = []
    for name in known:
        change = changes.get(name, {})
        new = change.get("name", name) if isinstance(change, Mapping) else name
        if change is None or not isinstance(new, str):
            new = None
        if new != name:
            moves.append((name, new))
    return moves


def _moved(variant: Mapping[str, Any], moves: Mapping[str, Any]) -> dict[str, Any]:
    targets = {
        moves.get(name, name): [_retold(place, moves) for place in places]
        for name, places in variant.get("targets", {}).items()
        if moves.get(name, name) is not None
    }
    return {**variant, "targets": targets}


def _retold(place: Mapping[str, Any], moves: Mapping[str, Any]) -> Mapping[str, Any]:
    """A template names inputs, not only its own."""
    template = place.get("template")
    if template is None:
        return place
    for old, new in moves.items():
        if new is not None:
            template = template.replace(f"{{{old}}}", f"{{{new}}}")
            template = template.replace(f"{{{old}.", f"{{{new}.")
    return {**place, "template": template}
