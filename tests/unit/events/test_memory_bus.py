import asyncio
from contextlib import AsyncExitStack

import pytest

from atelier.events import Event, SlowSubscriber, event
from atelier.events.memory import MemoryBus


class Clock:
    def __init__(self, now_ms=1_000_000):
        self.now_ms = now_ms

    def __call__(self):
        return self.now_ms


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def bus(clock):
    return MemoryBus(clock_ms=clock, seconds_per_listener=0.0)


def progress(percent, job="j", user="u"):
    return event.progress(job, user, percent=percent)


def types(events):
    return [e.type for e in events]


async def test_listener_gets_events_in_order_with_rising_ids(bus):
    async with bus.subscribe(job="j") as subscription:
        published = [
            bus.publish(event.queued("j", "u")),
            bus.publish(event.started("j", "u", instance="a", attempt=1)),
            bus.publish(event.finished("j", "u", outputs=[])),
        ]
        received = await subscription.batch()
    assert list(received) == published
    assert [e.order for e in received] == sorted({e.order for e in received})


async def test_ids_rise_though_the_clock_is_set_back(bus, clock):
    first = bus.publish(progress(1))
    clock.now_ms -= 60_000
    second = bus.publish(progress(2))
    assert second.order > first.order


async def test_events_reach_only_listeners_of_that_job_or_user(bus):
    async with (
        bus.subscribe(job="j1") as of_job,
        bus.subscribe(user="u2") as of_user,
        bus.subscribe() as of_all,
        bus.subscribe(job="j1", user="u2") as of_strangers_job,
    ):
        bus.publish(event.queued("j1", "u1"))
        bus.publish(event.queued("j2", "u2"))
        assert [e.job for e in await of_job.batch()] == ["j1"]
        assert [e.job for e in await of_user.batch()] == ["j2"]
        assert [e.job for e in await of_all.batch()] == ["j1", "j2"]
        assert of_strangers_job.pending == 0


async def test_progress_is_reduced_to_the_newest_per_job(bus):
    async with bus.subscribe(user="u") as subscription:
        for percent in range(50):
            bus.publish(progress(percent, job="a"))
            bus.publish(progress(percent + 50, job="b"))
        received = await subscription.batch()
    assert [(e.job, e.data["percent"]) for e in received] == [("a", 49), ("b", 99)]


async def test_coalesced_progress_keeps_its_place_in_time(bus):
    async with bus.subscribe(job="j") as subscription:
        bus.publish(progress(1))
        bus.publish(event.retrying("j", "u", error=None, attempt=1))
        bus.publish(progress(2))
        assert types(await subscription.batch()) == ["retrying", "progress"]


async def test_previews_come_only_when_asked_for(bus):
    async with bus.subscribe(job="j") as plain, bus.subscribe(job="j", previews=True) as curious:
        bus.publish(event.preview("j", "u", image=b"x", media_type="image/jpeg"))
        assert plain.pending == 0
        assert types(await curious.batch()) == ["preview"]


async def test_slow_listener_is_dropped_rather_than_shown_a_gap(clock):
    bus = MemoryBus(clock_ms=clock, backlog=10, seconds_per_listener=0.0)
    async with bus.subscribe(user="u") as subscription:
        for number in range(11):
            bus.publish(event.queued(f"j{number}", "u"))
        with pytest.raises(SlowSubscriber):
            await subscription.batch()


async def test_unread_progress_never_makes_a_listener_slow(clock):
    bus = MemoryBus(clock_ms=clock, backlog=10, seconds_per_listener=0.0)
    async with bus.subscribe(user="u") as subscription:
        for number in range(50):
            bus.publish(progress(1, job=f"j{number}"))
        assert len(await subscription.batch()) == 50


async def test_batch_waits_until_something_comes(bus):
    async with bus.subscribe(job="j") as subscription:
        waiting = asyncio.create_task(subscription.batch())
        await asyncio.sleep(0)
        assert not waiting.done()
        bus.publish(progress(7))
        assert [e.data["percent"] for e in await waiting] == [7]


async def test_batch_is_empty_after_its_timeout_and_listening_goes_on(bus):
    async with bus.subscribe(job="j") as subscription:
        assert await subscription.batch(0.001) == ()
        assert not subscription.closed
        bus.publish(progress(7))
        assert len(await subscription.batch(0.001)) == 1


async def test_closing_wakes_the_listener(bus):
    async with bus.subscribe(job="j") as subscription:
        waiting = asyncio.create_task(subscription.batch())
        await asyncio.sleep(0)
        subscription.close()
        assert await waiting == ()
        assert subscription.closed


async def test_iteration_yields_single_events_and_ends_when_closed(bus):
    async with bus.subscribe(job="j") as subscription:
        bus.publish(event.queued("j", "u"))
        bus.publish(event.started("j", "u", instance=None, attempt=1))
        seen = []
        async for told in subscription:
            seen.append(told.type)
            if told.type == "started":
                subscription.close()
    assert seen == ["queued", "started"]


