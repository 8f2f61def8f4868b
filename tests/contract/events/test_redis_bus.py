"""What Redis may do to us: come late, go, be emptied, be shared. No job and no caller notices."""

import asyncio

import pytest
from redis.asyncio import Redis

from atelier.events import event
from atelier.events.redis import link

PATIENCE_SECONDS = 10.0


def end(job="j", user="u"):
    return event.finished(job, user, outputs=[])


async def next_of(subscription, kind):
    while batch := await subscription.batch(PATIENCE_SECONDS):
        for told in batch:
            if told.type == kind:
                return told
    raise AssertionError(f"no {kind} came")


async def test_bus_works_for_its_own_process_until_redis_comes(own_redis, new_bus, until):
    async with new_bus(own_redis.url, connected=False) as bus, bus.subscribe(job="j") as here:
        bus.publish(end())
        assert (await next_of(here, "finished")).job == "j"
        async with bus.wakeups() as wakeups:
            bus.wake()
            assert await wakeups.wait(0.01)
        assert not bus.connected
        own_redis.start()
        await until(lambda: bus.connected)


async def test_events_flow_again_after_redis_was_killed(own_redis, new_bus, until):
    own_redis.start()
    async with (
        new_bus(own_redis.url) as teller,
        new_bus(own_redis.url) as listener,
        listener.subscribe(job="j") as subscription,
        listener.wakeups("news") as news,
    ):
        teller.publish(event.queued("j", "u"))
        seen = await next_of(subscription, "queued")
        own_redis.kill()
        await until(lambda: not (teller.connected or listener.connected))
        assert await news.wait(PATIENCE_SECONDS)
        teller.publish(event.started("j", "u", instance="a", attempt=1))  # nobody hears it
        own_redis.start()
        await until(lambda: teller.connected and listener.connected)
        # Whoever listens is told to look at the record for what was missed ...
        assert await news.wait(PATIENCE_SECONDS)
        teller.publish(end())
        assert (await next_of(subscription, "finished")).job == "j"
        # ... and who comes back with an id of before doesn't go on as if nothing were missing.
        async with listener.subscribe(job="j", last_event_id=seen.id) as again:
            assert not again.resumed


async def test_id_of_another_process_is_not_gone_on_from(new_bus, redis_url):
    async with (
        new_bus(redis_url) as teller,
        new_bus(redis_url) as listener,
        teller.subscribe(job="j") as there,
        listener.subscribe(job="j") as here,
    ):
        teller.publish(event.queued("j", "u"))
        told, received = await next_of(there, "queued"), await next_of(here, "queued")
        assert told.id != received.id
        teller.publish(end())
        await next_of(here, "finished")
        async with listener.subscribe(job="j", last_event_id=told.id) as moved:
            assert not moved.resumed
            assert moved.pending == 0


async def test_emptying_redis_changes_nothing(own_redis, new_bus):
    own_redis.start()
    async with (
        new_bus(own_redis.url) as teller,
        new_bus(own_redis.url) as listener,
        Redis.from_url(own_redis.url) as redis,
        listener.subscribe(job="j") as subscription,
    ):
        teller.publish(event.queued("j", "u"))
        seen = await next_of(subscription, "queued")
        await redis.flushall()
        assert await redis.dbsize() == 0
        teller.publish(end())
        await next_of(subscription, "finished")
        async with listener.subscribe(job="j", last_event_id=seen.id) as again:
            assert again.resumed
        assert await redis.dbsize() == 0, "nothing is kept in it"


async def test_what_nobody_hears_is_not_sent(own_redis, new_bus, until):
    own_redis.start()
    async with (
        new_bus(own_redis.url) as teller,
        new_bus(own_redis.url) as listener,
        Redis.from_url(own_redis.url) as redis,
        listener.subscribe(job="j") as subscription,
    ):

        async def published():
            stats = await redis.info("commandstats")
            return stats.get("cmdstat_publish", {}).get("calls", 0)

        await until(lambda: not teller._outgoing._wakes)
        teller.publish(end("j"))
        await next_of(subscription, "finished")
        before = await published()
        for number in range(50):
            teller.publish(event.preview("j", "u", image=b"x" * 1000, media_type="image/png"))
            teller.publish(event.executing("j", "u", node=str(number)))
            teller.publish(end(f"other{number}"))
        teller.publish(event.queued("j", "u"))
        await next_of(subscription, "queued")
        assert await published() == before + 1


