import pytest


async def pages(bench, **filters):
    """All ids that a reader sees who follows the cursors."""
    seen, cursor = [], None
    while True:
        page = await bench.look("list", cursor=cursor, **filters)
        seen.append([job.id for job in page.jobs])
        if page.next_cursor is None:
            return seen
        cursor = page.next_cursor


async def test_pages_go_from_the_newest_to_the_oldest(bench):
    ids = [(await bench.put()).id for _ in range(7)]
    assert await pages(bench, limit=3) == [ids[6:3:-1], ids[3:0:-1], ids[:1]]
    assert await pages(bench, limit=7) == [ids[::-1]]


async def test_pages_stay_the_same_while_jobs_arrive(bench):
    ids = [(await bench.put()).id for _ in range(4)]
    first = await bench.look("list", limit=2)
    await bench.put()
    await bench.do("delete", first.jobs[0].id)
    second = await bench.look("list", limit=2, cursor=first.next_cursor)
    assert [job.id for job in first.jobs + second.jobs] == ids[::-1]
    assert second.next_cursor is None


async def test_numbered_pages_go_from_the_newest_on_and_know_how_many_there_are(bench):
    ids = [(await bench.put(dialect=dialect)).id for dialect in ("native", "studio") * 3]
    await bench.do("delete", ids.pop(2))
    assert await bench.look("count") == 5
    newest = ids[::-1]
    for offset in range(7):
        page = await bench.look("newest", limit=2, offset=offset)
        assert [job.id for job in page] == newest[offset : offset + 2]
    assert (await bench.look("newest", limit=1))[0].dialect == "studio"


async def test_user_sees_only_their_own_jobs(bench):
    mine = await bench.put(user="ada", metadata={"batch": "b"})
    other = await bench.put(user="bob", metadata={"batch": "b"})
    assert await pages(bench, user="ada") == [[mine.id]]
    assert await pages(bench, user="ada", batch="b") == [[mine.id]]
    assert await bench.look("get", other.id, user="ada") is None
    assert (await bench.look("get", mine.id, user="ada")).id == mine.id


async def test_filters_narrow_the_list(bench):
    done = await bench.claimed(workflow="upscale", metadata={"batch": "b1"}, dialect="transform")
    await bench.do("finish", done.job.id, done.lease, [])
    waiting = await bench.put(metadata={"style": "clay"}, inputs={"prompt": "A Red 100%_Fox"})
    for filters, expected in (
        ({"status": "succeeded"}, done.job.id),
        ({"status": ["queued", "failed"]}, waiting.id),
        ({"workflow": "upscale"}, done.job.id),
        ({"batch": "b1"}, done.job.id),
        ({"dialect": "transform"}, done.job.id),
        ({"q": "red 100%_fox"}, waiting.id),
        ({"q": "CLAY"}, waiting.id),
        ({"q": waiting.id[-12:]}, waiting.id),
    ):
        assert await pages(bench, **filters) == [[expected]], filters


@pytest.mark.parametrize("q", ["100x_fox", "%", "' OR 1=1 --", "\\"])
async def test_search_takes_its_words_literally(bench, q):
    await bench.put(inputs={"prompt": "fox"})
    assert await pages(bench, q=q) == [[]]


async def test_changes_are_told_of_the_jobs_asked_for(bench):
    first, second, third = [await bench.put() for _ in range(3)]
    await bench.do("cancel", second.id)
    since = (await bench.get(second.id)).updated_at_ms
    await bench.do("cancel", third.id)
    changed = await bench.look("changed_since", since, [first.id, second.id])
    assert second.id in [job.id for job in changed]
    assert third.id not in [job.id for job in changed]
    assert await bench.look("changed_since", since + 60_000, [second.id]) == []
    assert await bench.look("changed_since", 0, []) == []


async def test_live_jobs_are_those_that_have_not_ended(bench):
    running = await bench.claimed()
    queued = await bench.put()
    ended = await bench.put()
    await bench.do("cancel", ended.id)
    await bench.put(user="bob")
    assert await bench.look("live_ids", ["ada"]) == {running.job.id, queued.id}
    assert await bench.look("live_ids", []) == set()


async def test_next_in_line_is_what_would_be_claimed(bench):
    await bench.put()
    high = await bench.put(priority=1)
    [first] = await bench.look("next_in_line", 1)
    assert first.id == high.id == (await bench.claim()).job.id


async def test_old_jobs_of_a_dialect_can_be_found(bench):
    old = await bench.put(dialect="transform")
    await bench.do("cancel", old.id)
    kept = await bench.put(dialect="native")
    await bench.do("cancel", kept.id)
    await bench.put(dialect="transform")
    found = await bench.look("ended_before", age_ms=0, dialects=["transform"], limit=5)
    assert found == [old.id]
    looked = {"age_ms": 0, "dialects": ["transform"], "limit": 5, "after": old.id}
    assert await bench.look("ended_before", **looked) == []
    assert await bench.look("ended_before", age_ms=60_000, dialects=["transform"], limit=5) == []
