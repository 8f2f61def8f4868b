"""Ends of jobs arrive at a real receiver, whatever it does first."""

import asyncio
import random
import time
from collections import defaultdict
from contextlib import asynccontextmanager

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from sqlalchemy import update
from standardwebhooks import Webhook

from atelier.outbound import GuardedSession
from atelier.service.notices import WebhookRefused
from atelier.webhooks import deliver as deliver_module
from atelier.webhooks.deliver import Deliverer
from atelier.webhooks.signing import new_secret
from atelier.webhooks.tables import webhooks

SECRET = new_secret(random.Random(1).randbytes)


class Receiver:
    """Verifies what comes to it, and answers as it is told: a status, or a coroutine."""

    def __init__(self):
        self.got = []  # (webhook-id, payload)
        self.answers = defaultdict(lambda: [200])  # by path; the last one stays
        self.headers = {}
        self.inside = 0
        self.most_inside = 0
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._receive)
        self.server = TestServer(app, host="127.0.0.1")

    def url(self, path="hooks"):
        return str(self.server.make_url(f"/{path}"))

    async def _receive(self, request):
        self.inside += 1
        self.most_inside = max(self.most_inside, self.inside)
        try:
            body = await request.read()
            assert request.method == "POST", "nothing is fetched"
            payload = Webhook(SECRET).verify(body, dict(request.headers))
            self.got.append((request.headers["webhook-id"], payload))
            answers = self.answers[request.path.strip("/")]
            answer = answers.pop(0) if len(answers) > 1 else answers[0]
            if callable(answer):
                answer = await answer()
            return web.Response(status=answer, headers=self.headers, text="secret of the inside")
        finally:
            self.inside -= 1


@pytest.fixture
async def receiver():
    receiver = Receiver()
    await receiver.server.start_server()
    yield receiver
    await receiver.server.close()


@pytest.fixture(autouse=True)
def short_backoff(monkeypatch):
    monkeypatch.setattr(deliver_module, "backoff_ms", lambda attempt, rng: 30)


@asynccontextmanager
async def delivering(service, *, allow=("127.0.0.1",), timeout_seconds=5.0, per_host=4):
    async with GuardedSession(allow) as session:
        deliverer = Deliverer(
            database=service.database,
            outbox=service.outbox,
            session=session,
            secret=SECRET,
            now_seconds=lambda: int(time.time()),
            rng=random.Random(1),
            timeout_seconds=timeout_seconds,
            poll_seconds=0.02,
            per_host=per_host,
        )
        task = asyncio.create_task(deliverer.run())
        try:
            yield deliverer
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def webhook_becomes(service, id, status, eventually, attempts=0):
    async def look():
        view = (await service.generations.get(id)).webhook
        return view.status == status and view.attempts >= attempts

    await eventually(look, f"the webhook did not become {status}")
    return (await service.generations.get(id)).webhook


async def cancelled_job(service, url):
    """A job that has ended without any work: its webhook is due."""
    id = await service.submit(webhook_url=url)
    await service.generations.cancel(id)
    return id


async def test_end_of_a_job_is_told_with_its_state_and_signed(service, receiver, eventually):
    async with service.worker(), delivering(service):
        id = await service.submit(webhook_url=receiver.url())
        assert (await service.generations.get(id)).webhook.status in ("waiting", "pending")
        await service.succeeded(id)
        view = await webhook_becomes(service, id, "delivered", eventually)
    assert (view.url, view.attempts, view.last_error) == (receiver.url(), 1, None)
    ((_, payload),) = receiver.got
    assert payload["type"] == "job.succeeded"
    assert payload["data"] == {"id": id, "status": "succeeded"}
    assert payload["timestamp"].endswith("Z")


async def test_failure_is_told_as_one(service, receiver, eventually, graph_of, make_node):
    async with service.worker(), delivering(service):
        graph = graph_of(make_node("TestFail", reason="no"))
        id = await service.submit(graph, webhook_url=receiver.url())
        await service.failed(id)
        await webhook_becomes(service, id, "delivered", eventually)
    assert receiver.got[0][1]["type"] == "job.failed"


