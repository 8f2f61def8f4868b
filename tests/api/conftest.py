"""The real application (no worker, no ComfyUI) behind a real server, once for all tests here.

It has a thread and an event loop of its own; tests talk HTTP to it. What a worker would do
(claim, finish, fail) is done by hand through ``backstage``, so that nothing depends on time.
"""

import asyncio
import threading
import uuid
from io import BytesIO

import aiohttp
import pytest
from PIL import Image
from sqlalchemy import update

from atelier.app import application, listen, serving
from atelier.events import event
from atelier.jobs.policy import Seat
from atelier.media.tables import assets
from atelier.service import OutputView
from atelier.settings import Settings
from atelier.telemetry import configure_logging


def picture(color=(200, 40, 40), size=(16, 12), form="PNG"):
    out = BytesIO()
    Image.new("RGB", size, color).save(out, form)
    return out.getvalue()


class Backstage:
    """The running application, and a worker's hands."""

    def __init__(self, folder, **settings):
        self._folder = folder
        self._settings = settings
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._stop = asyncio.Event()
        self._failure = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.app = None
        self.base = ""

    def start(self):
        self._thread.start()
        assert self._ready.wait(30), "the application didn't start"
        if self._failure is not None:
            raise self._failure

    def stop(self):
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(30)
        assert not self._thread.is_alive(), "the application didn't stop"

    def _run(self):
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._main())
        self._loop.close()

    async def _main(self):
        settings = Settings(data_dir=self._folder, embedded_engine="never", **self._settings)
        listener = listen("127.0.0.1", 0)
        self.base = f"http://127.0.0.1:{listener.getsockname()[1]}"
        try:
            async with (
                application(settings, worker=False, embedded=False) as self.app,
                serving(self.app, listener),
            ):
                self._ready.set()
                await self._stop.wait()
        except BaseException as error:  # noqa: BLE001  (start() raises it where it is seen)
            self._failure = error
            self._ready.set()

    async def call(self, coroutine):
        """Run ``coroutine`` in the application's loop."""
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(coroutine, self._loop))

    async def run(self, work):
        return await self.call(self.app.database.run(work))

    async def claim(self, job_id):
        queue = self.queue
        seat = Seat("test", capable=lambda requirement: True)

        def this_one(candidates, seat, now_ms):
            return next((one for one in candidates if one.id == job_id), None)

        return await self.run(
            lambda conn: queue.claim(conn, worker="test", seat=seat, choose=this_one)
        )

    async def finish(self, job_id, data):
        """Run the job to its end with ``data`` as its one picture; returns the asset."""
        claim = await self.claim(job_id)
        asset = await self.call(
            self.app.services.assets.upload(data, filename="out.png", user="worker")
        )
        made = update(assets).where(assets.c.id == asset.id).values(kind="output", job_id=job_id)
        await self.run(lambda conn: conn.execute(made))
        record = {
            "id": asset.id,
            "media_type": asset.media_type,
            "width": asset.width,
            "height": asset.height,
            "size_bytes": asset.size_bytes,
            "node": "9",
            "thumbnail_key": "there",
            "thumbhash": asset.thumbhash,
            "filename": "out.png",
        }
        queue = self.queue
        assert await self.run(
            lambda conn: queue.finish(conn, job_id, claim.lease, [record], {"execute_ms": 5})
        )
        outputs = [OutputView.of(record).as_dict()]
        await self.publish(event.finished(job_id, claim.job.user, outputs=outputs))
        return asset

    async def fail(self, job_id, **error):
        claim = await self.claim(job_id)
        queue = self.queue
        assert await self.run(lambda conn: queue.fail(conn, job_id, claim.lease, error))
        await self.publish(event.failed(job_id, claim.job.user, error=error, attempts=1))

    @property
    def queue(self):
        return self.app.services.generations._queue

    @property
    def bus(self):
        return self.app.services.generations._bus

    async def publish(self, told):
        """Tell it, as a worker in the same process does after its commit."""

        async def publish():
            self.bus.publish(told)

        await self.call(publish())

    async def listeners_fall_to(self, count):
        async with asyncio.timeout(5):
            while self.bus.listeners > count:  # noqa: ASYNC110  (it counts in another loop)
                await asyncio.sleep(0.01)


@pytest.fixture(scope="session")
def new_backstage():
    """Makes another application, on a folder and with settings: for what disturbs all others."""
    return Backstage


@pytest.fixture(scope="session")
def backstage(tmp_path_factory):
    configure_logging("ERROR")
    stage = Backstage(tmp_path_factory.mktemp("data"))
    stage.start()
    yield stage
    stage.stop()


@pytest.fixture
async def client(backstage):
    async with aiohttp.ClientSession(
        backstage.base, timeout=aiohttp.ClientTimeout(total=20)
    ) as session:
        yield session


@pytest.fixture
def user():
    """A user whom no other test knows."""
    return f"user-{uuid.uuid4()}"


@pytest.fixture
def submit(client, user):
    """Submit a style_change job over /v1 and return its document."""

    async def submit(inputs=None, *, headers=None, **body):
        document = {
            "workflow": "style_change",
            "inputs": {"image": "http://pictures.example/cat.png", **(inputs or {})},
            "user": user,
            **body,
        }
        async with client.post("/v1/jobs", json=document, headers=headers) as answer:
            assert answer.status in (200, 202), await answer.text()
            return await answer.json()

    return submit


async def problem(answer, status, code):
    """The problem document that ``answer`` must be."""
    document = await answer.json(content_type="application/problem+json")
    assert (answer.status, document["code"]) == (status, code), document
    assert document["status"] == status
    assert document["type"] == f"urn:atelier:problem:{code}"
    assert document["title"]
    assert document["detail"]
    return document


@pytest.fixture
def assert_problem():
    return problem


async def sse_events(answer):
    """Events of a stream as (id, type, data text), until it ends."""
    fields = {}
    async for raw in answer.content:
        line = raw.decode().rstrip("\n")
        if line.startswith(":"):
            continue
        if not line:
            if "data" in fields:
                yield fields.get("id"), fields.get("event"), fields["data"]
            fields = {}
            continue
        name, _, value = line.partition(": ")
        fields[name] = value


@pytest.fixture
def read_sse():
    return sse_events


@pytest.fixture
def make_picture():
    return picture