async def test_buffer_is_bounded_and_pictures_go_first(new_bus, redis_url):
    async with new_bus(redis_url) as bus:
        outgoing = bus._outgoing
        async with bus._link._sending:  # Redis is as slow as can be
            for number in range(2 * 2000):
                bus.publish(event.preview(f"p{number}", "u", image=b"x", media_type="image/png"))
                bus.publish(event.progress(f"p{number}", "u", percent=1))
                bus.publish(event.executing(f"p{number}", "u", node="1"))
            for number in range(1500):
                bus.publish(end(f"j{number}"))
            kinds = [told.type for told in outgoing._events.values()]
        assert len(kinds) == 2000
        assert kinds.count("finished") == 1500
        assert kinds.count("preview") == 0
        assert not outgoing.lost


async def test_losing_what_lasts_lets_the_others_look_at_the_record(new_bus, redis_url, until):
    async with (
        new_bus(redis_url) as teller,
        new_bus(redis_url) as listener,
        listener.wakeups("news") as news,
    ):
        await until(lambda: not (teller._outgoing._wakes or listener._outgoing._wakes))
        while await news.wait(0.02):
            pass
        async with teller._link._sending:
            for number in range(2001):
                teller.publish(end(f"j{number}"))
        assert await news.wait(PATIENCE_SECONDS)


async def test_those_who_share_a_redis_hear_nothing_of_each_other(new_bus, redis_url):
    async with (
        new_bus(redis_url) as teller,
        new_bus(redis_url, of="strangers") as stranger,
        new_bus(redis_url) as friend,
        stranger.subscribe(user="u") as at_strangers,
        friend.subscribe(user="u") as at_friends,
    ):
        teller.publish(end())
        await next_of(at_friends, "finished")
        assert at_strangers.pending == 0


async def test_last_words_of_a_process_that_stops_are_heard(new_bus, redis_url):
    async with new_bus(redis_url) as listener, listener.subscribe(user="u") as subscription:
        async with new_bus(redis_url) as teller:
            for number in range(500):
                teller.publish(end(f"j{number}"))
        jobs = set()
        while len(jobs) < 500:
            batch = await subscription.batch(PATIENCE_SECONDS)
            assert batch
            jobs |= {told.job for told in batch}


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"\xff",
        b"[]",
        b'{"type": "finished"}',
        b'{"origin":"a","number":1,"type":"of later","job":"j","user":"u","data":{},"at_ms":1}',
        b'{"origin":"a","number":"x","type":"finished","job":"j","user":"u","data":{},"at_ms":1}',
        b'{"origin":"a","number":1,"type":"finished","job":"j","user":"u","data":7,"at_ms":1}',
    ],
)
async def test_rubbish_on_the_wire_is_passed_over(new_bus, redis_url, message):
    async with (
        new_bus(redis_url) as teller,
        new_bus(redis_url) as listener,
        Redis.from_url(redis_url) as redis,
        listener.subscribe(job="j") as subscription,
    ):
        await redis.publish(listener._channels.of_topic(("j", None)), message)
        teller.publish(end())
        batch = await subscription.batch(PATIENCE_SECONDS)
        assert [told.type for told in batch] == ["finished"]
        assert listener.connected


async def test_event_that_cannot_be_written_keeps_no_other_from_being_sent(new_bus, redis_url):
    async with (
        new_bus(redis_url) as teller,
        new_bus(redis_url) as listener,
        listener.subscribe(job="j", nodes=True) as subscription,
    ):
        teller.publish(event.executed("j", "u", node="1", output={"text": ["\ud800"]}))
        teller.publish(end())
        batch = await subscription.batch(PATIENCE_SECONDS)
        assert [told.type for told in batch] == ["finished"]
        assert teller.connected


async def test_redis_that_falls_silent_is_noticed(own_redis, new_bus, until, monkeypatch):
    monkeypatch.setattr(link, "PING_SECONDS", 0.05)
    monkeypatch.setattr(link, "SILENCE_SECONDS", 0.2)
    own_redis.start()
    async with Relay(own_redis.port) as relay, new_bus(relay.url) as bus:
        relay.frozen = True
        await until(lambda: not bus.connected)
        bus.publish(end())
        relay.frozen = False
        relay.drop()
        await until(lambda: bus.connected)


class Relay:
    """Passes bytes on to a port, until it is ``frozen``: connections stay, nothing comes."""

    def __init__(self, port):
        self._port = port
        self._tasks = set()
        self._writers = []
        self.frozen = False

    async def __aenter__(self):
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"redis://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_):
        self._server.close()
        self.drop()

    def drop(self):
        for writer in self._writers:
            writer.close()
        self._writers.clear()

    async def _serve(self, reader, writer):
        try:
            there_reader, there_writer = await asyncio.open_connection("127.0.0.1", self._port)
        except OSError:
            writer.close()
            return
        self._writers += [writer, there_writer]
        await asyncio.gather(
            self._pass(reader, there_writer),
            self._pass(there_reader, writer),
            return_exceptions=True,
        )

    async def _pass(self, reader, writer):
        while data := await reader.read(65536):
            if not self.frozen:
                writer.write(data)
                await writer.drain()
        writer.close()
