import asyncio

import pytest
from pydantic import TypeAdapter

from atelier.api.native.models import (
    InstanceListModel,
    JobModel,
    JobPageModel,
    StatsModel,
    WorkflowListModel,
)


def assert_described(model, document):
    """``document`` has exactly what the OpenAPI document promises."""
    TypeAdapter(model).validate_python(document, strict=True, extra="forbid")


async def test_submitted_job_is_accepted_and_can_be_looked_up(client, submit, user):
    job = await submit({"style": "anime"}, metadata={"order": 7}, priority=5)
    assert_described(JobModel, job)
    assert (job["status"], job["user"], job["priority"]) == ("queued", user, 5)
    assert job["metadata"] == {"order": 7}
    assert job["inputs"]["style"] == "anime"
    assert job["queue"]["position"] >= 1
    async with client.get(f"/v1/jobs/{job['id']}") as answer:
        assert answer.status == 200
        assert (await answer.json())["id"] == job["id"]


async def test_answer_to_a_submission_is_202_with_its_address(client, user):
    body = {"workflow": "style_change", "inputs": {"image": "http://x.example/a.png"}}
    async with client.post("/v1/jobs", json={**body, "user": user}) as answer:
        assert answer.status == 202
        job = await answer.json()
        assert answer.headers["Location"] == f"/v1/jobs/{job['id']}"
        assert "Idempotency-Replayed" not in answer.headers


async def test_waiting_job_says_why_it_waits(submit):
    job = await submit()
    assert "ComfyUI" in job["message"]


async def test_seed_left_out_is_drawn_and_reported(submit):
    first, second = await submit(), await submit()
    assert isinstance(first["seed"], int)
    assert first["seed"] != second["seed"]


async def test_wrong_inputs_are_all_named_with_what_is_allowed(client, assert_problem):
    body = {"workflow": "style_change", "inputs": {"style": "nope", "strength": 7}}
    async with client.post("/v1/jobs", json=body) as answer:
        document = await assert_problem(answer, 422, "INPUTS_INVALID")
    errors = {error["field"]: error for error in document["errors"]}
    assert set(errors) == {"inputs.image", "inputs.style", "inputs.strength"}
    assert "clay" in errors["inputs.style"]["allowed"]


async def test_idempotency_key_replays_the_first_answer(client, user):
    body = {
        "workflow": "style_change",
        "inputs": {"image": "http://x.example/a.png"},
        "user": user,
    }
    headers = {"Idempotency-Key": "order-1"}
    ids = set()
    for replayed in (None, "true", "true"):
        async with client.post("/v1/jobs", json=body, headers=headers) as answer:
            assert answer.status == 202
            assert answer.headers.get("Idempotency-Replayed") == replayed
            ids.add((await answer.json())["id"])
    assert len(ids) == 1


async def test_idempotency_key_with_another_body_is_refused(client, submit, user, assert_problem):
    await submit({"style": "clay"}, headers={"Idempotency-Key": "order-2"})
    other = {
        "workflow": "style_change",
        "inputs": {"image": "http://pictures.example/cat.png", "style": "anime"},
        "user": user,
    }
    async with client.post(
        "/v1/jobs", json=other, headers={"Idempotency-Key": "order-2"}
    ) as answer:
        await assert_problem(answer, 409, "IDEMPOTENCY_KEY_REUSED")


async def test_same_key_of_two_users_is_two_jobs(submit):
    one = await submit(headers={"Idempotency-Key": "same"})
    other = await submit(headers={"Idempotency-Key": "same"}, user="somebody-else")
    assert one["id"] != other["id"]


@pytest.mark.parametrize("key", ["", "x" * 201])
async def test_unusable_idempotency_key_is_named(client, assert_problem, key):
    body = {"workflow": "style_change", "inputs": {"image": "http://x.example/a.png"}}
    async with client.post("/v1/jobs", json=body, headers={"Idempotency-Key": key}) as answer:
        document = await assert_problem(answer, 422, "INVALID_REQUEST")
    assert document["errors"][0]["field"] == "Idempotency-Key"


