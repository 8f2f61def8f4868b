"""Live progress of a task or of a user's tasks, over server-sent events and WebSocket."""

from typing import Annotated

from fastapi import APIRouter, Path, Request, WebSocket
from fastapi.responses import Response

from atelier.api.documents import PROBLEMS, PROBLEMS_OF_ONE, SSE
from atelier.api.live import LastEventId, Live, Previews, ResumeAfter
from atelier.api.problems import problem_response
from atelier.api.streams import OpenStreams
from atelier.api.transform.render import event_json
from atelier.service import Services

TaskId = Annotated[str, Path(max_length=100)]
UserId = Annotated[str, Path(min_length=1, max_length=200)]


def add_streams(
    router: APIRouter, services: Services, streams: OpenStreams, public_url: str | None
) -> None:
    live = Live(
        "transform", services.generations, streams, public_url, event_json, problem_response
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
        return live.user(request, user_id, last_event_id, resume_after)

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
        return await live.job(request, task_id, last_event_id, resume_after, previews=previews)

    @router.websocket("/user/{user_id}/ws")
    async def user_socket(
        websocket: WebSocket, user_id: UserId, resume_after: ResumeAfter = None
    ) -> None:
        await live.socket(websocket).run(user=user_id, after=resume_after)

    @router.websocket("/task/{task_id}/ws")
    async def task_socket(
        websocket: WebSocket,
        task_id: TaskId,
        previews: Previews = False,
        resume_after: ResumeAfter = None,
    ) -> None:
        await live.socket(websocket).run(job=task_id, previews=previews, after=resume_after)
