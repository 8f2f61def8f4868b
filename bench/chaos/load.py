"""Callers: they submit with idempotency keys, try again for as long as it takes, and cancel."""

import asyncio
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import aiohttp
import orjson

from bench.chaos.plan import Work

PAUSE_SECONDS = 0.25
REQUEST_SECONDS = 15.0


@dataclass(slots=True)
class Ledger:
    """What callers were told. ``accepted``: mark -> id; ``cancels``: mark -> epoch s asked at."""

    accepted: dict[str, str] = field(default_factory=dict)
    # Where one key gave two ids: marks.
    split: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    cancels: dict[str, float] = field(default_factory=dict)
    queued_cancel_seconds: list[float] = field(default_factory=list)
    tries: int = 0
    away: int = 0  # answers 503, each of them with Retry-After
    without_retry_after: int = 0


class Callers:
    def __init__(self, urls: Sequence[str], key: str, rng: random.Random) -> None:
        self.ledger = Ledger()
        self._urls = list(urls)
        self._key = key
        self._rng = rng
        self._cancelling: set[asyncio.Task[None]] = set()

    async def run(self, jobs: Sequence[Work], *, seconds: float, at_once: int = 16) -> None:
        """Submit all, evenly over ``seconds``; later where that can't be kept up."""
        began = time.monotonic()
        places = asyncio.Semaphore(at_once)
        timeout = aiohttp.ClientTimeout(total=REQUEST_SECONDS)
        connector = aiohttp.TCPConnector(limit=64)
        async with aiohttp.ClientSession(timeout=timeout, connector=connector) as session:
            async with asyncio.TaskGroup() as group:
                for number, job in enumerate(jobs):
                    due = began + number * seconds / len(jobs)
                    await asyncio.sleep(max(0.0, due - time.monotonic()))
                    await places.acquire()
                    group.create_task(self._submit(session, job, places))
            await asyncio.gather(*self._cancelling)

    async def _submit(
        self, session: aiohttp.ClientSession, job: Work, places: asyncio.Semaphore
    ) -> None:
        try:
            for _ in range(2 if job.replayed else 1):
                id = await self._until_accepted(session, job)
                if id is None:
                    return
                if self.ledger.accepted.setdefault(job.mark, id) != id:
                    self.ledger.split.append(job.mark)
        finally:
            places.release()
        if job.cancel_after is not None:
            task = asyncio.create_task(self._cancel(session, job, id))
            self._cancelling.add(task)
            task.add_done_callback(self._cancelling.discard)

    async def _until_accepted(self, session: aiohttp.ClientSession, job: Work) -> str | None:
        graph = {
            "1": {
                "class_type": "NullWork",
                "inputs": {"mark": job.mark, "milliseconds": job.milliseconds},
            },
            "2": {
                "class_type": "SaveImage",
                "inputs": {"images": ["1", 0], "filename_prefix": job.mark},
            },
        }
        body = orjson.dumps({"workflow": graph, "user": self._user(job), "max_attempts": 10})
        headers = {
            "Content-Type": "application/json",
            "Idempotency-Key": f"{self._key}-{job.mark}",
        }
        while True:
            answer = await self._ask(session, "/v1/jobs", body, headers)
            if answer is not None:
                status, said = answer
                if status in (200, 202):
                    return str(orjson.loads(said)["id"])
                if status < 500 and status != 429:
                    self.ledger.refused.append(said.decode(errors="replace")[:300])
                    return None
            await asyncio.sleep(PAUSE_SECONDS * self._rng.uniform(0.5, 1.5))

    async def _cancel(self, session: aiohttp.ClientSession, job: Work, id: str) -> None:
        await asyncio.sleep(job.cancel_after or 0)
        self.ledger.cancels[job.mark] = time.time()
        while True:
            began = time.monotonic()
            answer = await self._ask(session, f"/v1/jobs/{id}/cancel", b"", {})
            if answer is not None and answer[0] < 500:
                said = orjson.loads(answer[1])
                if said.get("status") == "cancelled" and said.get("started_at") is None:
                    self.ledger.queued_cancel_seconds.append(time.monotonic() - began)
                return
            await asyncio.sleep(PAUSE_SECONDS)

    async def _ask(
        self, session: aiohttp.ClientSession, path: str, body: bytes, headers: dict[str, str]
    ) -> tuple[int, bytes] | None:
        """Status and answer of one POST; None where there was none."""
        self.ledger.tries += 1
        url = self._rng.choice(self._urls)
        try:
            async with session.post(f"{url}{path}", data=body, headers=headers) as response:
                if response.status == 503:
                    self.ledger.away += 1
                    self.ledger.without_retry_after += "Retry-After" not in response.headers
                return response.status, await response.read()
        except (aiohttp.ClientError, TimeoutError, OSError):
            return None

    @staticmethod
    def _user(job: Work) -> str:
        return f"user{int(job.mark[1:]) % 7}"
