"""A client of one ComfyUI that doesn't lose track of what it runs there."""

import asyncio
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Literal, Protocol, Self

import aiohttp

from atelier.comfy.answers import History, QueueState, Submitted
from atelier.comfy.connection import Connection
from atelier.comfy.follow import Follower
from atelier.comfy.object_info import ObjectInfo
from atelier.comfy.protocol import (
    ExecutionInterrupted,
    FileRef,
    Message,
    ProtocolError,
    Status,
    dump_json,
    parse_json,
)
from atelier.comfy.transport import FileMissing, FileTooLarge, InstanceUnreachable, Transport
from atelier.comfy.uploads import UPLOAD, Uploads
from atelier.comfy.watch import Ending, Finished, Lost, Watch, WatchEvent
from atelier.errors import WorkflowError

__all__ = [
    "ComfyClient",
    "Ending",
    "FileMissing",
    "FileTooLarge",
    "Finished",
    "GraphRejected",
    "History",
    "InstanceUnreachable",
    "Lost",
    "Observer",
    "QueueState",
    "Submitted",
    "Viewed",
    "Watch",
    "WatchEvent",
]

_MAX_FILE_BYTES: Final = 512 * 1024 * 1024


class GraphRejected(WorkflowError):
    """ComfyUI found a graph invalid.

    ``error`` is {type, message, details, extra_info}; ``node_errors`` by node id: {errors,
    class_type, dependent_outputs}. The same graph fails again on an instance with the same models.
    """

    code = "WORKFLOW_VALIDATION_ERROR"
    default_hint = "See node_errors for what each node objects to."

    def __init__(self, error: Mapping[str, Any], node_errors: Mapping[str, Any]) -> None:
        self.error = error
        self.node_errors = node_errors
        first = next(
            (
                f"{node.get('class_type')}: {problem.get('message')} ({problem.get('details')})"
                for node in node_errors.values()
                for problem in node.get("errors", ())
            ),
            error.get("details") or "",
        )
        message = f"ComfyUI refused the graph: {error.get('message', 'no reason given')}"
        super().__init__(
            f"{message.rstrip('.')}. {first}".strip(),
            node=next(iter(node_errors), None),
            error=dict(error),
            node_errors=dict(node_errors),
        )


@dataclass(frozen=True, slots=True)
class Viewed:
    """A file's content."""

    data: bytes
    media_type: str


class Observer(Protocol):
    """Sees what passes between us and the instance, all prompts of this client together."""

    def submitting(self, prompt_id: str, graph: Mapping[str, Any]) -> None: ...

    def heard(self, message: Message) -> None: ...

    def freed(self) -> None:
        """Models were asked to be unloaded."""

    def dropped(self) -> None:
        """The WebSocket was lost."""


