"""A WebSocket on which a job's or a user's updates are told; what the client says is dropped."""

import asyncio
from collections.abc import Callable
from contextlib import suppress

from fastapi import WebSocket
from fastapi.responses import Response
from starlette.websockets import WebSocketDisconnect

from atelier.api.problems import Problem, problem_of
from atelier.api.streams import OpenStreams, batches, resume_id
from atelier.errors import AtelierError
from atelier.events import Event, SlowSubscriber, Subscription
from atelier.service import Generations


class UpdateSocket:
    """``form`` names what ``encode`` makes, so that it is made once for all who listen in it;
    ``refuse`` renders an error as the dialect does.
    """

    def __init__(
        self,
        websocket: WebSocket,
        generations: Generations,
        streams: OpenStreams,
        *,
        form: str,
        encode: Callable[[Event], bytes],
        refuse: Callable[[Problem, str], Response],
    ) -> None:
        self._websocket = websocket
        self._generations = generations
        self._streams = streams
        self._form = form
        self._encode = encode
        self._refuse = refuse

    async def run(
        self,
        *,
        job: str | None = None,
        user: str | None = None,
        previews: bool = False,
        after: str | None = None,
    ) -> None:
        """Serve the socket until ``job`` has ended or either side goes."""
        last, _ = resume_id(None, after)
        following = self._generations.follow(
            job=job, user=user, last_event_id=last, previews=previews
        )
        try:
            async with self._streams.follow(following) as subscription:
                await self._websocket.accept()
                await self._forward(subscription, job)
        except AtelierError as error:
            # Before it is accepted, a socket can still be answered as a request.
            await self._websocket.send_denial_response(
                self._refuse(problem_of(error), self._websocket.url.path)
            )

    async def _forward(self, subscription: Subscription, job: str | None) -> None:
        socket = self._websocket
        listening = asyncio.create_task(self._until_gone(subscription))
        try:
            async for events in batches(subscription, job, self._generations):
                for event in events:
                    await socket.send_text(event.encoded(self._form, self._encode).decode())
            await socket.close(1000 if job is not None else 1012)
        except SlowSubscriber as error:
            await socket.close(1013, error.message)
        except (WebSocketDisconnect, RuntimeError):
            # starlette raises either when the client has gone in the middle of a send.
            return
        finally:
            listening.cancel()

    async def _until_gone(self, subscription: Subscription) -> None:
        with suppress(WebSocketDisconnect, RuntimeError):
            while (await self._websocket.receive())["type"] != "websocket.disconnect":
                pass
        subscription.close()
