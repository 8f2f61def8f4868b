"""A full queue, told by each dialect in its own shape."""

import base64

import pytest
from tests.api.conftest import picture

from atelier.jobs.queue import Limits

GRAPH = {
    "1": {"class_type": "EmptyImage", "inputs": {"width": 8, "height": 8, "batch_size": 1}},
    "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "p"}},
}
DATA_URL = f"data:image/png;base64,{base64.b64encode(picture()).decode()}"
URL = "http://pictures.example/cat.png"


@pytest.fixture
async def full(backstage, submit, monkeypatch):
    """The queue holds as many jobs as may wait."""
    await submit()
    monkeypatch.setattr(backstage.queue, "limits", Limits(max_queued=1))
    monkeypatch.setattr(backstage.queue, "_rooms", {})


@pytest.mark.parametrize(
    ("path", "body", "code"),
    [
        (
            "/v1/jobs",
            {"workflow": "style_change", "inputs": {"image": URL}},
            lambda answer: answer["code"],
        ),
        ("/v1/workflows/style_change", {"image": URL}, lambda answer: answer["code"]),
        (
            "/api/v1/transform",
            {"user_id": "u", "image_url": URL},
            lambda answer: answer["code"],
        ),
        (
            "/api/tasks/create",
            {"workflow": "style_change", "inputs": {"image": URL}, "user_id": "u"},
            lambda answer: answer["error"]["code"],
        ),
        (
            "/api/generate",
            {"workflow": "style_change", "images": {"image": DATA_URL}},
            lambda answer: answer["code"],
        ),
        (
            "/api/v1/workflows/submit",
            {"workflow": GRAPH, "client_id": "c"},
            lambda answer: answer["details"]["reason"],
        ),
    ],
)
async def test_full_queue_is_told_with_the_time_to_come_back(client, full, path, body, code):
    async with client.post(path, json=body) as answer:
        document = await answer.json(content_type=None)
        assert answer.status == 429, document
        assert code(document) == "QUEUE_FULL"
        assert int(answer.headers["Retry-After"]) >= 1


async def test_entry_of_a_batch_is_refused_by_itself(client, full):
    body = {"user_id": "u", "image_urls": [URL, URL]}
    async with client.post("/api/v1/transform/batch", json=body) as answer:
        document = await answer.json()
        assert answer.status == 200
        assert "QUEUE_FULL" in str(document)


async def test_another_try_of_a_failed_job_is_refused_too(backstage, client, full, submit, user):
    backstage.queue.limits = Limits()
    job = await submit()
    await backstage.fail(job["id"], code="X", message="It failed.")
    backstage.queue.limits = Limits(max_queued=1)
    async with client.post(f"/v1/jobs/{job['id']}/retry") as answer:
        assert answer.status == 429
