"""A task's or a user's updates, over server-sent events and WebSocket, as a dialect words them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

from fastapi import Header, Query, Request, WebSocket
from fastapi.responses import Response

from atelier.api.addresses import base_url
from atelier.api.problems import Problem
from atelier.api.sockets import UpdateSocket
from atelier.api.streams import EventStream, OpenStreams, encode_sse, resume_id
from atelier.events import Event
from atelier.jobs.job import TERMINAL
from atelier.service import Generations

LastEventId = Annotated[str | None, Header(alias="Last-Event-ID")]
ResumeAfter = Annotated[
    str | None, Query(alias="last_event_id", description="Where no header can be set.")
]
Previews = Annotated[bool, Query(description="Pictures of the work so far, too.")]


@dataclass(frozen=True, slots=True)
class Live:
    """``encode`` words an event, given the base of addresses; ``refuse`` an error.

    ``dialect`` names the wording, which is made once for all who listen to the same.
    """

    dialect: str
    generations: Generations
    streams: OpenStreams
    public_url: str | None
    encode: Callable[[Event, str], bytes]
    refuse: Callable[[Problem, str], Response]

    async def job(
        self, request: Request, job: str, last: str | None, after: str | None, *, previews: bool
    ) -> Response:
        """Events until the job has ended. Raises JobUnknown."""
        view = await self.generations.get(job)
        since, told_the_end = resume_id(last, after)
        if told_the_end and view.job.status in TERMINAL:
            # The one answer that makes a browser stop connecting again.
            return Response(status_code=204)
        base = base_url(request, self.public_url)
        return EventStream(
            self.streams,
            lambda: self.generations.follow(job=job, last_event_id=since, previews=previews),
            lambda event: encode_sse(event, self.encode(event, base)),
            form=f"sse:{self.dialect}:{base}",
            job=job,
            generations=self.generations,
        )

    def user(self, request: Request, user: str, last: str | None, after: str | None) -> Response:
        """Events of all jobs of a user; they don't end by themselves."""
        since, _ = resume_id(last, after)
        base = base_url(request, self.public_url)
        return EventStream(
            self.streams,
            lambda: self.generations.follow(user=user, last_event_id=since),
            lambda event: encode_sse(event, self.encode(event, base)),
            form=f"sse:{self.dialect}:{base}",
        )

    def socket(self, websocket: WebSocket) -> UpdateSocket:
        base = base_url(websocket, self.public_url)
        return UpdateSocket(
            websocket,
            self.generations,
            self.streams,
            form=f"json:{self.dialect}:{base}",
            encode=lambda event: self.encode(event, base),
            refuse=self.refuse,
        )
