"""Which instances there are, and which of them this process serves, as the database has it."""

import asyncio
import contextlib
import random
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Self

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from atelier.comfy.object_info import ObjectInfo
from atelier.database import Database, DatabaseUnavailable
from atelier.pool.breaker import Circuit
from atelier.pool.instance import Instance
from atelier.pool.packing import pack, unpack
from atelier.pool.pool import Pool
from atelier.pool.roster import LEASE_MS, Entry, Held, Roster, Row
from atelier.pool.sharing import Seen, decide

# Its own: the module's is seeded by who wants to repeat things.
_CHANCE = random.Random()

log = structlog.get_logger(__name__)

LOOK_SECONDS = 1.0
RENEW_SECONDS = 3.0
CONFIGURE_SECONDS = 30.0  # what another process has forgotten by mistake comes back
FORGET_SECONDS = 600.0
ORPHAN_SECONDS = 5.0  # without a driver for so long, it is taken whatever our part
LEAVE_SECONDS = 2.0  # for the database to take note that we go


class Membership:
    """``async with`` keeps ``pool`` as the roster has it.

    The instances that were added to the pool before are recorded as configured here. As a
    ``worker``, an even part of all is driven; else they are only known. ``client_id`` makes the
    WebSocket client id for a URL, ``now_ms`` is the time of day.
    """

    def __init__(
        self,
        pool: Pool,
        *,
        database: Database,
        name: str,
        host: str,
        worker: bool,
        client_id: Callable[[str], str],
        now_ms: Callable[[], int],
        lease_ms: int = LEASE_MS,
    ) -> None:
        self._pool = pool
        self._database = database
        self._roster = Roster(database.dialect)
        self._name = name
        self._host = host
        self._worker = worker
        self._client_id = client_id
        self._now_ms = now_ms
        self._lease_ms = lease_ms
        self._renew_seconds = min(RENEW_SECONDS, lease_ms / 5000)
        self._orphan_seconds = min(ORPHAN_SECONDS, lease_ms / 3000)
        self._configured = tuple(pool.instances)
        self._leases: dict[str, int] = {}
        self._lost: set[str] = set()
        self._orphans: dict[str, float] = {}  # since when nobody drives them
        self._infos: dict[str, ObjectInfo] = {}
        self._kept: set[str] = set()  # capabilities that are in the database
        self._due: dict[str, float] = {}
        self._looking: asyncio.Task[None] | None = None
        self._reported: dict[str, tuple[str, Circuit]] = {}
        self._news = asyncio.Event()
        self._lock = asyncio.Lock()

    async def __aenter__(self) -> Self:
        ids = [one.id for one in self._configured]

        async def work(conn: AsyncConnection) -> None:
            await self._roster.unconfigure(conn, self._name, keep=ids)

        await self._database.run(work, durable=False)
        if self._worker:
            self._pool.on_change(self._note_news)
        # Here, so that who comes up next finds the instances in the pool.
        await self.look()
        self._looking = asyncio.create_task(self._look_forever(), name="membership")
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._looking is not None:
            self._looking.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._looking
        for instance in self._pool.instances:
            await instance.__aexit__(kind, error, traceback)
        if self._worker:
            # Without this the leases run out by themselves.
            with contextlib.suppress(DatabaseUnavailable):
                await self._database.run(
                    lambda conn: self._roster.leave(conn, self._name),
                    durable=False,
                    attempts_seconds=LEAVE_SECONDS,
                )

    async def look(self) -> None:
        """See what there is now, and do what follows. Raises DatabaseUnavailable."""
        async with self._lock:
            if self._is_due("configure", CONFIGURE_SECONDS):
                await self._configure()
            if self._worker and self._is_due("renew", self._renew_seconds):
                await self._renew()
            async with self._database.read() as conn:
                rows = await self._roster.rows(conn)
                workers = await self._roster.workers(conn) if self._worker else {}
            await self._learn(rows)
            await self._follow(rows)
            if self._worker:
                await self._share(rows, workers)
                if self._is_due("forget", FORGET_SECONDS):
                    await self._database.run(self._roster.forget, durable=False)

    async def _look_forever(self) -> None:
        while True:
            # Not for secrets: so that many processes don't look in step.
            pause = LOOK_SECONDS * _CHANCE.uniform(0.8, 1.2)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._news.wait()
            self._news.clear()
            try:
                await self.look()
            except DatabaseUnavailable as error:
                log.warning("the database is away", reason=error.message)
            except Exception:
                log.exception("looking after the instances failed in a way nobody foresaw")

    def _note_news(self) -> None:
        """Report at once what others wait for: that an instance came, went, or can't be trusted."""
        states: dict[str, tuple[str, Circuit]] = {
            one.id: (one.state, one.circuit) for one in self._pool.driven()
        }
        if states != self._reported:
            self._reported = states
            self._due["renew"] = 0.0
            self._news.set()

    def _is_due(self, what: str, seconds: float) -> bool:
        now = time.monotonic()
        if now < self._due.get(what, 0.0):
            return False
        self._due[what] = now + seconds
        return True

    # -- recording -----------------------------------------------------------------------------

    async def _configure(self) -> None:
        entries = [
            Entry(one.id, one.url, origin=one.origin, host=one.host) for one in self._configured
        ]
        if entries:
            await self._database.run(
                lambda conn: self._roster.configure(conn, entries, worker=self._name),
                durable=False,
            )

    async def _renew(self) -> None:
        driven = {one.id: one for one in self._pool.driven() if one.id in self._leases}
        for instance in driven.values():
            await self._keep_capabilities(instance)
        now_ms = self._now_ms()
        held = [
            Held(
                one.id,
                self._leases[one.id],
                one.report(now_ms),
                _known(one) if _known(one) in self._kept else None,
            )
            for one in driven.values()
        ]

        async def work(conn: AsyncConnection) -> frozenset[str]:
            await self._roster.attend(
                conn,
                self._name,
                self._host,
                lease_ms=self._lease_ms,
            )
            return await self._roster.renew(
                conn,
                self._name,
                held,
                lease_ms=self._lease_ms,
            )

        for id in await self._database.run(work, durable=False):
            log.warning("another worker took this instance over", instance=id)
            # Its runs here have leases of their own, and end as these say.
            self._lost.add(id)
            self._leases.pop(id, None)
            driven[id].leaving = True

    async def _keep_capabilities(self, instance: Instance) -> None:
        info, hash = instance.object_info, _known(instance)
        if info is None or hash is None or hash in self._kept:
            return
        body = await asyncio.to_thread(pack, info)
        await self._database.run(
            lambda conn: self._roster.keep_capabilities(conn, hash, body), durable=False
        )
        self._infos[hash] = info
        self._kept.add(hash)

    # -- following -----------------------------------------------------------------------------

    async def _learn(self, rows: Sequence[Row]) -> None:
        """Load what instances can run that other workers serve, once for each state of it."""
        wanted = {row.capabilities for row in rows if row.capabilities is not None}
        for hash in wanted - self._infos.keys():
            async with self._database.read() as conn:
                body = await self._roster.capabilities(conn, hash)
            if body is not None:
                self._infos[hash] = await asyncio.to_thread(unpack, body)
                self._kept.add(hash)
        for hash in self._infos.keys() - wanted - {_known(one) for one in self._pool.driven()}:
            del self._infos[hash]

    async def _follow(self, rows: Sequence[Row]) -> None:
        changed = False
        for row in rows:
            instance = self._pool.get(row.id)
            if instance is not None and instance.url != row.url and not instance.driven:
                # Somebody gave it another address.
                await self._pool.remove(row.id)
                instance = None
            if instance is None:
                instance = self._pool.add(
                    row.url,
                    self._client_id(row.url),
                    id=row.id,
                    embedded=row.origin == "embedded",
                    origin=row.origin,
                    host=row.host,
                )
                changed = True
            instance.is_near = row.host in (None, self._host)
            changed |= instance.recall(row, self._infos.get(row.capabilities or ""))
        there = {row.id for row in rows}
        for instance in self._pool.instances:
            if instance.id in there:
                continue
            if instance.driven:
                self._lost.add(instance.id)
                instance.leaving = True
            else:
                await self._pool.remove(instance.id)
        if changed:
            self._pool.tell_listeners()

    # -- sharing -------------------------------------------------------------------------------

    async def _share(self, rows: Sequence[Row], workers: dict[str, str]) -> None:
        workers[self._name] = self._host
        seen = [Seen(row.id, row.host, row.driver) for row in rows if row.wanted != "removed"]
        now = time.monotonic()
        free = {one.id for one in seen if one.driver is None}
        self._orphans = {id: self._orphans.get(id, now) for id in free}
        decision = decide(
            self._name,
            seen,
            workers,
            held=self._leases.keys(),
            orphans={
                id for id, since in self._orphans.items() if now - since > self._orphan_seconds
            },
        )
        removed = {row.id for row in rows if row.wanted == "removed"}
        for instance in self._pool.driven():
            id = instance.id
            instance.leaving = id in self._lost or id in removed or id in decision.leave
            moved = any(row.id == id and row.url != instance.url for row in rows)
            if (instance.leaving or moved) and not instance.usage.work.jobs:
                await self._let_go(instance)
        for id in decision.take:
            await self._take(id)

    async def _take(self, id: str) -> None:
        instance = self._pool.get(id)
        if instance is None or instance.driven:
            return
        lease = await self._database.run(
            lambda conn: self._roster.take(conn, id, self._name, lease_ms=self._lease_ms),
            durable=False,
        )
        if lease is None:
            return
        self._leases[id] = lease
        instance.driver = self._name
        log.info("serving an instance", instance=id, lease=lease)
        await self._pool.drive(instance)

    async def _let_go(self, instance: Instance) -> None:
        id, lease = instance.id, self._leases.pop(instance.id, None)
        self._lost.discard(id)
        log.info("letting go of an instance", instance=id, wanted=instance.wanted)
        await self._pool.let_go(instance)
        if lease is not None:
            await self._database.run(
                lambda conn: self._roster.release(conn, id, self._name, lease), durable=False
            )


def _known(instance: Instance) -> str | None:
    return None if instance.object_info is None else instance.object_info.revision
