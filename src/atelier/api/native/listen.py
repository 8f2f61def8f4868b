"""/v1/events: a user's events, and many subscriptions over one WebSocket."""

from typing import Annotated

from fastapi import APIRouter, Header, Query, WebSocket
from fastapi.responses import Response

from atelier.api.documents import PROBLEMS, SSE
from atelier.api.native.render import event_json
from atelier.api.native.socket import EventSocket
from atelier.api.streams import EventStream, OpenStreams, encode_sse, resume_id
from atelier.service import Services


def events_router(services: Services, streams: OpenStreams) -> APIRouter:
    router = APIRouter(prefix="/v1/events", tags=["events"], responses=PROBLEMS)

    @router.get(
        "",
        response_class=Response,
        responses={200: SSE[200]},
        summary="Listen to a user's jobs",
    )
    async def user_events(
        user: Annotated[str, Query(min_length=1, max_length=200)],
        last_event_id: Annotated[str | None, Header(alias="Last-Event-ID")] = None,
        resume_after: Annotated[
            str | None, Query(alias="last_event_id", description="Where no header can be set.")
        ] = None,
    ) -> Response:
        """Server-sent events of all jobs of this user; it doesn't end by itself."""
        last, _ = resume_id(last_event_id, resume_after)
        return EventStream(
            streams,
            lambda: services.generations.follow(user=user, last_event_id=last),
            lambda event: encode_sse(event, event_json(event)),
            form="sse:native",
        )

    @router.websocket("")
    async def events_socket(websocket: WebSocket) -> None:
        await EventSocket(websocket, services.generations, streams).run()

    return router