async def test_dialect_of_the_submission_says_how_the_job_looks(service, receiver, eventually):
    async with delivering(service):
        id = await service.submit(webhook_url=receiver.url(), dialect="tasks")
        await service.generations.cancel(id)
        await webhook_becomes(service, id, "delivered", eventually)
    ((_, payload),) = receiver.got
    assert (payload["type"], payload["data"]) == ("job.cancelled", {"task_id": id})


async def test_job_without_an_address_has_no_webhook(service):
    id = await service.submit()
    await service.generations.cancel(id)
    assert (await service.generations.get(id)).webhook is None


async def test_receiver_that_fails_gets_the_same_message_until_it_takes_it(
    service, receiver, eventually
):
    receiver.answers["hooks"] = [500, 429, 302, 204]
    async with delivering(service):
        id = await cancelled_job(service, receiver.url())
        view = await webhook_becomes(service, id, "delivered", eventually)
    assert view.attempts == 4
    assert len(receiver.got) == 4
    assert len({webhook_id for webhook_id, _ in receiver.got}) == 1
    assert all(payload == receiver.got[0][1] for _, payload in receiver.got)


async def test_receiver_that_is_gone_for_good_is_asked_once(service, receiver, eventually):
    receiver.answers["hooks"] = [410]
    async with delivering(service):
        id = await cancelled_job(service, receiver.url())
        view = await webhook_becomes(service, id, "dead", eventually)
    assert view.attempts == 1
    assert "answered 410" in view.last_error
    assert "secret of the inside" not in view.last_error
    assert len(receiver.got) == 1


async def test_redirect_is_not_followed(service, receiver, eventually):
    receiver.answers["hooks"] = [307]
    receiver.headers = {"Location": receiver.url("inside")}
    async with delivering(service):
        id = await cancelled_job(service, receiver.url())
        view = await webhook_becomes(service, id, "pending", eventually, attempts=3)
    assert "answered 307" in view.last_error
    assert "inside" not in receiver.answers


async def test_receiver_that_is_down_is_tried_until_it_is_up(
    service, receiver, eventually, unused_tcp_port
):
    url = f"http://127.0.0.1:{unused_tcp_port}/hooks"
    async with delivering(service):
        id = await cancelled_job(service, url)
        view = await webhook_becomes(service, id, "pending", eventually, attempts=2)
        assert "No connection" in view.last_error
        late = Receiver()
        late.server = TestServer(late.server.app, host="127.0.0.1", port=unused_tcp_port)
        await late.server.start_server()
        await webhook_becomes(service, id, "delivered", eventually)
        await late.server.close()
    assert len(late.got) == 1


async def test_receiver_that_is_too_slow_is_tried_again(service, receiver, eventually):
    async def dawdle():
        await asyncio.sleep(2)
        return 200

    receiver.answers["hooks"] = [dawdle, 200]
    async with delivering(service, timeout_seconds=0.1):
        id = await cancelled_job(service, receiver.url())
        view = await webhook_becomes(service, id, "delivered", eventually)
    assert view.attempts == 2


async def test_it_is_given_up_after_a_day(service, receiver, eventually):
    receiver.answers["hooks"] = [500]
    id = await cancelled_job(service, receiver.url())
    a_day_ago = {"created_at_ms": webhooks.c.created_at_ms - deliver_module.GIVE_UP_MS}
    await service.database.run(lambda conn: conn.execute(update(webhooks).values(a_day_ago)))
    async with delivering(service):
        view = await webhook_becomes(service, id, "dead", eventually)
    assert view.attempts == 1


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("ftp://app.example/", "neither an http nor an https"),
        ("http://10.0.0.1/", "private network"),
        ("http://169.254.169.254/latest/meta-data", "metadata"),
        ("http://localhost/", "inside the network"),
        ("https://user:password@app.example/", "user name or password"),
        ("http://", "names no host"),
        ("https://app.example/" + "a" * 2048, "at most 2048"),
    ],
)
async def test_address_that_may_not_be_sent_to_is_refused_at_once(service, url, said):
    with pytest.raises(WebhookRefused) as caught:
        await service.submit(webhook_url=url)
    assert said in caught.value.message
    assert caught.value.data["field"] == "webhook_url"


