import asyncio
import gc

import pytest

from atelier.database.grouping import Grouped


class Transactions:
    """What stands for the database: one after another, each as long as the test lets it."""

    def __init__(self):
        self.groups = []
        self.go_on = asyncio.Event()
        self.go_on.set()

    async def run(self, work):
        await self.go_on.wait()
        return await work(None)

    async def work(self, connection, items):
        self.groups.append(list(items))
        if "bad" in items:
            raise ZeroDivisionError
        return [KeyError(item) if item == "refused" else item.upper() for item in items]


@pytest.fixture
async def transactions():
    return Transactions()


async def soon():
    for _ in range(5):
        await asyncio.sleep(0)


def ask(grouped, *items):
    return [asyncio.create_task(grouped(item)) for item in items]


async def test_one_alone_waits_for_nobody(transactions):
    grouped = Grouped(transactions.run, transactions.work)
    assert await grouped("a") == "A"
    assert await grouped("b") == "B"
    assert transactions.groups == [["a"], ["b"]]


async def test_what_comes_meanwhile_goes_together_in_order(transactions):
    grouped = Grouped(transactions.run, transactions.work, most=3)
    transactions.go_on.clear()
    first = ask(grouped, "a")
    await soon()
    others = ask(grouped, "b", "c", "d", "e")
    await soon()
    transactions.go_on.set()
    assert await asyncio.gather(*first, *others) == ["A", "B", "C", "D", "E"]
    assert transactions.groups == [["a"], ["b", "c", "d"], ["e"]]


async def test_refusal_is_for_one_alone(transactions):
    grouped = Grouped(transactions.run, transactions.work)
    answers = await asyncio.gather(*ask(grouped, "a", "refused", "c"), return_exceptions=True)
    assert answers[0] == "A"
    assert isinstance(answers[1], KeyError)
    assert answers[2] == "C"


async def test_bad_one_does_not_take_the_others_along(transactions):
    grouped = Grouped(transactions.run, transactions.work)
    transactions.go_on.clear()
    tasks = ask(grouped, "a", "bad", "c")
    await soon()
    transactions.go_on.set()
    answers = await asyncio.gather(*tasks, return_exceptions=True)
    assert (answers[0], answers[2]) == ("A", "C")
    assert isinstance(answers[1], ZeroDivisionError)
    assert transactions.groups == [["a", "bad", "c"], ["a"], ["bad"], ["c"]]


async def test_who_is_cancelled_in_time_is_left_out(transactions):
    grouped = Grouped(transactions.run, transactions.work)
    transactions.go_on.clear()
    first = ask(grouped, "a")
    await soon()
    second, third = ask(grouped, "b", "c")
    await soon()
    second.cancel()
    await soon()
    transactions.go_on.set()
    assert await asyncio.gather(*first, third) == ["A", "C"]
    assert transactions.groups == [["a"], ["c"]]
    assert second.cancelled()


async def test_who_is_cancelled_late_disturbs_nobody(transactions):
    grouped = Grouped(transactions.run, transactions.work)
    transactions.go_on.clear()
    first, second = ask(grouped, "a", "bad")
    await soon()
    second.cancel()
    await soon()
    transactions.go_on.set()
    assert await first == "A"
    await grouped.close()
    gc.collect()  # an error that nobody fetches would be complained about here


async def test_answer_comes_after_what_settles_it(transactions):
    settled = asyncio.Event()
    grouped = Grouped(transactions.run, transactions.work, settle=settled.wait)
    first, second = ask(grouped, "a", "b")
    await soon()
    third = ask(grouped, "c")[0]
    await soon()
    assert transactions.groups == [["a", "b"], ["c"]]  # which didn't wait for the first
    assert not any(task.done() for task in (first, second, third))
    settled.set()
    assert await asyncio.gather(first, second, third) == ["A", "B", "C"]


async def test_loop_that_ends_cancels_whoever_waits(transactions):
    grouped = Grouped(transactions.run, transactions.work)
    transactions.go_on.clear()
    waiting = ask(grouped, "a", "b")
    await soon()
    grouped._task.cancel()
    answers = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(answer) for answer in answers] == [asyncio.CancelledError] * 2
    transactions.go_on.set()
    assert await grouped("c") == "C"
