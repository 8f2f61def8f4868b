"""Live progress of a task or of a user's tasks, over server-sent events and WebSocket."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Annotated, Any

from fastapi import APIRouter, Header, Path, Query, Request, WebSocket
from fastapi.responses import Response
from starlette.websockets import WebSocketDisconnect

from atelier.api.documents import PROBLEMS_OF_ONE
from atelier.api.problems import problem_of, problem_response
from atelier.api.streams import EventStream, OpenStreams, batches, encode_sse, resume_id
from atelier.api.transform.addresses import base_url
from atelier.api.transform.render import event_json
from atelier.errors import AtelierError
from atelier.events import Event, SlowSubscriber, Subscription
from atelier.jobs.job import TERMINAL
from atelier.service import Services

_SSE: dict[int | str, dict[str, Any]] = {
    200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}}
}

TaskId = Annotated[str, Path(max_length=100)]
UserId = Annotated[str, Path(min_length=1, max_length=200)]
LastEventId = Annotated[str | None, Header(alias="Last-Event-ID")]
ResumeAfter = Annotated[
    str | None, Query(alias="last_event_id", description="Where no header can be set.")
]
Previews = Annotated[bool, Query(description="Pictures of the work so far, too.")]


def add_streams(
    router: APIRouter, services: Services, streams: OpenStreams, public_url: str | None
) -> None:
    generations = services.generations

    def encoder(base: str) -> Callable[[Event], bytes]:
        return lambda event: encode_sse(event, event_json(event, base))

    @router.get(
        "/task/{task_id}/events",
        response_class=Response,
        responses={**PROBLEMS_OF_ONE, **_SSE},
        summary="Listen to a task",
    )
    async def task_events(
        request: Request,
        task_id: TaskId,
        previews: Previews = False,
        last_event_id: LastEventId = None,
        resume_after: ResumeAfter = None,
    ) -> Response:
        """Server-sent events until the task has ended."""
        view = await generations.get(task_id)
        last, told_the_end = resume_id(last_event_id, resume_after)
        if told_the_end and view.job.status in TERMINAL:
            # The one answer that makes a browser stop connecting again.
            return Response(status_code=204)
        base = base_url(request, public_url)
        return EventStream(
            streams,
            lambda: generations.follow(job=task_id, last_event_id=last, previews=previews),
            encoder(base),
            form=f"sse:transform:{base}",
            job=task_id,
            generations=generations,
        )

    @router.get(
        "/user/{user_id}/events",
        response_class=Response,
        responses={**PROBLEMS_OF_ONE, **_SSE},
        summary="Listen to a user's tasks",
    )
    async def user_events(
        request: Request,
        user_id: UserId,
        last_event_id: LastEventId = None,
        resume_after: ResumeAfter = None,
    ) -> Response:
        """Server-sent events of all tasks of this user; it doesn't end by itself."""
        last, _ = resume_id(last_event_id, resume_after)
        base = base_url(request, public_url)
        return EventStream(
            streams,
            lambda: generations.follow(user=user_id, last_event_id=last),
            encoder(base),
            form=f"sse:transform:{base}",
        )

    @router.websocket("/task/{task_id}/ws")
    async def task_socket(
        websocket: WebSocket,
        task_id: TaskId,
        previews: Previews = False,
        resume_after: ResumeAfter = None,
    ) -> None:
        await _serve(websocket, job=task_id, previews=previews, after=resume_after)

    @router.websocket("/user/{user_id}/ws")
    async def user_socket(
        websocket: WebSocket, user_id: UserId, resume_after: ResumeAfter = None
    ) -> None:
        await _serve(websocket, user=user_id, after=resume_after)

    async def _serve(
        websocket: WebSocket,
        *,
        job: str | None = None,
        user: str | None = None,
        previews: bool = False,
        after: str | None = None,
    ) -> None:
        last, _ = resume_id(None, after)
        following = generations.follow(job=job, user=user, last_event_id=last, previews=previews)
        try:
            async with streams.follow(following) as subscription:
                await websocket.accept()
                await _forward(websocket, subscription, job)
        except AtelierError as error:
            # Before it is accepted, a socket can still be answered as a request.
            await websocket.send_denial_response(
                problem_response(problem_of(error), websocket.url.path)
            )

    async def _forward(websocket: WebSocket, subscription: Subscription, job: str | None) -> None:
        base = base_url(websocket, public_url)
        listening = asyncio.create_task(_until_gone(websocket, subscription))
        try:
            async for events in batches(subscription, job, generations):
                for event in events:
                    wire = event.encoded(
                        f"json:transform:{base}", lambda told: event_json(told, base)
                    )
                    await websocket.send_text(wire.decode())
            await websocket.close(1000 if job is not None else 1012)
        except SlowSubscriber as error:
            await websocket.close(1013, error.message)
        except (WebSocketDisconnect, RuntimeError):
            # starlette raises either when the client has gone in the middle of a send.
            return
        finally:
            listening.cancel()


async def _until_gone(websocket: WebSocket, subscription: Subscription) -> None:
    """Read and drop what the client says (this dialect has nothing to say), until it goes."""
    with suppress(WebSocketDisconnect, RuntimeError):
        while (await websocket.receive())["type"] != "websocket.disconnect":
            pass
    subscription.close()
