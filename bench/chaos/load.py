"""Jobs submitted as a careful client does: one key each, tried again until it is answered."""

import asyncio
import itertools
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import aiohttp

USERS = 8
ANSWER_SECONDS = 10.0
BACKLOG = 80  # jobs
AGAIN = (429, 500, 502, 503, 504)


@dataclass(slots=True)
class Cancel:
    """One cancel that was answered: when it was sent and answered, and what the answer said."""

    job: str
    sent: float
    answered: float
    status: str


@dataclass(slots=True)
class Load:
    """``accepted``: id by number. A number's mark in the engines' journals is ``chaos/N``."""

    api_urls: Sequence[str]
    rng: random.Random
    accepted: dict[int, str] = field(default_factory=dict)
    refused: list[str] = field(default_factory=list)
    repeats: int = 0
    cancels: list[Cancel] = field(default_factory=list)
    ids_changed: int = 0
    ended: int = 0  # as far as is known

    async def submit(
        self, count: int, *, per_second: float, session: aiohttp.ClientSession
    ) -> None:
        """Submit ``count`` jobs at this rate at most; returns when all are answered for good.

        Slower where more than ``BACKLOG`` are under way: a machine that is late gets no later.
        """
        async with asyncio.TaskGroup() as tasks:
            for number in range(count):
                while number - self.ended > BACKLOG:  # noqa: ASYNC110 - it is told by polling
                    await asyncio.sleep(0.1)
                tasks.create_task(self._submit(number, session))
                await asyncio.sleep(1 / per_second)

    async def _submit(self, number: int, session: aiohttp.ClientSession) -> None:
        size = {"width": 64, "height": 64, "batch_size": 1}
        graph = {
            "1": {"class_type": "EmptyImage", "inputs": {**size, "color": number}},
            "2": {
                "class_type": "SaveImage",
                "inputs": {"filename_prefix": f"chaos/{number}", "images": ["1", 0]},
            },
        }
        body = {"workflow": graph, "user": f"user{number % USERS}", "cache": False}
        headers = {"Idempotency-Key": f"chaos-{number}"}
        for attempt in itertools.count():
            url = self.rng.choice(self.api_urls)
            answer = await self._ask(session, "POST", f"{url}/v1/jobs", headers, body)
            if answer is not None:
                status, told = answer
                if status in (200, 202):
                    self.accepted[number] = told["id"]
                    # A client that lost the answer asks again: it has to be the same job.
                    if attempt == 0 and self.rng.random() < 0.05:
                        await self._ask_twice(session, url, headers, body, told["id"])
                    return
                if status not in AGAIN:
                    self.refused.append(f"{status}: {str(told)[:300]}")
                    return
            self.repeats += 1
            await asyncio.sleep(min(0.1 * 2 ** min(attempt, 5), 2) * self.rng.uniform(0.5, 1))

    async def _ask_twice(
        self, session: aiohttp.ClientSession, url: str, headers: Any, body: Any, id: str
    ) -> None:
        answer = await self._ask(session, "POST", f"{url}/v1/jobs", headers, body)
        if answer is not None and answer[0] in (200, 202) and answer[1]["id"] != id:
            self.ids_changed += 1

    async def cancel(self, session: aiohttp.ClientSession, running: Sequence[str] = ()) -> None:
        """Cancel one of ``running``, else of the latest: that may wait, run, or have ended."""
        if not self.accepted:
            return
        latest = list(itertools.islice(reversed(self.accepted.values()), 40))
        known = set(self.accepted.values())
        job = self.rng.choice([id for id in running if id in known] or latest)
        url = self.rng.choice(self.api_urls)
        sent = time.time()
        answer = await self._ask(session, "POST", f"{url}/v1/jobs/{job}/cancel", {}, None)
        if answer is not None and answer[0] in (200, 202):
            self.cancels.append(Cancel(job, sent, time.time(), answer[1].get("status", "")))

    async def _ask(
        self, session: aiohttp.ClientSession, method: str, url: str, headers: Any, body: Any
    ) -> tuple[int, Any] | None:
        """Status and body; None where no answer came."""
        timeout = aiohttp.ClientTimeout(total=ANSWER_SECONDS, sock_connect=2)
        try:
            async with session.request(
                method, url, headers=headers, json=body, timeout=timeout
            ) as response:
                return response.status, await response.json(content_type=None)
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError):
            return None