async def test_preference_to_wait_is_answered_with_the_finished_job(
    client, backstage, user, make_picture
):
    body = {
        "workflow": "style_change",
        "inputs": {"image": "http://x.example/a.png"},
        "user": user,
    }

    async def ask():
        async with client.post("/v1/jobs", json=body, headers={"Prefer": "wait=15"}) as answer:
            return answer.status, answer.headers, await answer.json()

    asking = asyncio.create_task(ask())
    job = None
    while job is None:
        async with client.get("/v1/jobs", params={"user": user}) as answer:
            job = next(iter((await answer.json())["jobs"]), None)
    await backstage.finish(job["id"], make_picture())
    status, headers, document = await asking
    assert (status, document["status"]) == (200, "succeeded")
    assert headers["Preference-Applied"] == "wait=15"
    assert document["outputs"][0]["media_type"] == "image/png"


async def test_waiting_in_vain_is_answered_with_the_job_as_it_is(client, user):
    body = {
        "workflow": "style_change",
        "inputs": {"image": "http://x.example/a.png"},
        "user": user,
    }
    async with client.post("/v1/jobs", json=body, headers={"Prefer": "wait=0"}) as answer:
        assert answer.status == 202
        assert "Preference-Applied" not in answer.headers


async def test_finished_job_has_outputs_that_can_be_fetched(
    client, backstage, submit, make_picture
):
    job = await submit()
    data = make_picture()
    await backstage.finish(job["id"], data)
    async with client.get(f"/v1/jobs/{job['id']}") as answer:
        done = await answer.json()
    assert_described(JobModel, done)
    assert done["status"] == "succeeded"
    assert done["finished_at"].endswith("Z")
    (output,) = done["outputs"]
    async with client.get(output["url"]) as answer:
        assert answer.status == 200
        assert answer.headers["Content-Type"] == "image/png"


async def test_failed_job_tells_code_sentence_and_hint(client, backstage, submit):
    job = await submit()
    await backstage.fail(
        job["id"], code="URL_REFUSED", message="No.", hint="Ask another.", retryable=False
    )
    async with client.get(f"/v1/jobs/{job['id']}") as answer:
        failed = await answer.json()
    assert failed["status"] == "failed"
    assert failed["error"]["code"] == "URL_REFUSED"
    assert failed["error"]["hint"] == "Ask another."


async def test_cancelled_job_ends_and_can_be_retried_and_deleted(client, submit, assert_problem):
    job = await submit()
    address = f"/v1/jobs/{job['id']}"
    async with client.delete(address) as answer:
        await assert_problem(answer, 409, "JOB_NOT_ENDED")
    async with client.post(f"{address}/cancel") as answer:
        assert (await answer.json())["status"] == "cancelled"
    async with client.post(f"{address}/retry") as answer:
        assert answer.status == 202
        assert (await answer.json())["status"] == "queued"
    async with client.post(f"{address}/retry") as answer:
        await assert_problem(answer, 409, "JOB_NOT_ENDED")
    async with client.post(f"{address}/cancel") as answer:
        assert answer.status == 200
    async with client.delete(address) as answer:
        assert answer.status == 204
    async with client.get(address) as answer:
        await assert_problem(answer, 404, "JOB_UNKNOWN")


async def test_cancelling_what_has_succeeded_is_a_conflict(
    client, backstage, submit, make_picture, assert_problem
):
    job = await submit()
    await backstage.finish(job["id"], make_picture())
    async with client.post(f"/v1/jobs/{job['id']}/cancel") as answer:
        await assert_problem(answer, 409, "JOB_ALREADY_ENDED")


