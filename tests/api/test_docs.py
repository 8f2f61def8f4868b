"""The pages under docs/api name every code, event, address and field that there is."""

import importlib
import pkgutil
import re
from pathlib import Path
from typing import get_args

import pytest

import atelier
from atelier.api.native.models import JobModel, OutputModel, SubmitJob, WebhookModel
from atelier.api.problems import STATUSES, status_of
from atelier.api.studio.models import (
    AcceptedModel,
    GenerateRequest,
    GenerationModel,
    HistoryModel,
    ModelListModel,
    RecordModel,
)
from atelier.api.tasks import models as tasks
from atelier.api.transform.models import TaskModel, TransformStatsModel
from atelier.api.workflow_service.errors import Code
from atelier.api.workflow_service.models import (
    ClearedModel,
    CodedErrorModel,
    ImageModel,
    ImagesModel,
    InterruptedRunsModel,
    QueueInstanceModel,
    RunsQueueModel,
    SubmittedModel,
    UploadedModel,
    UrlModel,
)
from atelier.errors import AtelierError
from atelier.events import EVENT_TYPES

DOCS = Path(__file__).parents[2] / "docs" / "api"


def page(name):
    return (DOCS / name).read_text("utf-8")


def error_classes():
    for module in pkgutil.walk_packages(atelier.__path__, "atelier."):
        if not module.name.endswith("__main__") and ".migrations." not in module.name:
            importlib.import_module(module.name)
    found, waiting = [], [AtelierError]
    while waiting:
        kind = waiting.pop()
        # Tests have errors of their own.
        if kind.__module__.startswith("atelier."):
            found.append(kind)
        waiting += kind.__subclasses__()
    return found


def test_errors_page_has_every_code_with_its_status():
    documented = {
        code: int(status) if status else None
        for code, status in re.findall(
            r"^\| `([A-Z_]+)` \|(?: (\d{3}) \|)?", page("errors.md"), re.MULTILINE
        )
    }
    for kind in error_classes():
        assert kind.code in documented, f"docs/api/errors.md lacks {kind.code} ({kind})"
        status = documented[kind.code]
        if status is not None:
            assert status == status_of(kind), kind
    for code, status in STATUSES.items():
        assert documented[code] in (status, None), code


def test_codes_of_errors_are_upper_snake():
    for kind in error_classes():
        assert re.fullmatch(r"[A-Z][A-Z_]+[A-Z]", kind.code), kind


def test_events_page_has_every_type():
    documented = re.findall(r"^\| `([a-z]+)` \|", page("events.md"), re.MULTILINE)
    assert documented == list(EVENT_TYPES)


@pytest.mark.parametrize(
    ("name", "model"),
    [
        ("native.md", JobModel),
        ("native.md", OutputModel),
        ("transform.md", TaskModel),
        ("transform.md", TransformStatsModel),
        ("tasks.md", tasks.CreateTask),
        ("tasks.md", tasks.AcceptedModel),
        ("tasks.md", tasks.TaskModel),
        ("tasks.md", tasks.ResultModel),
        ("tasks.md", tasks.ResultFileModel),
        ("tasks.md", tasks.WebhookModel),
        ("tasks.md", tasks.QueueStatusModel),
        ("tasks.md", tasks.InstanceQueueModel),
        ("tasks.md", tasks.ServiceQueueModel),
        ("tasks.md", tasks.InstanceSystemModel),
        ("tasks.md", tasks.InterruptRequest),
        ("tasks.md", tasks.InterruptedModel),
        ("tasks.md", tasks.StatusModel),
        ("native.md", SubmitJob),
        ("native.md", WebhookModel),
        ("workflow-service.md", SubmittedModel),
        ("workflow-service.md", ImageModel),
        ("workflow-service.md", ImagesModel),
        ("workflow-service.md", InterruptedRunsModel),
        ("workflow-service.md", RunsQueueModel),
        ("workflow-service.md", QueueInstanceModel),
        ("workflow-service.md", ClearedModel),
        ("workflow-service.md", UploadedModel),
        ("workflow-service.md", UrlModel),
        ("studio.md", GenerateRequest),
        ("studio.md", AcceptedModel),
        ("studio.md", GenerationModel),
        ("studio.md", HistoryModel),
        ("studio.md", RecordModel),
        ("studio.md", ModelListModel),
    ],
)
def test_page_names_every_field(name, model):
    text = page(name)
    assert [field for field in model.model_fields if f"`{field}`" not in text] == []


def test_workflow_service_page_has_every_code():
    text = page("workflow-service.md")
    documented = re.findall(r"^\| `([A-Z_]+)` \|", text, re.MULTILINE)
    assert documented == list(get_args(Code))
    assert [field for field in CodedErrorModel.model_fields if f'"{field}"' not in text] == []


async def test_pages_name_every_address(client):
    names = (
        "native.md",
        "transform.md",
        "tasks.md",
        "studio.md",
        "workflow-service.md",
        "events.md",
    )
    text = "".join(page(name) for name in names)
    text = text.replace("{id}", "{}").replace("{name}", "{}").replace("{task_id}", "{}")
    text = text.replace("{user_id}", "{}").replace("{job_id}", "{}").replace("{filename}", "{}")
    text = text.replace("{prompt_id}", "{}")
    async with client.get("/openapi.json") as answer:
        paths = (await answer.json())["paths"]
    for path in paths:
        generic = re.sub(r"\{\w+\}", "{}", path)
        if path.startswith("/v1/workflows/"):
            generic = "/v1/workflows/{}"
        assert generic in text, path
