"""Everything but the HTTP face: adapters picked, services wired, opened and closed in order."""

import asyncio
import contextlib
import os
import random
import secrets
import socket
import time
from collections.abc import AsyncIterator
from contextlib import (
    AbstractAsyncContextManager,
    AsyncExitStack,
    asynccontextmanager,
)
from dataclasses import dataclass
from pathlib import Path

import structlog

from atelier import __version__
from atelier.api.webhooks import native_webhook, webhook_renderers
from atelier.app.between import open_bus, open_limiter
from atelier.app.instances import configured_pool
from atelier.app.supervision import comfyui_folders
from atelier.database import Database
from atelier.errors import ConfigurationError
from atelier.events.bus import Bus
from atelier.events.redis import redis_version
from atelier.jobs.queue import JobQueue, Limits
from atelier.media.asset import is_derivative
from atelier.media.cache import DownloadCache
from atelier.media.catalog import Catalog
from atelier.media.fetch import Fetcher
from atelier.media.named_inputs import NamedInputs
from atelier.outbound import GuardedSession
from atelier.pool.membership import Membership
from atelier.pool.pool import Pool, client_id
from atelier.presence import ProcessRecord, Register, installation_id
from atelier.service import Assets, Files, Generations, Notices, Overview, Services, Workflows
from atelier.service.capabilities import Capabilities
from atelier.service.estimates import Estimates
from atelier.service.figures import Watching
from atelier.service.instances import Instances
from atelier.service.outlook import Outlook
from atelier.service.planning import Planner
from atelier.service.positions import PositionTeller
from atelier.service.presence import Presence
from atelier.service.relay import Relay
from atelier.service.standing import Standing
from atelier.settings import Settings
from atelier.storage.objects import open_store
from atelier.storage.opening import check_store, opened_store
from atelier.storage.store import Store
from atelier.telemetry import metrics
from atelier.telemetry.traces import tracing
from atelier.webhooks.deliver import Deliverer
from atelier.webhooks.outbox import Outbox
from atelier.webhooks.signing import checked_secret, new_secret
from atelier.worker.context import Context
from atelier.worker.dispatch import Dispatcher
from atelier.worker.housekeeping import Rules, sweep_forever
from atelier.worker.identity import worker_identity
from atelier.worker.spool import Spool
from atelier.workflows.library import Library

log = structlog.get_logger(__name__)

FIRST_CONTACT_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Application:
    """What runs in this process."""

    settings: Settings
    services: Services
    pool: Pool
    database: Database
    store: Store
    dispatcher: Dispatcher | None
    embedded: bool


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def check_data_dir(folder: Path) -> None:
    """Raise ConfigurationError unless files can be written in ``folder``, made if need be."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / ".writable"
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as error:
        raise ConfigurationError(
            f"The data folder {folder.absolute()} can't be written to: {error.strerror}.",
            hint="Choose another with ATELIER_DATA_DIR, or give this user the right to write.",
        ) from None


@asynccontextmanager
async def open_database(settings: Settings) -> AsyncIterator[Database]:
    """The configured database, brought up to date. Raises ConfigurationError."""
    async with await Database.open(settings.database) as database:
        await database.migrate()
        yield database


def service_url(settings: Settings) -> str:
    """Where callers reach the service, as far as a process without a request can know."""
    host = "127.0.0.1" if settings.host in ("0.0.0.0", "::", "") else settings.host
    own = f"http://{f'[{host}]' if ':' in host else host}:{settings.port}"
    return (settings.public_url or settings.server_url or own).rstrip("/")


async def webhook_secret(settings: Settings, database: Database) -> str:
    """The secret that signs webhooks: the configured one, or that of this installation.

    Raises WebhookSecretUnusable.
    """
    if settings.webhook_secret is not None:
        return checked_secret(settings.webhook_secret.get_secret_value())
    made = new_secret(secrets.token_bytes)
    return await database.run(lambda conn: Outbox().keep_secret(conn, made))


def open_configured_store(settings: Settings) -> AbstractAsyncContextManager[Store]:
    """The configured store, not yet contacted; entering raises ConfigurationError."""
    place, beside = settings.storage, settings.companion_place
    seconds = settings.storage_url_seconds
    return opened_store(
        place.url,
        place.options,
        public_url=place.public_url,
        url_seconds=seconds,
        companion=lambda: open_store(beside.url, url_seconds=seconds, **beside.options),
        elsewhere=is_derivative,
    )


async def check_redis(url: str, bus: Bus) -> None:
    """Raise RedisUnreachable, which says why, where the bus isn't connected."""
    if not bus.connected:
        await redis_version(url)