async def test_list_is_newest_first_in_pages_that_stay_put(client, submit, user):
    ids = [(await submit())["id"] for _ in range(5)]
    seen, cursor = [], None
    while True:
        params = {"user": user, "limit": "2"} | ({"cursor": cursor} if cursor else {})
        async with client.get("/v1/jobs", params=params) as answer:
            page = await answer.json()
        assert_described(JobPageModel, page)
        seen += [job["id"] for job in page["jobs"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
        await submit()  # a newcomer shifts nothing
    assert seen == ids[::-1]


async def test_list_filters_by_status_workflow_and_text(client, submit, user):
    waiting = await submit({"prompt": "a red bicycle"})
    cancelled = await submit()
    async with client.post(f"/v1/jobs/{cancelled['id']}/cancel"):
        pass
    for filters, expected in (
        ({"status": "queued"}, [waiting["id"]]),
        ({"status": "cancelled"}, [cancelled["id"]]),
        ({"q": "bicycle"}, [waiting["id"]]),
        ({"workflow": "style_change"}, [cancelled["id"], waiting["id"]]),
        ({"workflow": "other"}, []),
    ):
        async with client.get("/v1/jobs", params={"user": user, **filters}) as answer:
            assert [job["id"] for job in (await answer.json())["jobs"]] == expected, filters


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("limit=0", "limit"),
        ("limit=201", "limit"),
        ("limit=many", "limit"),
        ("status=done", "status"),
        ("cursor=rubbish", "cursor"),
        ("cursor=ü", "cursor"),
    ],
)
async def test_wrong_question_is_named(client, assert_problem, query, field):
    async with client.get(f"/v1/jobs?{query}") as answer:
        document = await assert_problem(answer, 422, "INVALID_REQUEST")
    assert [error["field"] for error in document["errors"]] == [field]


async def test_graph_of_ones_own_is_accepted_and_given_back(client, user):
    graph = {
        "1": {"class_type": "EmptyImage", "inputs": {"width": 64, "height": 64, "color": 255}},
        "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "x"}},
    }
    async with client.post("/v1/jobs", json={"workflow": graph, "user": user}) as answer:
        assert answer.status == 202, await answer.text()
        job = await answer.json()
    assert job["graph"]["1"]["class_type"] == "EmptyImage"
    async with client.get("/v1/jobs", params={"user": user}) as answer:
        assert (await answer.json())["jobs"][0]["graph"] is None


async def test_graph_that_is_none_is_refused(client):
    async with client.post("/v1/jobs", json={"workflow": {"1": "nonsense"}}) as answer:
        document = await answer.json(content_type="application/problem+json")
    assert answer.status == 422
    assert document["code"].startswith(("WORKFLOW", "GRAPH"))


async def test_ui_graph_waits_for_an_instance_that_can_read_it(client):
    graph = {"nodes": [{"id": 1, "type": "EmptyImage"}], "links": []}
    async with client.post("/v1/jobs", json={"workflow": graph}) as answer:
        document = await answer.json(content_type="application/problem+json")
    assert (answer.status, document["code"]) == (503, "CONVERSION_UNAVAILABLE")
    assert document["retryable"] is True
    assert "Export (API)" in document["hint"]
    assert "Retry-After" in answer.headers


async def test_state_is_as_the_document_describes_it(client, submit):
    await submit()
    for path, model in (
        ("/v1/stats", StatsModel),
        ("/v1/instances", InstanceListModel),
        ("/v1/workflows", WorkflowListModel),
    ):
        async with client.get(path) as answer:
            assert answer.status == 200
            assert_described(model, await answer.json())


async def test_stats_count_what_waits_and_tell_memory(client, submit):
    await submit({"style": "clay"})
    async with client.get("/v1/stats") as answer:
        stats = await answer.json()
    assert stats["by_status"]["queued"] >= 1
    assert stats["memory_bytes"] > 10_000_000


async def test_health_has_the_keys_of_both_dialects(client):
    async with client.get("/health") as answer:
        health = await answer.json()
    assert answer.status == 200
    assert (health["mysql"], health["database"], health["redis"]) == ("ok", "ok", "not configured")
    assert health["status"] == "degraded"  # no instance is configured here
    assert health["instances"] == []


async def test_front_page_leads_on(client):
    async with client.get("/") as answer:
        links = await answer.json()
    for name in ("docs", "reference", "openapi", "health", "workflows"):
        async with client.get(links[name]) as answer:
            assert answer.status == 200, name