async def test_cancelled_reader_leaves_nothing_behind_and_can_read_again(bus):
    async with bus.subscribe(job="j") as subscription:
        reader = asyncio.create_task(subscription.batch())
        await asyncio.sleep(0)
        reader.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reader
        bus.publish(progress(3))
        assert len(await subscription.batch()) == 1
    assert bus.listeners == 0


async def test_snapshot_goes_first_and_takes_the_id_and_time_of_the_moment(bus, clock):
    before = bus.publish(event.queued("j", "u"))
    async with bus.subscribe(job="j") as subscription:
        bus.publish(progress(5))
        subscription.begin_with(event.snapshot("j", "u", status="running", progress={}))
        received = await subscription.batch()
    assert types(received) == ["snapshot", "progress"]
    assert received[0].id == before.id
    assert received[0].at_ms == clock.now_ms


async def test_resuming_replays_what_was_missed(bus):
    seen = bus.publish(event.queued("j", "u"))
    bus.publish(event.started("j", "u", instance="a", attempt=1))
    bus.publish(progress(10))
    bus.publish(progress(20))
    async with bus.subscribe(job="j", last_event_id=seen.id) as subscription:
        assert subscription.resumed
        received = await subscription.batch()
    assert [(e.type, e.data.get("percent")) for e in received] == [
        ("started", None),
        ("progress", 20),
    ]


async def test_resuming_a_user_replays_all_his_jobs_in_order_and_no_other_users(bus):
    seen = bus.publish(event.queued("a", "u"))
    bus.publish(event.queued("b", "u"))
    bus.publish(event.queued("c", "other"))
    bus.publish(event.started("a", "u", instance="i", attempt=1))
    async with bus.subscribe(user="u", last_event_id=seen.id) as subscription:
        received = await subscription.batch()
    assert [(e.job, e.type) for e in received] == [("b", "queued"), ("a", "started")]


async def test_another_users_job_is_not_replayed(bus):
    seen = bus.publish(event.queued("a", "u"))
    bus.publish(event.started("a", "u", instance="i", attempt=1))
    async with bus.subscribe(job="a", user="eve", last_event_id=seen.id) as subscription:
        assert subscription.pending == 0


@pytest.mark.parametrize("last", [None, "", "rubbish", "999999-0"])
async def test_listener_with_nothing_to_resume_from_is_told_so(bus, last):
    bus.publish(event.queued("j", "u"))
    async with bus.subscribe(job="j", last_event_id=last) as subscription:
        assert not subscription.resumed
        assert subscription.pending == 0


async def test_job_is_forgotten_ten_minutes_after_its_end_and_not_before(bus, clock):
    seen = bus.publish(event.queued("j", "u"))
    bus.publish(event.cancelled("j", "u"))
    clock.now_ms += 599_999
    bus.publish(progress(1, job="other"))
    async with bus.subscribe(job="j", last_event_id=seen.id) as subscription:
        assert types(await subscription.batch()) == ["cancelled"]
    clock.now_ms += 1
    bus.publish(progress(2, job="other"))
    async with bus.subscribe(job="j", last_event_id=seen.id) as subscription:
        assert not subscription.resumed


async def test_memory_of_jobs_is_bounded(clock):
    bus = MemoryBus(clock_ms=clock, keep_jobs=3)
    events = [bus.publish(event.queued(f"j{number}", "u")) for number in range(5)]
    async with bus.subscribe(job="j0", last_event_id=events[0].id) as subscription:
        assert not subscription.resumed  # j0 was forgotten, so nobody can say what came after
    async with bus.subscribe(job="j4", last_event_id=events[3].id) as subscription:
        assert types(await subscription.batch()) == ["queued"]


async def test_very_long_story_of_one_job_admits_that_its_beginning_is_lost(bus):
    first = bus.publish(event.queued("j", "u"))
    for attempt in range(200):
        bus.publish(event.retrying("j", "u", error=None, attempt=attempt))
    async with bus.subscribe(job="j", last_event_id=first.id) as subscription:
        assert not subscription.resumed


async def test_many_listeners_hear_less_often_but_the_newest(clock):
    bus = MemoryBus(clock_ms=clock, seconds_per_listener=0.02)
    async with bus.subscribe(user="u") as subscription:
        bus.publish(progress(1))
        await subscription.batch()
        bus.publish(progress(2))
        waiting = asyncio.create_task(subscription.batch())
        await asyncio.sleep(0)
        bus.publish(progress(3))
        assert not waiting.done()
        assert [e.data["percent"] for e in await waiting] == [3]


async def test_end_of_a_watched_job_is_told_at_once_however_many_listen(clock):
    bus = MemoryBus(clock_ms=clock, seconds_per_listener=3600)
    async with bus.subscribe(job="j") as subscription:
        bus.publish(progress(1))
        await subscription.batch()
        waiting = asyncio.create_task(subscription.batch())
        await asyncio.sleep(0)
        bus.publish(progress(2))
        bus.publish(event.finished("j", "u", outputs=[]))
        async with asyncio.timeout(1):
            assert types(await waiting) == ["progress", "finished"]