@asynccontextmanager
async def application(
    settings: Settings, *, worker: bool, embedded: bool
) -> AsyncIterator[Application]:
    """Everything but the HTTP face: opened in order, closed in the opposite one.

    ``worker``: claim and run jobs here. ``embedded``: the embedded engine may be started.
    Raises ConfigurationError with a sentence for the person who started us.
    """
    check_data_dir(settings.data_dir)
    if settings.webhook_secret is not None:
        checked_secret(settings.webhook_secret.get_secret_value())
    async with AsyncExitStack() as stack:
        database = await stack.enter_async_context(open_database(settings))
        store = await stack.enter_async_context(open_configured_store(settings))
        await check_store(store)
        # Each kind its own names: where all of a machine's processes start again at once, a worker
        # that got the name of an API process would have to wait for its old leases to run out.
        names = settings.data_dir / ("workers" if worker else "apis")
        owner = stack.enter_context(worker_identity(names))
        if not worker:
            owner = f"{owner}-api"
        metrics.build(__version__)
        if settings.otlp_endpoint:
            await stack.enter_async_context(tracing(version=__version__, instance=owner))
        new_id = secrets.token_hex(8)
        installation = await database.run(lambda conn: installation_id(conn, new_id))
        bus = await stack.enter_async_context(open_bus(settings, database, installation))
        limiter = await stack.enter_async_context(open_limiter(settings, installation))
        redis_url = settings.redis_url
        # An SQLite file is used by one machine, which may then call itself 127.0.0.1.
        host, shared = socket.gethostname(), database.dialect != "sqlite"
        pool, is_embedded, is_there = await configured_pool(
            stack, settings, owner, embedded=embedded, supervising=worker, host=host, shared=shared
        )
        membership = await stack.enter_async_context(
            Membership(
                pool,
                database=database,
                name=owner,
                host=host,
                worker=worker,
                client_id=lambda url: client_id(owner, url, base=settings.comfyui_client_id),
                now_ms=now_ms,
                lease_ms=int(settings.lease_seconds * 1000),
            )
        )
        if worker and is_there:
            await pool.wait_until_any_up(FIRST_CONTACT_SECONDS)
        folders = [settings.workflows_dir] if settings.workflows_dir else []
        library = Library(folders)
        workflows = Workflows(database=database, library=library, pool=pool)
        await workflows.refresh_registered()
        outbox = Outbox()
        guard = GuardedSession(settings.fetch_allow)
        base = service_url(settings)
        notices = Notices(
            outbox=outbox,
            check=guard.check,
            renderers=webhook_renderers(base),
            default=native_webhook(base),
        )
        limits = Limits(settings.max_queued, settings.max_queued_per_user)
        queue = JobQueue(database.dialect, on_end=notices.ended, limits=limits)
        catalog = Catalog(database.dialect)
        capabilities = Capabilities()
        rng = random.Random()
        estimates = Estimates(now_ms=now_ms)
        standing = Standing(pool, capabilities, estimates)
        outlook = Outlook(
            database=database,
            queue=queue,
            standing=standing,
            capabilities=capabilities,
            estimates=estimates,
            max_running=settings.max_running_per_user or None,
        )
        assets = Assets(database=database, catalog=catalog, store=store)
        files = Files(
            database=database,
            queue=queue,
            names=NamedInputs(database.dialect),
            assets=assets,
            wait=lambda job, seconds: generations.wait(job, seconds),
        )
        dispatcher: Dispatcher | None = None
        overview = Overview(
            database=database,
            queue=queue,
            store=store,
            library=library,
            pool=pool,
            capabilities=capabilities,
            running_jobs=lambda: dispatcher.running if dispatcher else 0,
            check_redis=None if redis_url is None else lambda: check_redis(redis_url, bus),
        )
        planner = Planner(library=library, pool=pool, capabilities=capabilities, rng=rng)
        relay = Relay(
            database=database,
            queue=queue,
            bus=bus,
            worker=owner if worker else None,
            own=lambda: dispatcher.running_ids if dispatcher else (),
        )
        generations = Generations(
            database=database,
            queue=queue,
            catalog=catalog,
            planner=planner,
            workflows=workflows,
            assets=assets,
            bus=bus,
            estimates=estimates,
            outlook=outlook,
            notices=notices,
            waiting_because=overview.waiting_because,
            on_accepted=relay.expect,
            files=files,
            weights=settings.user_weights,
        )
        instances = Instances(
            database=database,
            pool=pool,
            host=host,
            shared=shared,
            look=membership.look,
            now_ms=now_ms,
        )
        spool = Spool(settings.data_dir / "spool", max_bytes=settings.spool_mb * 1_000_000)
        watching = Watching(
            database=database,
            queue=queue,
            pool=pool,
            bus=bus,
            running_jobs=lambda: dispatcher.running if dispatcher else 0,
            spool=spool.used if worker else None,
        )
        pool.on_change(bus.wake)
        if worker:
            session = await stack.enter_async_context(GuardedSession(settings.fetch_allow))
            cache = download_cache(settings) if settings.download_cache_mb else None
            context = Context(
                worker=owner,
                database=database,
                queue=queue,
                catalog=catalog,
                store=store,
                fetcher=Fetcher(session, cache=cache),
                workflows=workflows,
                capabilities=capabilities,
                estimates=estimates,
                standing=standing,
                pool=pool,
                bus=bus,
                clock=time.monotonic,
                now_ms=now_ms,
                rng=rng,
                job_timeout_seconds=settings.job_timeout_seconds,
                lease_ms=int(settings.lease_seconds * 1000),
                spool=spool,
            )
            deliverer = Deliverer(
                database=database,
                outbox=outbox,
                session=await stack.enter_async_context(guard),
                secret=await webhook_secret(settings, database),
                now_seconds=lambda: now_ms() // 1000,
                rng=rng,
            )
            # It goes after the dispatcher, whose last jobs may be told yet.
            await stack.enter_async_context(_background(deliverer.run(), "webhooks"))
            dispatcher = await stack.enter_async_context(
                Dispatcher(
                    context,
                    capacity=lambda instances: _capacity(settings, instances),
                    max_running_per_user=settings.max_running_per_user or None,
                    grace_seconds=settings.grace_seconds,
                )
            )
            sweeping = sweep_forever(context, housekeeping_rules(settings, embedded=is_embedded))
            await stack.enter_async_context(_background(sweeping, "sweep"))
        # Beside a worker too: others may share the database, and run what is listened to here.
        await stack.enter_async_context(_background(relay.run(), "relay"))
        await stack.enter_async_context(_background(workflows.run(), "workflows"))
        presence = Presence(
            database=database,
            register=Register(),
            me=ProcessRecord(
                id=owner,
                role="api" if not worker else "up" if embedded else "worker",
                host=socket.gethostname(),
                pid=os.getpid(),
                version=__version__,
                running=0,
            ),
            running=lambda: dispatcher.running if dispatcher else 0,
        )
        await stack.enter_async_context(presence.shown())
        positions = PositionTeller(database=database, queue=queue, bus=bus, outlook=outlook)
        await stack.enter_async_context(_background(positions.run(), "positions"))
        yield Application(
            settings=settings,
            services=Services(
                generations,
                assets,
                overview,
                workflows,
                files,
                instances,
                presence,
                watching,
                limiter,
            ),
            pool=pool,
            database=database,
            store=store,
            dispatcher=dispatcher,
            embedded=is_embedded,
        )


