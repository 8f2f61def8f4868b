"""Every operation of the OpenAPI document, called with what it allows and with what it doesn't.

The document promises statuses, media types and shapes; schemathesis makes up requests and checks
that what comes back is one of those, and never a 500. FUZZ_EXAMPLES is how many requests an
operation gets (`make fuzz`: many), FUZZ_SEED makes other ones, DATABASE_URL keeps them elsewhere.
"""

import os
from contextlib import suppress
from itertools import count

import pytest
import requests
import schemathesis
import structlog
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "5"))
SEED = int(os.environ.get("FUZZ_SEED", "1"))
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
    response_headers_conformance,
    negative_data_rejection,
]
RUNS = "POST /v1/workflows/"
# These answer for as long as they are listened to. test_streams.py, test_tasks.py and
# test_transform.py listen to them.
STREAMS = {
    "GET /v1/events",
    "GET /v1/jobs/{job_id}/events",
    "GET /api/tasks/events",
    "GET /api/tasks/{task_id}/events",
    "GET /api/v1/task/{task_id}/events",
    "GET /api/v1/user/{user_id}/events",
}
GRAPH = {
    "1": {
        "class_type": "EmptyImage",
        "inputs": {"width": 8, "height": 8, "batch_size": 1, "color": 255},
    },
    "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "x"}},
}


@pytest.fixture
async def stage(new_backstage, tmp_path):
    """An application of its own: here queues are cleared and workflows removed."""
    stage = new_backstage(tmp_path)
    stage.start()
    yield stage
    stage.stop()


@pytest.fixture
async def known(stage, make_picture):
    """What there is, by the name of the parameter that asks for it."""
    with requests.Session() as session:

        def ask(method, path, **request):
            answer = session.request(method, stage.base + path, timeout=20, **request)
            assert answer.ok, answer.text
            return answer.json()

        asset = ask("POST", "/v1/assets", data=make_picture())["id"]
        file = ask("POST", "/api/v1/images/upload", files={"file": ("cat.png", make_picture())})
        ask("PUT", "/v1/workflows/own", json=GRAPH)
        inputs = {"image": f"asset:{asset}"}
        jobs = [
            ask("POST", "/v1/jobs", json={"workflow": "style_change", "inputs": inputs})["id"]
            for _ in range(5)
        ]
        ask("POST", f"/v1/jobs/{jobs[1]}/cancel")
    output = await stage.finish(jobs[2], make_picture((1, 2, 3)))
    await stage.fail(jobs[3], code="OUT_OF_MEMORY", message="Too large.", hint="Less.")
    await stage.claim(jobs[4])
    return {
        **dict.fromkeys(("job_id", "task_id", "prompt_id"), jobs),
        "asset_id": [asset, output.id],
        "name": ["style_change", "own"],
        "user_id": ["anonymous"],
        "filename": [output.url.rpartition("/")[2], file["name"]],
    }


async def test_answers_are_what_the_document_promises(stage, known):
    schema = schemathesis.openapi.from_url(f"{stage.base}/openapi.json")
    found = [one.ok() for one in schema.get_all_operations()]
    assert {one.label for one in found} >= STREAMS
    # Deleting comes last: what is gone answers nothing more.
    operations = sorted(
        (one for one in found if one.label not in STREAMS), key=lambda one: one.method == "delete"
    )
    wrong, answered = {}, set()
    with structlog.testing.capture_logs() as logs, requests.Session() as session:
        for operation in operations:
            for mode, examples in (("positive", EXAMPLES), ("negative", EXAMPLES // 2)):
                try:
                    _try(operation, GenerationMode(mode), examples, known, session, answered)
                except (Exception, BaseExceptionGroup) as error:  # noqa: BLE001  (all that is wrong)
                    wrong[f"{operation.label} ({mode})"] = _said(error)
    assert not wrong, "\n\n".join(f"{label}\n{said}" for label, said in wrong.items())
    assert any(entry["event"] == "request" for entry in logs)  # they are listened to
    assert [entry for entry in logs if entry["log_level"] in ("error", "critical")] == []
    # Requests that are all refused would prove little.
    silent = sorted({one.label for one in operations} - answered)
    assert len(silent) < len(operations) * 0.2, silent


def _said(error):
    """All that a group of exceptions has to say."""
    if not isinstance(error, BaseExceptionGroup):
        return str(error)
    return "\n".join([str(error), *map(_said, error.exceptions)])


def _try(operation, mode, examples, known, session, answered):
    says = [*operation.iter_parameters(), *operation.body]
    if mode is GenerationMode.NEGATIVE and not says:
        return  # nothing can be wrong with a request that says nothing
    turn = count()

    @seed(SEED)
    @settings(
        max_examples=examples,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate],
    )
    @given(operation.as_strategy(generation_mode=mode))
    def answers_conform(case):
        number = next(turn)
        if mode is GenerationMode.POSITIVE and number % 4:  # a made up id is only ever unknown
            for where in (case.path_parameters, case.query):
                for name in set(where or {}) & set(known):
                    where[name] = known[name][number % len(known[name])]
        answer = case.call(session=session, timeout=30)
        if answer.status_code < 300:
            answered.add(operation.label)
        # All fields of a form are texts, and an empty one counts as left out, as does the null
        # of a workflow's input.
        lenient = case.media_type == "multipart/form-data" or operation.label.startswith(RUNS)
        case.validate_response(
            answer, CHECKS, excluded_checks=[negative_data_rejection] if lenient else []
        )

    with suppress(Unsatisfiable):  # where any text is right, none is wrong
        answers_conform()
