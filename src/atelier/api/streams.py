"""Live events over server-sent events and WebSocket; no dialect's words.

A stream starts with a snapshot unless it resumes, says something every 15 s, and ends when the
client or the service goes, or, where one job is watched, after that job's last event.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress

from fastapi.responses import Response
from starlette.types import Receive, Scope, Send

from atelier.errors import NotFound, Unavailable
from atelier.events import Batch, Event, SlowSubscriber, Subscription
from atelier.jobs.job import TERMINAL
from atelier.service import Generations
from atelier.service.snapshot import snapshot_of

KEEP_ALIVE_SECONDS = 15.0
# What a browser waits before it connects again.
RETRY_MILLISECONDS = 2000
_ENDED = "-end"
_HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache, no-transform"),
    # nginx buffers answers otherwise.
    (b"x-accel-buffering", b"no"),
]

OpenSubscription = Callable[[], AbstractAsyncContextManager[Subscription]]
Encode = Callable[[Event], bytes]


class OpenStreams:
    """The streams of this process, so that a shutdown needn't wait for their clients.

    uvicorn waits for answers that are being sent, and an event stream is never done.
    """

    def __init__(self, shutting_down: asyncio.Event | None = None) -> None:
        self._shutting_down = shutting_down or asyncio.Event()
        self._open: set[Subscription] = set()
        self._watcher: asyncio.Task[None] | None = None

    def __len__(self) -> int:
        return len(self._open)

    @asynccontextmanager
    async def follow(
        self, subscribing: AbstractAsyncContextManager[Subscription]
    ) -> AsyncIterator[Subscription]:
        """The subscription, closed when the service shuts down."""
        async with subscribing as subscription:
            self._open.add(subscription)
            if self._watcher is None:
                self._watcher = asyncio.create_task(self._close_at_shutdown())
            try:
                yield subscription
            finally:
                self._open.discard(subscription)
                if not self._open and self._watcher is not None:
                    self._watcher.cancel()
                    self._watcher = None

    async def _close_at_shutdown(self) -> None:
        await self._shutting_down.wait()
        for subscription in tuple(self._open):
            subscription.close()
        self._watcher = None


def resume_id(header: str | None, query: str | None = None) -> tuple[str | None, bool]:
    """The id to go on from, and whether it was that of a job's last event."""
    text = header or query
    if text is None:
        return None, False
    return text.removesuffix(_ENDED), text.endswith(_ENDED)


def encode_sse(event: Event, body: bytes) -> bytes:
    """``body`` as the data of one server-sent event.

    The id of a job's last event says so: a browser that connects again with it is told to stop,
    whichever process it reaches.
    """
    ending = _ENDED if event.ends else ""
    head = f"id: {event.id}{ending}\nevent: {event.type}\ndata: ".encode()
    return head + body + b"\n\n"


class EventStream(Response):
    """Server-sent events of one subscription, sent as they are: nothing between bus and socket.

    ``form`` names the encoding, so that each event is encoded once for all who listen in it.
    With ``job`` the stream ends after that job's last event, and a silence is a reason to look
    whether one was missed: the worker may have died between recording and telling.
    """

    def __init__(
        self,
        streams: OpenStreams,
        subscribe: OpenSubscription,
        encode: Encode,
        *,
        form: str,
        job: str | None = None,
        generations: Generations | None = None,
        keep_alive_seconds: float = KEEP_ALIVE_SECONDS,
    ) -> None:
        super().__init__()
        self._streams = streams
        self._subscribe = subscribe
        self._encode = encode
        self._form = form
        self._job = job
        self._generations = generations
        self._keep_alive_seconds = keep_alive_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        # Entered before the head is sent, so that an error can still be a problem document.
        async with self._streams.follow(self._subscribe()) as subscription:
            gone = asyncio.create_task(_close_when_gone(receive, subscription))
            try:
                await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
                await _send(send, f"retry: {RETRY_MILLISECONDS}\n\n".encode())
                with suppress(SlowSubscriber):  # it connects again with the last id that it saw
                    async for events in batches(
                        subscription, self._job, self._generations, self._keep_alive_seconds
                    ):
                        wire = events.encoded(self._form, self._encode)
                        await _send(send, wire or b": keep-alive\n\n")
                await send({"type": "http.response.body", "body": b"", "more_body": False})
            finally:
                gone.cancel()


async def batches(
    subscription: Subscription,
    job: str | None,
    generations: Generations | None,
    keep_alive_seconds: float = KEEP_ALIVE_SECONDS,
) -> AsyncIterator[Batch]:
    """Batches until the subscription closes or ``job`` has ended; empty ones mark silence."""
    while not subscription.closed:
        events = await subscription.batch(keep_alive_seconds)
        if not events and job is not None and generations is not None:
            events = await _missed_end(subscription, job, generations)
        if events or not subscription.closed:
            yield events
        if job is not None and events.ends:
            return


async def _missed_end(subscription: Subscription, job: str, generations: Generations) -> Batch:
    try:
        view = await generations.get(job)
    except NotFound:
        subscription.close()  # deleted meanwhile
        return Batch()
    except Unavailable:
        return Batch()
    if view.job.status not in TERMINAL:
        return Batch()
    return Batch([snapshot_of(view).stamped(subscription.since, view.job.updated_at_ms)])


async def _send(send: Send, body: bytes) -> None:
    await send({"type": "http.response.body", "body": body, "more_body": True})


async def _close_when_gone(receive: Receive, subscription: Subscription) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    subscription.close()
