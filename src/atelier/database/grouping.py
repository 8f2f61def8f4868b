"""Calls that come while a transaction is under way are done together in the next one."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from sqlalchemy.ext.asyncio import AsyncConnection

from atelier.database.errors import DatabaseUnavailable

A = TypeVar("A")
R = TypeVar("R")
Work = Callable[[AsyncConnection], Awaitable[Sequence[R | Exception]]]
Run = Callable[[Work[R]], Awaitable[Sequence[R | Exception]]]
WorkOnMany = Callable[[AsyncConnection, Sequence[A]], Awaitable[Sequence[R | Exception]]]

MOST = 64  # more would keep rows locked for long, and win little


class Grouped(Generic[A, R]):
    """``await grouped(item)``: what ``work`` answers for it, once that is committed.

    Nobody waits for others to come: an item is done at once, alone, unless a transaction is
    under way; then with all that have come by its end, up to ``most``, in order of arrival.
    ``work`` gets a connection and the items and gives an answer for each; an exception among them
    is raised for that caller alone. Where ``work`` itself raises, each item is tried by itself,
    so that the others don't suffer. It may run again, as for ``Database.run``.

    ``settle`` is awaited by each caller after the commit, before the answer.

    A caller who is cancelled before his item's transaction began is left out of it; after that
    the item is done all the same.
    """

    def __init__(
        self,
        run: Run[R],
        work: WorkOnMany[A, R],
        *,
        settle: Callable[[], Awaitable[None]] | None = None,
        most: int = MOST,
    ) -> None:
        self._run = run
        self._settle = settle
        self._work = work
        self._most = most
        self._waiting: deque[tuple[A, asyncio.Future[R]]] = deque()
        self._task: asyncio.Task[None] | None = None

    async def __call__(self, item: A) -> R:
        answer: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, answer))
        if self._task is None:
            self._task = asyncio.create_task(self._do_all(), name="grouped")
        done = await answer
        if self._settle is not None:
            # The next transaction needn't wait for that.
            await self._settle()
        return done

    async def close(self) -> None:
        """Wait for what is under way."""
        if self._task is not None:
            await asyncio.wait([self._task])

    async def _do_all(self) -> None:
        group: list[tuple[A, asyncio.Future[R]]] = []
        try:
            while self._waiting:
                group = []
                while self._waiting and len(group) < self._most:
                    item, answer = self._waiting.popleft()
                    if not answer.done():
                        group.append((item, answer))
                if group:
                    await self._do(group)
        finally:
            self._task = None
            # Only where this task itself is cancelled is there anything left.
            for _, answer in (*group, *self._waiting):
                answer.cancel()
            self._waiting.clear()

    async def _do(self, group: Sequence[tuple[A, asyncio.Future[R]]]) -> None:
        items = [item for item, _ in group]
        try:
            answers = await self._run(lambda connection: self._work(connection, items))
        except DatabaseUnavailable as error:
            answers = [error] * len(group)
        except Exception as error:  # noqa: BLE001  (it is raised where the caller waits)
            if len(group) > 1:
                for one in group:
                    await self._do([one])
                return
            answers = [error]
        for (_, waiting), answer in zip(group, answers, strict=True):
            if waiting.done():
                continue
            if isinstance(answer, Exception):
                waiting.set_exception(answer)
            else:
                waiting.set_result(answer)
