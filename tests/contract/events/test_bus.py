"""What a bus promises, whether its two ends are in one process or in two."""

import asyncio

import pytest

from atelier.events import event

PATIENCE_SECONDS = 10.0


def progress(percent, job="j", user="u"):
    return event.progress(job, user, percent=percent)


def picture(data=b"x", job="j"):
    return event.preview(job, "u", image=data, media_type="image/jpeg")


async def heard(subscription, last):
    """All events up to one of type ``last``."""
    events = []
    while not events or events[-1].type != last:
        batch = await subscription.batch(PATIENCE_SECONDS)
        assert batch, [one.type for one in events]
        events += batch
    return events


def types(events):
    return [one.type for one in events]


def end(job="j", user="u"):
    return event.finished(job, user, outputs=[])


async def test_listener_hears_what_is_told_in_order_with_rising_ids(ends):
    async with ends.listener.subscribe(job="j") as subscription:
        ends.teller.publish(event.queued("j", "u", position=3))
        ends.teller.publish(event.started("j", "u", instance="a", attempt=1))
        ends.teller.publish(end())
        events = await heard(subscription, "finished")
    assert types(events) == ["queued", "started", "finished"]
    assert [one.order for one in events] == sorted({one.order for one in events})
    assert events[0].data == {"queue": {"position": 3, "eta_seconds": None}}


async def test_what_is_told_keeps_the_time_at_which_it_was_told(ends):
    async with ends.listener.subscribe(job="j") as subscription:
        told = ends.teller.publish(end())
        (received,) = await heard(subscription, "finished")
    assert received.at_ms == told.at_ms


async def test_only_listeners_of_that_job_or_user_hear_of_it(ends):
    bus = ends.listener
    async with (
        bus.subscribe(job="j1") as of_job,
        bus.subscribe(user="u2") as of_user,
        bus.subscribe() as of_all,
        bus.subscribe(job="j1", user="u2") as of_strangers_job,
    ):
        ends.teller.publish(end("j1", "u1"))
        ends.teller.publish(end("j2", "u2"))
        assert [one.job for one in await of_user.batch(PATIENCE_SECONDS)] == ["j2"]
        assert [one.job for one in await of_job.batch(PATIENCE_SECONDS)] == ["j1"]
        assert [one.job for one in await heard(of_all, "finished")][:1] == ["j1"]
        assert of_strangers_job.pending == 0


async def test_job_that_is_heard_of_in_two_ways_is_told_once(ends):
    async with (
        ends.listener.subscribe(user="u", previews=True, nodes=True) as of_user,
        ends.listener.subscribe(job="j", previews=True) as of_job,
        ends.listener.subscribe() as of_all,
    ):
        ends.teller.publish(event.queued("j", "u"))
        ends.teller.publish(picture())
        ends.teller.publish(end())
        assert types(await heard(of_user, "finished")) == ["queued", "preview", "finished"]
        assert types(await heard(of_job, "finished")) == ["queued", "preview", "finished"]
        assert types(await heard(of_all, "finished")) == ["queued", "finished"]


async def test_pictures_and_nodes_come_to_those_who_ask(ends):
    bus = ends.listener
    async with (
        bus.subscribe(job="j") as plain,
        bus.subscribe(job="j", previews=True) as seeing,
        bus.subscribe(user="u", nodes=True) as following,
    ):
        ends.teller.publish(event.executing("j", "u", node="3"))
        ends.teller.publish(picture())
        ends.teller.publish(event.executed("j", "u", node="3", output={"text": ["a"]}))
        ends.teller.publish(end())
        assert types(await heard(plain, "finished")) == ["finished"]
        assert types(await heard(seeing, "finished")) == ["preview", "finished"]
        assert types(await heard(following, "finished")) == ["executing", "executed", "finished"]


