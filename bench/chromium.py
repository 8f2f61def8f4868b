"""A headless Chromium, started for one page and driven over its DevTools protocol."""

import asyncio
import contextlib
import itertools
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

from bench.processes import DidNotStart

START_SECONDS = 60.0
STOP_SECONDS = 10.0
_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--remote-debugging-port=0",
)


class PageFailed(Exception):
    """The page threw; the message is its own."""


class Page:
    """One tab. Calls are made one after another, or together: answers come by number."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse, session_id: str | None) -> None:
        self._socket = socket
        self._session_id = session_id
        self._numbers = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}

    async def listen(self) -> None:
        """Hand answers to those who wait, until the browser goes away."""
        async for message in self._socket:
            body = message.json()
            waiter = self._waiting.pop(body.get("id", 0), None)
            if waiter is not None and not waiter.done():
                waiter.set_result(body)
        for waiter in self._waiting.values():
            if not waiter.done():
                waiter.set_exception(PageFailed("Chromium went away."))

    async def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Raises PageFailed with what the browser says against it."""
        number = next(self._numbers)
        request: dict[str, Any] = {"id": number, "method": method, "params": parameters}
        if self._session_id is not None:
            request["sessionId"] = self._session_id
        waiter = self._waiting[number] = asyncio.get_running_loop().create_future()
        await self._socket.send_json(request)
        answer = await waiter
        if "error" in answer:
            raise PageFailed(f"{method}: {answer['error'].get('message')}")
        result: dict[str, Any] = answer["result"]
        return result

    async def attach(self, url: str) -> None:
        """Open ``url`` in a new tab, which all further calls concern."""
        target = await self.call("Target.createTarget", url="about:blank")
        attached = await self.call(
            "Target.attachToTarget", targetId=target["targetId"], flatten=True
        )
        self._session_id = attached["sessionId"]
        await self.call("Page.enable")
        await self.call("Page.navigate", url=url)

    async def evaluate(self, expression: str) -> Any:
        """Return the JSON value of ``expression``, awaited. Raises PageFailed if it throws."""
        answer = await self.call(
            "Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True
        )
        if "exceptionDetails" in answer:
            details = answer["exceptionDetails"]
            told = details.get("exception", {}).get("description") or details.get("text")
            raise PageFailed(str(told).partition("\n")[0])
        return answer["result"].get("value")


@asynccontextmanager
async def opened(chromium: str, url: str) -> AsyncIterator[Page]:
    """``url`` in a browser with a profile of its own; both are gone afterwards.

    Raises DidNotStart with what the browser said.
    """
    with tempfile.TemporaryDirectory(
        prefix="atelier-bench-chromium-", ignore_cleanup_errors=True
    ) as name:
        folder = Path(name)
        with (folder / "chromium.log").open("wb") as log:
            try:
                process = await asyncio.create_subprocess_exec(
                    chromium, *_FLAGS, f"--user-data-dir={folder}/profile", stdout=log, stderr=log
                )
            except OSError as error:
                raise DidNotStart(f"{chromium} can't be started: {error.strerror}.") from None
        try:
            address = await _address(process, folder)
            async with (
                aiohttp.ClientSession() as session,
                session.ws_connect(address, max_msg_size=0) as socket,
            ):
                page = Page(socket, None)
                listening = asyncio.create_task(page.listen())
                try:
                    await page.attach(url)
                    yield page
                finally:
                    listening.cancel()
                    await asyncio.gather(listening, return_exceptions=True)
        finally:
            await _end(process)


async def _address(process: asyncio.subprocess.Process, folder: Path) -> str:
    told = folder / "profile" / "DevToolsActivePort"
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(START_SECONDS):
            while process.returncode is None:
                lines = told.read_text().splitlines() if told.exists() else []
                if len(lines) == 2:
                    return f"ws://127.0.0.1:{lines[0]}{lines[1]}"
                await asyncio.sleep(0.1)
    said = (folder / "chromium.log").read_text(errors="replace")[-2000:]
    raise DidNotStart(f"Chromium did not open its port. It said:\n{said}")


async def _end(process: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.terminate()
    try:
        async with asyncio.timeout(STOP_SECONDS):
            await process.wait()
    except TimeoutError:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
