"""Live progress of a task or of a user's tasks, over server-sent events and WebSocket."""

from collections.abc import Callable
from typing import Annotated

from fastapi import APIRouter, Header, Path, Query, Request, WebSocket
from fastapi.responses import Response

from atelier.api.addresses import base_url
from atelier.api.documents import PROBLEMS, PROBLEMS_OF_ONE, SSE
from atelier.api.problems import problem_response
from atelier.api.sockets import UpdateSocket
from atelier.api.streams import EventStream, OpenStreams, encode_sse, resume_id
from atelier.api.transform.render import event_json
from atelier.events import Event
from atelier.jobs.job import TERMINAL
from atelier.service import Services

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
        responses={**PROBLEMS_OF_ONE, **SSE},
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
        responses={**PROBLEMS, 200: SSE[200]},
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

    def socket(websocket: WebSocket) -> UpdateSocket:
        base = base_url(websocket, public_url)
        return UpdateSocket(
            websocket,
            generations,
            streams,
            form=f"json:transform:{base}",
            encode=lambda event: event_json(event, base),
            refuse=problem_response,
        )

    @router.websocket("/task/{task_id}/ws")
    async def task_socket(
        websocket: WebSocket,
        task_id: TaskId,
        previews: Previews = False,
        resume_after: ResumeAfter = None,
    ) -> None:
        await socket(websocket).run(job=task_id, previews=previews, after=resume_after)

    @router.websocket("/user/{user_id}/ws")
    async def user_socket(
        websocket: WebSocket, user_id: UserId, resume_after: ResumeAfter = None
    ) -> None:
        await socket(websocket).run(user=user_id, after=resume_after)
