"""How many workflows become the same API graph here as in ComfyUI's own front end.

``python -m bench conversion --templates DIR`` opens the front end that the instance serves in a
headless Chromium, loads every graph in UI format below DIR and exports it, and converts the same
graph with the instance's /object_info. The two must be the same JSON, but for the order of keys.
A graph with a node that the instance doesn't know can't be exported by either and isn't counted.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import aiohttp

from atelier.comfy.object_info import ObjectInfo
from atelier.workflows.convert import ConversionFailed, convert, is_editor_graph
from bench.chromium import PageFailed
from bench.editor import editor
from bench.figure import Figure, at_least, skipped
from bench.plan import Plan

NAME = "conversion, share identical to the front end's export"
SHARE = 99.0  # percent
SHOWN = 8  # differences of one graph


async def measure(plan: Plan) -> AsyncIterator[Figure]:
    if plan.templates is None or plan.chromium is None:
        yield skipped(NAME, "give --templates DIR and --chromium PATH")
        return
    graphs = dict(await asyncio.to_thread(read_graphs, plan.templates, plan.size(0, 5) or None))
    object_info = ObjectInfo.parse(await _object_info(plan.comfyui))
    same, told, not_counted = 0, [], []
    async with editor(plan.comfyui, plan.chromium) as front_end:
        for name, graph in graphs.items():
            try:
                exported = await front_end.export(graph)
            except PageFailed as error:
                not_counted.append(f"{name}: the front end can't export it: {error}")
                continue
            unknown = sorted(node for node, one in exported.items() if "class_type" not in one)
            if unknown:
                not_counted.append(f"{name}: nodes {', '.join(unknown)} are unknown there")
                continue
            if plan.exports is not None:
                await asyncio.to_thread(write_export, plan.exports, name, exported)
            found = compared(graph, exported, object_info)
            told += [f"{name}: {line}" for line in found]
            same += not found
    for line in ["", *not_counted, *told]:
        print(line)
    counted = len(graphs) - len(not_counted)
    if not counted:
        yield skipped(NAME, f"no graph in {plan.templates} could be exported")
        return
    yield Figure("conversion, graphs identical", f"{same} of {counted}")
    yield at_least(NAME, 100 * same / counted, SHARE, "%", digits=1)


def read_graphs(folder: Path, limit: int | None = None) -> Iterator[tuple[str, Any]]:
    """Yield (name, graph) of every file in UI format, in order of names."""
    for path in sorted(folder.rglob("*.json"))[:limit]:
        try:
            body = json.loads(path.read_bytes())
        except ValueError:
            continue
        if is_editor_graph(body):
            yield path.name, body


def write_export(folder: Path, name: str, exported: Any) -> None:
    """``a.ui.json`` (or ``a.json``) is exported to ``a.api.json``."""
    stem = name.removesuffix(".json").removesuffix(".ui")
    text = json.dumps(exported, indent=2, ensure_ascii=False)
    (folder / f"{stem}.api.json").write_text(text + "\n", encoding="utf-8")


def compared(graph: Any, exported: Any, object_info: ObjectInfo) -> list[str]:
    """A line for each difference, cut to the first few; none if both are the same JSON."""
    try:
        converted = convert(graph, object_info)
    except ConversionFailed as error:
        return [f"not converted: {error.message}"]
    lines = list(differences(converted, exported))
    more = len(lines) - SHOWN
    return [*lines[:SHOWN], f"and {more} more"] if more > 0 else lines


def differences(here: Any, there: Any, where: str = "") -> Iterator[str]:
    """Yield where two JSON values differ; true is not 1, but 1.0 is: JSON has one number type."""
    if isinstance(here, dict) and isinstance(there, dict):
        for key in [*here, *(key for key in there if key not in here)]:
            place = f"{where}/{key}"
            if key not in here:
                yield f"{place} is only in the front end's: {json.dumps(there[key])[:120]}"
            elif key not in there:
                yield f"{place} is only in ours: {json.dumps(here[key])[:120]}"
            else:
                yield from differences(here[key], there[key], place)
        return
    if isinstance(here, list) and isinstance(there, list) and len(here) == len(there):
        for number, (left, right) in enumerate(zip(here, there, strict=True)):
            yield from differences(left, right, f"{where}/{number}")
        return
    if here != there or isinstance(here, bool) != isinstance(there, bool):
        yield f"{where} is {json.dumps(here)[:120]}, the front end has {json.dumps(there)[:120]}"


async def _object_info(comfyui: str) -> Any:
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"{comfyui}/object_info") as response,
    ):
        response.raise_for_status()
        return await response.json()
