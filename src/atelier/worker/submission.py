"""A graph on its way to an instance: checked, posted whole, found where the answer got lost."""

import asyncio
import contextlib
from collections.abc import Mapping
from typing import Any

from atelier.comfy.client import ComfyClient, GraphRejected, InstanceUnreachable
from atelier.errors import AtelierError
from atelier.pool.instance import Instance
from atelier.service.planning import Plan, is_picture
from atelier.workflows.graph import Graph

FIND_AGAIN_SECONDS = (0.5, 1.0, 2.0, 4.0)  # until an instance that restarts answers


async def check_graph(
    plan: Plan, graph: Graph, inputs: Mapping[str, Any], instance: Instance
) -> None:
    """Raise GraphInvalid where ``instance`` would not run ``graph``, to which ``inputs`` belong."""
    uploaded = {inputs[name] for name, value in plan.inputs.items() if is_picture(value)}
    problems = plan.problems(graph, instance.object_info, uploaded)
    if problems:
        # What we know of the instance may be minutes old.
        problems = plan.problems(graph, await instance.refresh(), uploaded)
    if problems:
        raise plan.invalid(problems)


async def submit(client: ComfyClient, graph: Graph, prompt_id: str) -> None:
    """Post ``graph``. Raises GraphRejected, also where ComfyUI would run a part of it."""
    submitted = await client.submit(graph, prompt_id=prompt_id)
    if submitted.node_errors:
        # ComfyUI would run the rest: half a result that looks like a whole one.
        with contextlib.suppress(AtelierError):
            await client.cancel(prompt_id)
        raise GraphRejected({"message": "some outputs failed validation"}, submitted.node_errors)


async def has_arrived(client: ComfyClient, prompt_id: str) -> bool:
    """Whether a POST without an answer reached the instance. Raises InstanceUnreachable."""
    for pause in FIND_AGAIN_SECONDS:
        await asyncio.sleep(pause)
        with contextlib.suppress(InstanceUnreachable):
            return await client.find(prompt_id) != "absent"
    raise InstanceUnreachable("The instance took the graph, or not, and went away.")