@pytest.mark.parametrize("size", [300_000, 3_000_000])
async def test_large_picture_arrives_whole(ends, size):
    data = bytes(range(256)) * (size // 256)
    async with ends.listener.subscribe(job="j", previews=True) as subscription:
        told = ends.teller.publish(picture(data))
        (received,) = await heard(subscription, "preview")
    assert received.data == told.data


@pytest.mark.parametrize("user", ["ada:all", "events:user:*", "Zoë 💥", " ", "a\nb"])
async def test_any_name_of_a_user_will_do(ends, user):
    async with (
        ends.listener.subscribe(user=user) as subscription,
        ends.listener.subscribe(user="another") as another,
    ):
        ends.teller.publish(end("j", user))
        assert [one.user for one in await heard(subscription, "finished")] == [user]
        assert another.pending == 0


async def test_who_was_cut_off_goes_on_where_they_were(ends):
    async with ends.listener.subscribe(job="j") as subscription:
        ends.teller.publish(event.queued("j", "u"))
        (seen,) = await heard(subscription, "queued")
    async with ends.listener.subscribe(user="somebody else") as witness:
        ends.teller.publish(event.started("j", "u", instance="a", attempt=1))
        ends.teller.publish(progress(20))
        ends.teller.publish(end())
        ends.teller.publish(end("k", "somebody else"))
        await heard(witness, "finished")
    async with ends.listener.subscribe(job="j", last_event_id=seen.id) as again:
        assert again.resumed
        assert types(await again.batch(PATIENCE_SECONDS)) == ["started", "progress", "finished"]


async def test_what_nobody_listened_to_here_is_not_gone_on_from(ends):
    async with ends.listener.subscribe(job="a") as subscription:
        ends.teller.publish(end("a"))
        (seen,) = await heard(subscription, "finished")
    async with ends.listener.subscribe(user="u", last_event_id=seen.id) as of_user:
        assert not of_user.resumed


async def test_newest_progress_and_last_event_are_known_while_somebody_listens(ends):
    async with ends.listener.subscribe(job="j") as subscription:
        ends.teller.publish(event.started("j", "u", instance="a", attempt=1))
        ends.teller.publish(progress(10))
        await heard(subscription, "progress")
        assert ends.listener.progress_of("j").data["percent"] == 10
        assert ends.listener.last_of("j").type == "started"
        ends.teller.publish(end())
        await heard(subscription, "finished")
        assert ends.listener.progress_of("j") is None
        assert ends.listener.last_of("j").type == "finished"


async def test_what_is_told_here_stays_here(ends):
    async with (
        ends.teller.subscribe(job="j") as here,
        ends.listener.subscribe(job="j") as there,
    ):
        ends.teller.publish_here(event.queued("j", "u"))
        ends.teller.publish(end())
        assert types(await heard(here, "finished")) == ["queued", "finished"]
        expected = ["finished"] if ends.apart else ["queued", "finished"]
        assert types(await heard(there, "finished")) == expected


@pytest.mark.parametrize("what", ["claim", "cancel", "news"])
async def test_all_who_wait_for_it_are_woken_and_no_others(ends, what, until):
    others = {"claim": "cancel", "cancel": "news", "news": "claim"}
    async with (
        ends.listener.wakeups(what) as one,
        ends.teller.wakeups(what) as other,
        ends.listener.wakeups(others[what]) as unconcerned,
    ):
        if ends.apart:
            channel = ends.listener._channels.wake(what)
            await until(lambda: channel in ends.listener._link._confirmed)
        for waiting in (one, other, unconcerned):
            while await waiting.wait(0.01):
                pass
        ends.teller.wake(what)
        assert await one.wait(PATIENCE_SECONDS)
        assert await other.wait(PATIENCE_SECONDS)
        assert not await unconcerned.wait(0.01)


async def test_many_wakes_are_one_to_who_was_away(ends):
    async with ends.teller.wakeups() as waiting:
        for _ in range(1000):
            ends.teller.wake()
        assert await waiting.wait(PATIENCE_SECONDS)
        assert not await waiting.wait(0.01)


async def test_publishing_waits_for_nobody(ends):
    loop = asyncio.get_running_loop()
    async with ends.listener.subscribe(user="u"):
        began = loop.time()
        for number in range(2000):
            ends.teller.publish(progress(number % 100, job=f"j{number}"))
        assert loop.time() - began < 2


async def test_watched_is_what_is_listened_to_and_stays_a_while(ends):
    async with ends.listener.subscribe(job="j"), ends.listener.subscribe(user="u"):
        watched = ends.listener.watched()
        assert (watched.jobs, watched.users) == ({"j"}, {"u"})
    assert ends.listener.watched() == watched
    assert ends.listener.listeners == 0
