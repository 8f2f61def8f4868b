"""How many jobs an instance is given at once, by how long they take there."""

import asyncio

import pytest

from atelier.worker.seats import (
    AHEAD,
    AHEAD_OF_QUICK_INSTANCE,
    AT_INSTANCE,
    AT_QUICK_INSTANCE,
    Seats,
    Turns,
)


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


async def free(places):
    """How many may enter now; they leave again."""
    count = 0
    while not places.locked():
        await places.acquire()
        count += 1
    for _ in range(count):
        places.release()
    return count


async def run(seats, clock, seconds, times):
    for _ in range(times):
        await seats.claimed.acquire()
        clock.now += seconds
        seats.leave()


async def test_two_are_at_an_instance_and_one_is_on_its_way(clock):
    seats = Seats(clock)
    await run(seats, clock, 8.0, 20)
    assert await free(seats.there) == AT_INSTANCE
    assert await free(seats.claimed) == AT_INSTANCE + AHEAD


async def test_more_are_where_runs_take_no_time(clock):
    seats = Seats(clock)
    await run(seats, clock, 0.005, 30)
    assert await free(seats.there) == AT_QUICK_INSTANCE
    assert await free(seats.claimed) == AT_QUICK_INSTANCE + AHEAD_OF_QUICK_INSTANCE


async def test_one_quick_run_among_slow_ones_changes_nothing(clock):
    seats = Seats(clock)
    for _ in range(10):
        await run(seats, clock, 3.0, 1)
        await run(seats, clock, 0.001, 1)
        assert await free(seats.there) == AT_INSTANCE


async def test_who_is_in_stays_when_runs_become_slow(clock):
    seats = Seats(clock)
    await run(seats, clock, 0.005, 30)
    for _ in range(AT_QUICK_INSTANCE):
        await seats.there.acquire()
    await run(seats, clock, 1.0, 1)
    assert seats.there.locked()
    for _ in range(AT_QUICK_INSTANCE - AT_INSTANCE):
        seats.there.release()
        assert seats.there.locked()
    for number in range(AT_INSTANCE):
        seats.there.release()
        assert await free(seats.there) == number + 1
    assert await free(seats.claimed) == AT_INSTANCE + AHEAD


async def test_places_are_given_in_the_order_of_asking(clock):
    there = Seats(clock).there
    order = []

    async def enter(name):
        async with there:
            order.append(name)

    async with there:
        await there.acquire()
        waiting = [asyncio.create_task(enter(name)) for name in "abc"]
        await asyncio.sleep(0)
        waiting[1].cancel()
        await asyncio.sleep(0)
        assert order == []
    await asyncio.gather(*waiting, return_exceptions=True)
    assert order == ["a", "c"]
    there.release()
    assert await free(there) == AT_INSTANCE


async def test_place_given_to_somebody_who_is_cancelled_goes_to_the_next(clock):
    there = Seats(clock).there
    for _ in range(AT_INSTANCE):
        await there.acquire()
    first, second = (asyncio.create_task(there.acquire()) for _ in range(2))
    await asyncio.sleep(0)
    there.release()
    first.cancel()
    await asyncio.wait_for(second, 1)
    assert there.locked()


async def test_of_those_who_wait_the_one_with_the_least_to_do_goes_first():
    turns, went = Turns(), []

    async def go(load):
        async with turns.take(load):
            went.append(load)
            await asyncio.sleep(0)

    await asyncio.gather(*(go(load) for load in (3, 1, 2, 1)))
    assert went == [1, 1, 2, 3]


async def test_who_comes_back_with_more_to_do_lets_the_idle_go_first():
    """An instance with free places took the next job too, before an idle one had asked."""
    turns, went = Turns(), []

    async def greedy():
        for load in (0, 1, 2):
            async with turns.take(load):
                went.append(("greedy", load))

    async def idle():
        async with turns.take(0):
            went.append(("idle", 0))

    await asyncio.gather(greedy(), idle())
    assert went == [("greedy", 0), ("idle", 0), ("greedy", 1), ("greedy", 2)]


async def test_turn_of_one_who_gave_up_goes_to_the_next():
    turns = Turns()
    waiting = asyncio.Event()

    async def go():
        async with turns.take(1):
            waiting.set()

    async with turns.take(0):
        gone = asyncio.create_task(go())
        await asyncio.sleep(0)
        gone.cancel()
        left = asyncio.create_task(go())
        await asyncio.sleep(0)
        assert not waiting.is_set()
    async with asyncio.timeout(1):
        await left
    with pytest.raises(asyncio.CancelledError):
        await gone


async def test_turn_given_in_the_moment_of_giving_up_is_passed_on():
    turns = Turns()
    started = asyncio.Event()

    async def go():
        started.set()
        async with turns.take(0):
            pytest.fail("it gave up")

    first = asyncio.create_task(go())
    await started.wait()
    asyncio.get_running_loop().call_soon(first.cancel)
    with pytest.raises(asyncio.CancelledError):
        await first
    async with asyncio.timeout(1), turns.take(0):
        pass
