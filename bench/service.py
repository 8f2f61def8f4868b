"""atelier as a good client of it uses it."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any

import aiohttp
import orjson

USER = "bench"
PAGE = 200


class JobFailed(Exception):
    """A job was refused or didn't succeed."""


class Service:
    """One HTTP session with a running atelier."""

    def __init__(self, url: str, session: aiohttp.ClientSession) -> None:
        self._url = url
        self._session = session

    async def submit(
        self, workflow: str | Mapping[str, Any], *, wait: bool = False, **body: Any
    ) -> dict[str, Any]:
        """The job as the answer tells it, with ``wait`` the ended one. Raises JobFailed."""
        headers = {"Content-Type": "application/json"}
        if wait:
            headers["Prefer"] = "wait=60"
        request = orjson.dumps({"workflow": workflow, "user": USER, **body})
        address = f"{self._url}/v1/jobs"
        async with self._session.post(address, data=request, headers=headers) as response:
            answer: dict[str, Any] = orjson.loads(await response.read())
        if response.status not in (200, 202) or (wait and answer["status"] != "succeeded"):
            raise JobFailed(str(answer))
        return answer

    async def job(self, id: str) -> dict[str, Any]:
        async with self._session.get(f"{self._url}/v1/jobs/{id}") as response:
            response.raise_for_status()
            answer: dict[str, Any] = orjson.loads(await response.read())
            return answer

    async def jobs(self, count: int) -> list[dict[str, Any]]:
        """The newest ``count`` jobs."""
        found: list[dict[str, Any]] = []
        cursor = None
        while len(found) < count:
            params = {"user": USER, "limit": str(min(count - len(found), PAGE))}
            if cursor is not None:
                params["cursor"] = cursor
            async with self._session.get(f"{self._url}/v1/jobs", params=params) as response:
                response.raise_for_status()
                page = orjson.loads(await response.read())
            found += page["jobs"]
            cursor = page["next_cursor"]
            if cursor is None:
                break
        return found

    async def until_all_ended(self, count: int) -> list[dict[str, Any]]:
        """The newest ``count`` jobs once all have succeeded. Raises JobFailed.

        Asks for one job at a time, so that looking costs the service next to nothing.
        """
        newest = (await self.jobs(1))[0]["id"]
        while True:
            await asyncio.sleep(0.1)
            if (await self.job(newest))["finished_at"] is None:
                continue
            jobs = await self.jobs(count)
            if all(job["finished_at"] for job in jobs):
                break
        failed = [job for job in jobs if job["status"] != "succeeded"]
        if failed:
            raise JobFailed(str(failed[0]))
        return jobs

    async def upload(self, data: bytes, media_type: str) -> str:
        """The id of the asset that ``data`` becomes."""
        headers = {"Content-Type": media_type}
        async with self._session.post(
            f"{self._url}/v1/assets", data=data, headers=headers
        ) as response:
            response.raise_for_status()
            return str(orjson.loads(await response.read())["id"])

    async def workflow(self, name: str) -> dict[str, Any]:
        async with self._session.get(f"{self._url}/v1/workflows/{name}") as response:
            response.raise_for_status()
            answer: dict[str, Any] = orjson.loads(await response.read())
            return answer

    async def fetch(self, address: str) -> bytes:
        """The bytes at ``address``, as a job's outputs name it."""
        url = address if address.startswith("http") else self._url + address
        async with self._session.get(url) as response:
            response.raise_for_status()
            return await response.read()


def seconds_of(moment: str) -> float:
    """Seconds since the epoch of a time as the service writes it."""
    return datetime.fromisoformat(moment).timestamp()


@asynccontextmanager
async def connect(url: str, *, connections: int = 32) -> AsyncIterator[Service]:
    timeout = aiohttp.ClientTimeout(total=120)
    connector = aiohttp.TCPConnector(limit=connections, keepalive_timeout=60)
    async with aiohttp.ClientSession(timeout=timeout, connector=connector) as session:
        yield Service(url, session)