class ComfyClient:
    """One ComfyUI at ``url``, as the client ``client_id``.

    ``async with`` keeps a WebSocket until it is left; what is submitted under the same client id
    elsewhere at the same time takes the messages away, so no two clients may share one.
    A prompt that is watched counts as lost ``lost_after_seconds`` after the last sign of life, or
    ``gone_after_seconds`` after the port began to refuse connections. Without ``listen`` there is
    no WebSocket: the client only asks.
    """

    def __init__(
        self,
        url: str,
        client_id: str,
        *,
        session: aiohttp.ClientSession | None = None,
        connect_timeout_seconds: float = 10,
        ping_seconds: float = 5,
        lost_after_seconds: float = 14,
        gone_after_seconds: float = 3,
        observer: Observer | None = None,
        listen: bool = True,
    ) -> None:
        self.url = url.rstrip("/")
        self.client_id = client_id
        self.queue_remaining = 0
        self._session = session
        self._owns_session = session is None
        self._connect_timeout_seconds = connect_timeout_seconds
        self._ping_seconds = ping_seconds
        self._lost_after_seconds = lost_after_seconds
        self._gone_after_seconds = gone_after_seconds
        self._observer = observer
        self._listen = listen
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        if self._session is None:
            # One instance runs one prompt at a time: more connections would only queue there.
            connector = aiohttp.TCPConnector(limit=32, keepalive_timeout=30)
            self._session = aiohttp.ClientSession(connector=connector)
        self._transport = Transport(
            self.url, self._session, connect_timeout_seconds=self._connect_timeout_seconds
        )
        self._uploads = Uploads(self._transport)
        self._follower = Follower(
            self._transport,
            queue=self.queue,
            history=self.history,
            lost_after_seconds=self._lost_after_seconds,
            gone_after_seconds=self._gone_after_seconds,
        )
        self._connection = Connection(
            self._transport,
            self.client_id,
            ping_seconds=self._ping_seconds,
            on_message=self._hear,
            on_connect=self._follower.connected,
            on_drop=self._drop,
        )
        self._follower.renew_connection = self._connection.renew
        if self._listen:
            name = self._transport.shown_url
            self._tasks = [
                asyncio.create_task(self._connection.run(), name=f"websocket {name}"),
                asyncio.create_task(self._follower.run(), name=f"follow {name}"),
            ]
        return self

    async def __aexit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for task in self._tasks:
            task.cancel()
        results = await asyncio.gather(*self._tasks, return_exceptions=True)
        self._follower.close("The client was closed.")
        if self._owns_session and self._session is not None:
            await self._session.close()
            self._session = None
        for result in results:
            if isinstance(result, Exception):
                raise result

    @property
    def connected(self) -> bool:
        """True while the WebSocket is up and greeted."""
        return self._connection.connected.is_set()

    @property
    def connected_event(self) -> asyncio.Event:
        return self._connection.connected

    @property
    def connections(self) -> int:
        """How many times the WebSocket was made."""
        return self._connection.connections

    @property
    def messages(self) -> int:
        """How many messages came over them."""
        return self._connection.messages

    @property
    def refusals(self) -> int:
        """How many times no process stood behind the address."""
        return self._transport.refusals

    @property
    def last_error(self) -> str | None:
        """What went wrong last, in words; kept after it has passed."""
        return self._transport.last_error

    @property
    def silent_seconds(self) -> float:
        """How long nothing was heard of the instance, on any connection."""
        return time.monotonic() - self._transport.last_contact

    async def wait_connected(self, timeout_seconds: float) -> None:
        """Return once the WebSocket is up. Raises InstanceUnreachable."""
        try:
            async with asyncio.timeout(timeout_seconds):
                await self._connection.connected.wait()
        except TimeoutError as error:
            reason = self.last_error or f"no WebSocket within {timeout_seconds:g} s"
            raise InstanceUnreachable(
                f"{self._transport.shown_url}: {reason}", url=self._transport.shown_url
            ) from error

    async def object_info(self) -> ObjectInfo:
        body = await self._transport.get_json("/object_info", timeout_seconds=60)
        # Some megabytes where many custom nodes are installed: tens of milliseconds.
        return await asyncio.to_thread(ObjectInfo.parse, body)

    async def system_stats(self) -> dict[str, Any]:
        """Return {system, devices} as ComfyUI gives them; sizes in bytes."""
        body = await self._transport.get_json("/system_stats", timeout_seconds=10)
        if not isinstance(body, dict):
            raise ProtocolError("/system_stats did not answer with an object.")
        return body

    async def queue(self, *, timeout_seconds: float = 10) -> QueueState:
        body = await self._transport.get_json("/queue", timeout_seconds=timeout_seconds)
        state = QueueState.parse(body)
        self.queue_remaining = len(state.running) + len(state.pending)
        return state

    async def history(self, prompt_id: str, *, timeout_seconds: float = 10) -> History | None:
        """Return how a prompt ended, or None if it is unknown or hasn't."""
        body = await self._transport.get_json(
            f"/history/{prompt_id}", timeout_seconds=timeout_seconds
        )
        return History.parse(prompt_id, body)

    async def view(self, file: FileRef, *, max_bytes: int = _MAX_FILE_BYTES) -> Viewed:
        """Return a file. Raises FileMissing, FileTooLarge."""
        params = {"filename": file.filename, "subfolder": file.subfolder, "type": file.type}
        async with self._transport.request(
            "GET", "/view", params=params, timeout_seconds=None
        ) as response:
            if response.status == 404:
                raise FileMissing(
                    f"{self._transport.shown_url} no longer has {file.filename}.",
                    url=self._transport.shown_url,
                )
            if response.status != 200:
                self._transport.refuse("/view", response.status, await response.read())
            if (response.content_length or 0) > max_bytes:
                raise FileTooLarge(f"{file.filename} is larger than {max_bytes} bytes.")
            data = bytearray()
            async for chunk in response.content.iter_any():
                data += chunk
                if len(data) > max_bytes:
                    raise FileTooLarge(f"{file.filename} is larger than {max_bytes} bytes.")
            return Viewed(bytes(data), response.content_type)

    async def upload(self, data: bytes, *, media_type: str) -> str:
        """Return the name by which LoadImage takes ``data``, sent unless it is there already.

        To be submitted within minutes: a file that no prompt names is swept after an hour.
        """
        return await self._uploads.put(data, media_type=media_type)

    async def uploads_named(self) -> frozenset[str]:
        """The uploads, whoever's, that prompts name which run or wait at the instance."""
        body = await self._transport.get_json("/queue", timeout_seconds=10)
        return frozenset(UPLOAD.findall(dump_json(body).decode()))

    async def submit(
        self,
        graph: Mapping[str, Any],
        *,
        prompt_id: str | None = None,
        extra_data: Mapping[str, Any] | None = None,
    ) -> Submitted:
        """Queue ``graph``. Raises GraphRejected, InstanceUnreachable, InstanceError.

        ComfyUI runs the same ``prompt_id`` twice if it gets it twice: after InstanceUnreachable,
        ask ``find`` first.
        """
        prompt_id = prompt_id or str(uuid.uuid4())
        body: dict[str, Any] = {
            "prompt": graph,
            "client_id": self.client_id,
            "prompt_id": prompt_id,
        }
        if extra_data:
            body["extra_data"] = dict(extra_data)
        sent_at = self._follower.submitting(prompt_id, graph)
        if self._observer is not None:
            self._observer.submitting(prompt_id, graph)
        async with self._transport.request(
            "POST", "/prompt", json_body=dump_json(body)
        ) as response:
            answer = await response.read()
        if response.status == 400:
            refusal = parse_json(answer)
            error = refusal.get("error") if isinstance(refusal, dict) else None
            if isinstance(error, str):
                error = {"type": "error", "message": error, "details": "", "extra_info": {}}
            if isinstance(error, dict):
                node_errors = refusal.get("node_errors")
                raise GraphRejected(error, node_errors if isinstance(node_errors, dict) else {})
        if response.status != 200:
            self._transport.refuse("/prompt", response.status, answer)
        submitted = Submitted.parse(parse_json(answer))
        self._follower.submitted(prompt_id, submitted.prompt_id, sent_at)
        return submitted

    def watch(self, prompt_id: str, *, attach: bool = False) -> Watch:
        """Return a Watch to enter before the prompt is submitted, so that nothing is missed.

        With ``attach`` the prompt was submitted earlier, maybe by another client: its end is
        found by asking, and an instance that doesn't know it has lost it.
        """
        return self._follower.watch(prompt_id, attach=attach, deaf=not self.connected)

    async def find(self, prompt_id: str) -> Literal["running", "pending", "ended", "absent"]:
        """Return where the instance has a prompt; one in a POST still under way is absent."""
        # Twice, since it may have come, and even have run, between the first pair of answers.
        for _ in range(2):
            place = (await self.queue()).place(prompt_id)
            if place is not None:
                return place
            if await self.history(prompt_id) is not None:
                return "ended"
        return "absent"

    async def cancel(
        self, prompt_id: str, *, insist_seconds: float = 3
    ) -> Literal["deleted", "interrupted", "absent"]:
        """Take a prompt from the queue or interrupt it, and say which; its watch is told.

        A node that is at work is interrupted at its next step, maybe after this has returned.
        A prompt that already ended is absent. No other prompt is touched.
        """
        place = (await self.queue()).place(prompt_id)
        if place == "pending":
            await self._transport.post("/queue", dump_json({"delete": [prompt_id]}))
            # Asked again: it may have begun to run in between.
            place = (await self.queue()).place(prompt_id)
            if place is None and await self.history(prompt_id) is None:
                self._follower.hear(prompt_id, ExecutionInterrupted(prompt_id, None, None))
                return "deleted"
        if place is None:
            return "absent"
        # ComfyUI forgets an interrupt that comes just before a prompt's first node: repeat it,
        # but only while this prompt still runs, since the flag would stop any other as well.
        deadline = time.monotonic() + insist_seconds
        while place == "running":
            await self._transport.post("/interrupt", dump_json({"prompt_id": prompt_id}))
            for pause in (0.05, 0.15, 0.3, 0.5):
                await asyncio.sleep(pause)
                place = (await self.queue()).place(prompt_id)
                if place != "running" or time.monotonic() > deadline:
                    return "interrupted"
        return "interrupted"

    async def free(self, *, unload_models: bool = True, free_memory: bool = False) -> None:
        """Ask for models to be unloaded and, with ``free_memory``, cached results dropped.

        ComfyUI does so between prompts.
        """
        body = dump_json({"unload_models": unload_models, "free_memory": free_memory})
        await self._transport.post("/free", body)
        if self._observer is not None:
            self._observer.freed()

    def _hear(self, message: Message) -> None:
        if isinstance(message, Status) and message.queue_remaining is not None:
            self.queue_remaining = message.queue_remaining
        if self._observer is not None:
            self._observer.heard(message)
        self._follower.receive(message)

    def _drop(self) -> None:
        self._uploads.doubt()
        self._follower.dropped()
        if self._observer is not None:
            self._observer.dropped()
