"""WS /api/v1/ws/{client_id}: submit graphs, and hear of all jobs of this client.

The client sends {"type": "submit", "data": {"workflow": {...}}} or {"type": "ping"}. It gets
what messages.py makes of its jobs' events, "system", "pong" and "error". Several sockets of one
client hear the same; who connects again hears the present state of what runs.
"""

import asyncio
from contextlib import suppress
from typing import Any

import orjson
from fastapi import APIRouter, WebSocket
from pydantic import ValidationError
from starlette.websockets import WebSocketDisconnect

from atelier.api.addresses import base_url
from atelier.api.fields import FieldError, field_errors
from atelier.api.json import encode
from atelier.api.limits import SubmissionLimits
from atelier.api.problems import Problem, invalid
from atelier.api.streams import OpenStreams
from atelier.api.workflow_service.errors import error_json, problem_json, rendering
from atelier.api.workflow_service.messages import STATES, Made, Messages
from atelier.api.workflow_service.models import CLIENT_ID_WRONG, SubmitWorkflow, is_client_id
from atelier.api.workflow_service.render import submitted_json
from atelier.errors import AtelierError, Unavailable
from atelier.events import Event, SlowSubscriber, Subscription
from atelier.service import Services, Submission
from atelier.service.views import OutputView

SEND_SECONDS = 15.0  # a client that takes nothing for so long is let go; it can come back
REMAINING_SECONDS = 0.25  # so long the length of the queue is taken to be the same
_TYPES = ("submit", "ping")


def add_socket(
    router: APIRouter,
    services: Services,
    streams: OpenStreams,
    *,
    public_url: str | None,
    dialect: str,
) -> None:
    @router.websocket("/ws/{client_id}")
    async def client_socket(
        websocket: WebSocket, client_id: str, last_event_id: str | None = None
    ) -> None:
        base = base_url(websocket, public_url)
        socket = ClientSocket(websocket, services, client_id=client_id, base=base, dialect=dialect)
        await socket.run(streams, last_event_id)


class _Slow(Exception):
    """The client doesn't read what it is sent."""