async def test_wake_between_two_waits_is_not_lost(bus):
    async with bus.wakeups() as wakeups:
        bus.wake()
        assert await wakeups.wait(0.01)
        assert not await wakeups.wait(0.001)
        waiting = asyncio.create_task(wakeups.wait(5))
        await asyncio.sleep(0)
        bus.wake()
        assert await waiting


async def test_every_waiter_is_woken(bus):
    async with bus.wakeups() as one, bus.wakeups() as two:
        bus.wake()
        assert await one.wait(0.01)
        assert await two.wait(0.01)


def test_unstamped_event_orders_before_all():
    assert Event("queued", "j", "u").order == (0, 0)


async def test_all_listeners_of_the_same_get_the_same_batch_so_that_it_is_encoded_once(clock):
    bus = MemoryBus(clock_ms=clock, seconds_per_listener=0.0)
    calls = []

    def encode(told):
        calls.append(told)
        return b"x"

    async with bus.subscribe(user="u") as one, bus.subscribe(user="u") as other:
        bus.publish(event.queued("j", "u"))
        wires = [(await who.batch()).encoded("sse", encode) for who in (one, other)]
    assert wires == [b"x", b"x"]
    assert len(calls) == 1


async def test_wave_reaches_a_large_audience_completely_and_in_order(clock):
    bus = MemoryBus(clock_ms=clock, seconds_per_listener=0.0)
    async with AsyncExitStack() as stack:
        audience = [await stack.enter_async_context(bus.subscribe(job="j")) for _ in range(120)]
        bus.publish(event.queued("j", "u"))
        bus.publish(event.started("j", "u", instance=None, attempt=1))
        bus.publish(event.finished("j", "u", outputs=[]))
        for subscription in audience:
            seen = []
            while "finished" not in seen:
                seen += types(await subscription.batch())
            assert seen == ["queued", "started", "finished"]


async def test_late_listener_is_not_told_what_was_collected_before_he_came(clock):
    bus = MemoryBus(clock_ms=clock, seconds_per_listener=0.01)
    async with bus.subscribe(user="u") as early:
        bus.publish(event.queued("a", "u"))
        await early.batch()
        bus.publish(event.queued("b", "u"))  # kept for the next wave
        async with bus.subscribe(user="u") as late:
            bus.publish(event.queued("c", "u"))
            assert [e.job for e in await early.batch()] == ["b", "c"]
            assert [e.job for e in await late.batch()] == ["c"]


async def test_snapshots_of_several_jobs_are_all_told(bus):
    async with bus.subscribe(user="u") as subscription:
        subscription.begin_with(
            *(event.snapshot(job, "u", status="queued", progress={}) for job in "abc")
        )
        bus.publish(progress(1))
        received = await subscription.batch()
    assert [(e.type, e.job) for e in received] == [
        ("snapshot", "a"),
        ("snapshot", "b"),
        ("snapshot", "c"),
        ("progress", "j"),
    ]


async def test_listener_who_leaves_in_the_middle_of_a_wave_disturbs_nobody(clock):
    bus = MemoryBus(clock_ms=clock, seconds_per_listener=0.0)
    async with AsyncExitStack() as stack:
        audience = [await stack.enter_async_context(bus.subscribe(job="j")) for _ in range(60)]
        bus.publish(event.queued("j", "u"))
        audience[50].close()
        assert [types(await who.batch(5)) for who in audience] == [["queued"]] * 50 + [[]] + [
            ["queued"]
        ] * 9
    assert bus.listeners == 0


async def test_bus_says_what_is_watched(bus):
    async with bus.subscribe(job="j"), bus.subscribe(user="u"), bus.subscribe(user="u"):
        watched = bus.watched()
        assert (watched.jobs, watched.users) == ({"j"}, {"u"})
    assert not bus.watched().jobs


async def test_what_nodes_do_reaches_only_who_asked_and_is_not_kept(bus):
    async with (
        bus.subscribe(job="j") as plain,
        bus.subscribe(job="j", previews=True) as seeing,
        bus.subscribe(user="u", nodes=True) as following,
        bus.subscribe(nodes=True, previews=True) as all_of_it,
    ):
        first = bus.publish(event.queued("j", "u"))
        bus.publish(event.executing("j", "u", node="3"))
        bus.publish(event.executed("j", "u", node="3", output={"text": ["a"]}))
        bus.publish(event.preview("j", "u", image=b"x", media_type="image/png"))
        heard = [types(await one.batch()) for one in (plain, seeing)]
        assert heard == [["queued"], ["queued", "preview"]]
        assert types(await following.batch()) == ["queued", "executing", "executed"]
        assert types(await all_of_it.batch()) == ["queued", "executing", "executed", "preview"]
    async with bus.subscribe(job="j", nodes=True, last_event_id=first.id) as later:
        assert later.resumed
        assert later.pending == 0


async def test_newest_progress_of_a_job_is_known_until_it_ends(bus):
    assert bus.progress_of("j") is None
    bus.publish(progress(10))
    bus.publish(progress(20))
    assert bus.progress_of("j").data["percent"] == 20
    bus.publish(event.finished("j", "u", outputs=[]))
    assert bus.progress_of("j") is None