async def test_address_that_leads_inside_when_it_is_used_gets_nothing(
    service, receiver, eventually
):
    id = await cancelled_job(service, receiver.url())
    async with delivering(service, allow=()):
        view = await webhook_becomes(service, id, "dead", eventually)
    assert "this machine" in view.last_error
    assert receiver.got == []


async def test_silent_receiver_holds_nobody_else_up(service, receiver, eventually):
    silent, gate = Receiver(), asyncio.Event()

    async def wait():
        await gate.wait()
        return 200

    silent.answers["hooks"] = [wait]
    await silent.server.start_server()
    waiting = [await cancelled_job(service, silent.url()) for _ in range(5)]
    async with delivering(service, per_host=2):
        await eventually(lambda: silent.inside == 2, "nothing came")
        quick = await cancelled_job(service, receiver.url())
        await webhook_becomes(service, quick, "delivered", eventually)
        assert silent.most_inside == 2
        gate.set()
        for id in waiting:
            await webhook_becomes(service, id, "delivered", eventually)
    assert silent.most_inside == 2
    await silent.server.close()


async def test_two_workers_send_each_message_once(service, receiver, eventually):
    ids = [await cancelled_job(service, receiver.url()) for _ in range(12)]
    async with delivering(service), delivering(service):
        for id in ids:
            await webhook_becomes(service, id, "delivered", eventually)
    assert sorted(webhook_id for webhook_id, _ in receiver.got) == sorted(
        {webhook_id for webhook_id, _ in receiver.got}
    )
    assert len(receiver.got) == 12


async def test_worker_that_dies_while_sending_is_replaced_and_the_id_stays(
    service, receiver, eventually
):
    gate = asyncio.Event()

    async def wait():
        await gate.wait()
        return 200

    receiver.answers["hooks"] = [wait, 200]
    id = await cancelled_job(service, receiver.url())
    async with delivering(service):
        await eventually(lambda: receiver.inside == 1, "nothing came")
    gate.set()
    # Its lease has a minute to go.
    assert (await service.generations.get(id)).webhook.status == "pending"
    over = {"due_at_ms": webhooks.c.due_at_ms - 60_000}
    await service.database.run(lambda conn: conn.execute(update(webhooks).values(over)))
    async with delivering(service):
        view = await webhook_becomes(service, id, "delivered", eventually)
    assert view.attempts == 2
    assert len({webhook_id for webhook_id, _ in receiver.got}) == 1


async def test_job_that_is_run_again_tells_both_ends(service, receiver, eventually):
    async with delivering(service):
        id = await cancelled_job(service, receiver.url())
        await webhook_becomes(service, id, "delivered", eventually)
        view = await service.generations.retry(id)
        assert view.webhook.status == "waiting"
        async with service.worker():
            await service.succeeded(id)
            await webhook_becomes(service, id, "delivered", eventually)
    assert [payload["type"] for _, payload in receiver.got] == ["job.cancelled", "job.succeeded"]


async def test_job_whose_rendering_fails_ends_all_the_same(service, receiver, eventually):
    def broken(view):
        raise KeyError("no such field")

    service.notices._renderers["studio"] = broken
    async with delivering(service):
        id = await service.submit(webhook_url=receiver.url(), dialect="studio")
        await service.generations.cancel(id)
        await webhook_becomes(service, id, "delivered", eventually)
    assert receiver.got[0][1]["data"] == {"id": id, "status": "cancelled"}


async def test_what_is_sent_waits_while_the_database_is_away(service, receiver, eventually):
    async def go_away():
        away.__enter__()
        return 200

    away = service.database_away()
    receiver.answers["hooks"] = [go_away, 200]
    id = await cancelled_job(service, receiver.url())
    async with delivering(service):
        await eventually(lambda: receiver.got, "nothing came")
        await asyncio.sleep(0.05)
        away.__exit__(None, None, None)
        await webhook_becomes(service, id, "delivered", eventually)
    assert len(receiver.got) == 1
