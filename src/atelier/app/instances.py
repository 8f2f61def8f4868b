"""The instances that the configuration names, and the embedded engine."""

import asyncio
import zlib
from contextlib import AsyncExitStack

from atelier.app.supervision import fleet_of
from atelier.pool.places import place_of
from atelier.pool.pool import Pool, client_id
from atelier.pool.supervisor.embedded import EmbeddedEngine
from atelier.pool.supervisor.probe import comfyui_answers
from atelier.settings import Settings

DEFAULT_COMFYUI = "http://127.0.0.1:8188"  # where ComfyUI listens unless told otherwise


async def configured_pool(
    stack: AsyncExitStack,
    settings: Settings,
    owner: str,
    *,
    embedded: bool,
    supervising: bool,
    host: str,
    shared: bool,
) -> tuple[Pool, bool, bool]:
    """The configured instances, those that we start, and the embedded engine where needed.

    Also whether it is, and whether any of all answers. ``host`` is this machine; ``shared``:
    others may use the same database.
    """
    urls = list(settings.comfyui_urls)
    mode = settings.embedded_engine if embedded else "never"
    fleet = await fleet_of(settings) if supervising else None
    if fleet is not None:
        await stack.enter_async_context(fleet)
        # They will come: what is accepted meanwhile had better wait for them.
        mode = "always" if mode == "always" else "never"
    if not urls and mode == "auto" and await comfyui_answers(DEFAULT_COMFYUI, 1.0):
        urls = [DEFAULT_COMFYUI]
    answering = await asyncio.gather(*(comfyui_answers(url) for url in urls))
    with_engine = mode == "always" or (mode == "auto" and not any(answering))
    pool = Pool()
    for url in urls:
        id, bound_to = place_of(url, host=host, shared=shared)
        pool.add(
            url,
            client_id(owner, url, base=settings.comfyui_client_id),
            id=id,
            origin="config" if bound_to is None or not shared else "sidecar",
            host=bound_to,
        )
    for kept in fleet.members if fleet is not None else ():
        instance = pool.add(
            kept.url,
            client_id(owner, kept.id, base=settings.comfyui_client_id),
            id=f"{kept.id}@{host}" if shared else kept.id,
            origin="supervised",
            host=host,
            explain=kept.explain,
        )
        kept.busy = instance.has_work
    if with_engine:
        engine = await stack.enter_async_context(EmbeddedEngine(settings.data_dir / "engine"))
        own_id = client_id(owner, "embedded", base=settings.comfyui_client_id)
        id = "embedded"
        if shared:
            # Two data folders of one machine have an engine each.
            folder = zlib.crc32(str(settings.data_dir.absolute()).encode())
            id = f"embedded-{folder:08x}@{host}"
        pool.add(engine.url, own_id, id=id, embedded=True, host=host)
    return pool, with_engine, with_engine or any(answering) or fleet is not None