def download_cache(settings: Settings) -> DownloadCache:
    return DownloadCache(
        settings.data_dir / "downloads", max_bytes=settings.download_cache_mb * 1_000_000
    )


def housekeeping_rules(settings: Settings, *, embedded: bool) -> Rules:
    """What is swept here; ``embedded``: the embedded engine runs for this process."""
    engine = settings.data_dir / "engine" if embedded else None
    comfyuis = comfyui_folders(settings)
    folders = (
        settings.comfyui_input_folder,
        engine and engine / "input",
        *(folder / "input" for folder in comfyuis),
    )
    return Rules(
        job_hours=settings.task_cleanup_hours,
        input_hours=settings.input_hours,
        output_days=settings.output_days,
        # The folder in our data folder is nobody else's; of others we can't know.
        own_store=settings.storage.url == str((settings.data_dir / "storage").absolute()),
        input_folders=tuple(folder for folder in folders if folder is not None),
        engine=engine,
        comfyuis=comfyuis,
        downloads=download_cache(settings),
    )


def _capacity(settings: Settings, instances: int) -> int:
    if settings.seats_are_fixed:
        return settings.max_concurrent_tasks
    return max(settings.max_concurrent_tasks, 5 * instances)


@asynccontextmanager
async def _background(work: "asyncio._CoroutineLike[None]", name: str) -> AsyncIterator[None]:
    task = asyncio.create_task(work, name=name)
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
