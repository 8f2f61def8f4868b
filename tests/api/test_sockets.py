import json

import aiohttp
import pytest


async def receive(socket):
    return json.loads(await socket.receive_str(timeout=10))


@pytest.fixture
async def socket(client):
    async with client.ws_connect("/v1/events") as socket:
        yield socket


async def until(socket, kind):
    while True:
        message = await receive(socket)
        if message["type"] == kind:
            return message


async def test_subscription_to_a_job_is_confirmed_and_starts_with_a_snapshot(socket, submit):
    job = await submit()
    await socket.send_json({"type": "subscribe", "job": job["id"]})
    assert await receive(socket) == {"type": "subscribed", "job": job["id"]}
    snapshot = await receive(socket)
    assert (snapshot["type"], snapshot["job"]) == ("snapshot", job["id"])
    assert snapshot["data"]["status"] == "queued"


async def test_jobs_of_a_user_are_told_until_he_unsubscribes(client, socket, submit, user):
    await socket.send_json({"type": "subscribe", "user": user})
    await until(socket, "subscribed")
    job = await submit()
    assert (await until(socket, "queued"))["job"] == job["id"]
    await socket.send_json({"type": "unsubscribe", "user": user})
    await until(socket, "unsubscribed")
    await submit()
    await socket.send_json({"type": "ping"})
    assert await receive(socket) == {"type": "pong"}  # and nothing before it


async def test_end_of_a_job_is_told(client, socket, submit):
    job = await submit()
    await socket.send_json({"type": "subscribe", "job": job["id"]})
    await until(socket, "snapshot")
    async with client.post(f"/v1/jobs/{job['id']}/cancel"):
        pass
    assert (await until(socket, "cancelled"))["job"] == job["id"]


@pytest.mark.parametrize(
    ("message", "said"),
    [
        ("{nope", "isn't JSON"),
        ("[]", "must be a JSON object"),
        ('"ping"', "must be a JSON object"),
        ("{}", "no message of type None"),
        ('{"type": "dance"}', "no message of type 'dance'"),
        ('{"type": "subscribe"}', "either job or user"),
        ('{"type": "subscribe", "job": "a", "user": "b"}', "either job or user"),
        ('{"type": "subscribe", "job": 5}', "either job or user"),
        ('{"type": "subscribe", "job": "no-such-job"}', "no job"),
        ('{"type": "subscribe", "user": "u", "last_event_id": 5}', "must be text"),
        ("x" * 20_000, "10000 characters"),
    ],
)
async def test_wrong_message_is_answered_and_the_socket_stays_open(socket, message, said):
    await socket.send_str(message)
    error = await receive(socket)
    assert error["type"] == "error"
    assert said in error["message"]
    await socket.send_json({"type": "ping"})
    assert await receive(socket) == {"type": "pong"}


async def test_binary_message_is_read_as_text(socket):
    await socket.send_bytes(b'{"type": "ping"}')
    assert await receive(socket) == {"type": "pong"}


async def test_subscriptions_of_a_socket_are_bounded(socket, user):
    for number in range(101):
        await socket.send_json({"type": "subscribe", "user": f"{user}-{number}"})
    error = await until(socket, "error")
    assert "100 subscriptions" in error["message"]


async def test_tasks_socket_tells_and_closes_at_the_end(client, user):
    body = {"user_id": user, "image_url": "http://x.example/a.png"}
    async with client.post("/api/v1/transform", json=body) as answer:
        task_id = (await answer.json())["task_id"]
    async with client.ws_connect(f"/api/v1/task/{task_id}/ws") as socket:
        update = await receive(socket)
        assert (update["event"], update["status"]) == ("snapshot", "pending")
        async with client.post(f"/api/v1/task/{task_id}/cancel"):
            pass
        while update["status"] != "cancelled":
            update = await receive(socket)
        closing = await socket.receive(timeout=10)
        assert closing.type is aiohttp.WSMsgType.CLOSE
        assert closing.data == 1000


async def test_users_socket_tells_his_tasks(client, user):
    async with client.ws_connect(f"/api/v1/user/{user}/ws") as socket:
        body = {"user_id": user, "image_url": "http://x.example/a.png"}
        async with client.post("/api/v1/transform", json=body) as answer:
            task_id = (await answer.json())["task_id"]
        update = await receive(socket)
        assert (update["task_id"], update["status"]) == (task_id, "pending")


async def test_socket_of_an_unknown_task_is_refused_with_a_problem(client):
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        async with client.ws_connect("/api/v1/task/nope/ws"):
            pass
    assert refused.value.status == 404


async def test_client_that_vanishes_leaves_nothing_behind(client, backstage, submit):
    job = await submit()
    before = backstage.bus.listeners
    socket = await client.ws_connect("/v1/events")
    await socket.send_json({"type": "subscribe", "job": job["id"]})
    await until(socket, "snapshot")
    assert backstage.bus.listeners == before + 1
    await socket.close()
    await backstage.listeners_fall_to(before)
