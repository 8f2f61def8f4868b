"""How many jobs an instance is given at once, by how long they take there."""

import asyncio

import pytest

from atelier.worker.seats import (
    AHEAD,
    AHEAD_OF_QUICK_INSTANCE,
    AT_INSTANCE,
    AT_QUICK_INSTANCE,
    Seats,
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