class ClientSocket:
    def __init__(
        self, websocket: WebSocket, services: Services, *, client_id: str, base: str, dialect: str
    ) -> None:
        self._websocket = websocket
        self._services = services
        self._client_id = client_id
        self._dialect = dialect
        self._messages = Messages(base)
        # A submission is answered before anything is told of the job.
        self._turn = asyncio.Lock()
        self._remaining = (0, float("-inf"))

    async def run(self, streams: OpenStreams, last_event_id: str | None) -> None:
        """Serve the socket until either side goes."""
        if not is_client_id(self._client_id):
            error = FieldError("client_id", CLIENT_ID_WRONG)
            await self._deny(invalid(error))
            return
        following = self._services.generations.follow(
            user=self._client_id, last_event_id=last_event_id, nodes=True
        )
        try:
            async with streams.follow(following) as subscription:
                await self._websocket.accept()
                await self._serve(subscription)
        except AtelierError as error:
            # Before it is accepted, a socket can still be answered as a request.
            await self._deny(Problem(error.code, 503, error.message, error.hint))

    async def _serve(self, subscription: Subscription) -> None:
        reading = asyncio.create_task(self._read(subscription))
        try:
            await self._send(
                {
                    "type": "system",
                    "data": {
                        "event": "connected",
                        "client_id": self._client_id,
                        "resumed": subscription.resumed,
                    },
                }
            )
            while events := await subscription.batch():
                async with self._turn:
                    for event in events:
                        await self._tell(event)
            # 1012: the service restarts.
            await self._websocket.close(1012)
        except SlowSubscriber as error:
            await self._websocket.close(1013, error.message)
        except (_Slow, WebSocketDisconnect, RuntimeError):
            # starlette raises either when the client has gone in the middle of a send; one that
            # doesn't read can't be told why either.
            return
        finally:
            reading.cancel()

    async def _read(self, subscription: Subscription) -> None:
        with suppress(_Slow, WebSocketDisconnect, RuntimeError):
            while (received := await self._websocket.receive())["type"] != "websocket.disconnect":
                async with self._turn:
                    await self._answer(received.get("text") or received.get("bytes") or "")
        subscription.close()

    # -- what the client says ------------------------------------------------------------------

    async def _answer(self, text: str | bytes) -> None:
        try:
            message = orjson.loads(text)
        except orjson.JSONDecodeError as error:
            await self._complain(f"The message isn't JSON: {error}.")
            return
        if not isinstance(message, dict) or message.get("type") is None:
            await self._complain("The message must be a JSON object with a type.")
            return
        match message["type"]:
            case "ping":
                await self._send({"type": "pong", "data": {}})
            case "submit":
                await self._submit(message)
            case other:
                await self._complain(f"There is no message of type {str(other)[:80]!r}.")

    async def _submit(self, message: dict[str, Any]) -> None:
        about = {"id": message["id"]} if "id" in message else {}
        try:
            body = _body(message.get("data"))
            submission = Submission(
                workflow=body.workflow, user=self._client_id, dialect=self._dialect
            )
            limits = SubmissionLimits(self._services.limiter)
            await limits.admit(self._websocket, self._client_id)
            view, _ = await self._services.generations.submit(submission)
        except ValidationError as error:
            wrong = invalid(*field_errors(error.errors(), _body))
            told = problem_json(wrong, "WORKFLOW_VALIDATION_ERROR")
        except AtelierError as error:
            told = error_json(error, "WORKFLOW_VALIDATION_ERROR")
        else:
            data = {"event": "submitted", **submitted_json(view), **about}
            await self._send({"type": "system", "data": data})
            return
        await self._send({"type": "execution_error", "data": {"prompt_id": None, **told, **about}})

    async def _complain(self, message: str) -> None:
        data = {
            "code": "WEBSOCKET_ERROR",
            "message": message,
            "details": {"hint": _EXAMPLE, "allowed": list(_TYPES)},
        }
        await self._send({"type": "error", "data": data})

    # -- what the client hears -----------------------------------------------------------------

    async def _tell(self, event: Event) -> None:
        made = await self._made(event) if event.data.get("outputs") else Made()
        remaining = await self._queue_remaining(event)
        for message in self._messages.of(event, remaining=remaining, made=made):
            await self._send({**message, "event_id": event.id})

    async def _made(self, event: Event) -> Made:
        """What the job has made; only what the event knows where the record can't be had."""
        told = [OutputView(**output) for output in event.data["outputs"]]
        try:
            view = await self._services.generations.get(event.job)
            outputs = (*view.outputs, *view.previews)
            return Made(view.outputs, view.previews, await self._services.files.texts(outputs))
        except AtelierError:
            return Made(told)

    async def _queue_remaining(self, event: Event) -> int:
        """How many jobs wait or run, where ``event`` is of a kind that is told with it."""
        known, at = self._remaining
        now = asyncio.get_running_loop().time()
        if now - at > REMAINING_SECONDS and (event.type == "snapshot" or event.type in STATES):
            with suppress(Unavailable):
                known = await self._services.generations.remaining()
                self._remaining = (known, now)
        return known

    async def _send(self, message: dict[str, Any]) -> None:
        try:
            async with asyncio.timeout(SEND_SECONDS):
                await self._websocket.send_text(encode(message).decode())
        except TimeoutError:
            raise _Slow from None

    async def _deny(self, problem: Problem) -> None:
        render = rendering("WEBSOCKET_ERROR")
        await self._websocket.send_denial_response(render(problem, self._websocket.url.path))


_EXAMPLE = 'For example {"type": "submit", "data": {"workflow": {...}}} or {"type": "ping"}.'


def _body(data: Any) -> SubmitWorkflow:
    return SubmitWorkflow.model_validate(data if isinstance(data, dict) else {})
