"""ComfyUI's own front end in a browser: what it makes of a graph in its UI format."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from bench.chromium import Page, PageFailed, opened

READY_SECONDS = 90.0
EXPORT_SECONDS = 60.0

# `{a|b}` in a prompt is decided by chance when a graph is exported: here always for the first.
_READY = """(async () => {
  const ready = () => {
    const app = window.app ?? window.comfyAPI?.app?.app
    const known = window.LiteGraph?.registered_node_types ?? {}
    return app?.vueAppReady && app.canvas && known.KSampler ? app : undefined
  }
  while (!ready()) await new Promise(resolve => setTimeout(resolve, 200))
  Math.random = () => 0
  window.atelierApp = ready()
})()"""
_EXPORT = """(async () => {
  const app = window.atelierApp
  await app.loadGraphData(%s, true, false, null,
    {showMissingNodesDialog: false, showMissingModelsDialog: false})
  const {output} = await app.graphToPrompt()
  return JSON.stringify(output)
})()"""


class NotReady(Exception):
    """The front end did not come up."""


@dataclass(frozen=True, slots=True)
class Editor:
    page: Page

    async def export(self, graph: Any) -> Any:
        """The API graph that "Export (API)" saves. Raises PageFailed if the front end can't."""
        try:
            async with asyncio.timeout(EXPORT_SECONDS):
                told = await self.page.evaluate(_EXPORT % json.dumps(graph))
        except TimeoutError:
            raise PageFailed(f"no answer in {EXPORT_SECONDS:.0f} s") from None
        return json.loads(told)


@asynccontextmanager
async def editor(comfyui: str, chromium: str) -> AsyncIterator[Editor]:
    """The front end that ``comfyui`` serves. Raises NotReady, DidNotStart."""
    async with opened(chromium, comfyui) as page:
        try:
            async with asyncio.timeout(READY_SECONDS):
                await page.evaluate(_READY)
        except TimeoutError:
            raise NotReady(f"The front end of {comfyui} did not come up.") from None
        yield Editor(page)
