"""Errors in this dialect's eight codes, as {code, message, details}, over HTTP and the socket."""

from collections.abc import Callable, Mapping
from typing import Any, Final, Literal

from fastapi.responses import Response

from atelier.api.json import Json
from atelier.api.problems import Problem, problem_of
from atelier.errors import AtelierError

Code = Literal[
    "CONNECTION_ERROR",
    "WORKFLOW_VALIDATION_ERROR",
    "WORKFLOW_EXECUTION_ERROR",
    "QUEUE_OPERATION_ERROR",
    "FILE_OPERATION_ERROR",
    "IMAGE_NOT_FOUND",
    "TASK_TIMEOUT",
    "WEBSOCKET_ERROR",
]

# What isn't here is the error of what was asked for: of the submission, the queue, the file.
CODES: Final[Mapping[str, Code]] = {
    "WORKFLOW_ERROR": "WORKFLOW_VALIDATION_ERROR",
    "WORKFLOW_VALIDATION_ERROR": "WORKFLOW_VALIDATION_ERROR",
    "WORKFLOW_VARIANT_UNKNOWN": "WORKFLOW_VALIDATION_ERROR",
    "NO_INSTANCE_CAN_RUN": "WORKFLOW_VALIDATION_ERROR",
    "INPUTS_INVALID": "WORKFLOW_VALIDATION_ERROR",
    "WORKFLOW_EXECUTION_ERROR": "WORKFLOW_EXECUTION_ERROR",
    "WORKFLOW_NO_OUTPUTS": "WORKFLOW_EXECUTION_ERROR",
    "OUT_OF_MEMORY": "WORKFLOW_EXECUTION_ERROR",
    "INTERRUPTED_ELSEWHERE": "WORKFLOW_EXECUTION_ERROR",
    "TASK_TIMEOUT": "TASK_TIMEOUT",
    "INSTANCE_ERROR": "CONNECTION_ERROR",
    "INSTANCE_UNREACHABLE": "CONNECTION_ERROR",
    "INSTANCE_FILE_MISSING": "CONNECTION_ERROR",
    "COMFYUI_PROTOCOL_ERROR": "CONNECTION_ERROR",
    "PROMPT_LOST": "CONNECTION_ERROR",
    "JOB_UNKNOWN": "QUEUE_OPERATION_ERROR",
    "JOB_ALREADY_ENDED": "QUEUE_OPERATION_ERROR",
    "QUEUE_FULL": "QUEUE_OPERATION_ERROR",
    "LIMIT_REACHED": "QUEUE_OPERATION_ERROR",
    "DATABASE_UNAVAILABLE": "QUEUE_OPERATION_ERROR",
    "DATABASE_BUSY": "QUEUE_OPERATION_ERROR",
    "DATABASE_FULL": "QUEUE_OPERATION_ERROR",
    "RATE_LIMITED": "QUEUE_OPERATION_ERROR",
    "SLOW_SUBSCRIBER": "WEBSOCKET_ERROR",
    "FILE_UNKNOWN": "IMAGE_NOT_FOUND",
    "ASSET_UNKNOWN": "IMAGE_NOT_FOUND",
    "OBJECT_MISSING": "IMAGE_NOT_FOUND",
    "MEDIA_REJECTED": "FILE_OPERATION_ERROR",
    "NOT_AN_IMAGE": "FILE_OPERATION_ERROR",
    "IMAGE_TOO_LARGE": "FILE_OPERATION_ERROR",
    "DATA_URI_MALFORMED": "FILE_OPERATION_ERROR",
    "DOWNLOAD_TOO_LARGE": "FILE_OPERATION_ERROR",
    "UPLOAD_TOO_LARGE": "FILE_OPERATION_ERROR",
    "URL_REFUSED": "FILE_OPERATION_ERROR",
    "URL_STATUS": "FILE_OPERATION_ERROR",
    "URL_UNREACHABLE": "FILE_OPERATION_ERROR",
    "URL_UNAVAILABLE": "FILE_OPERATION_ERROR",
    "MEDIA_UNAVAILABLE": "FILE_OPERATION_ERROR",
    "ASSET_GONE": "FILE_OPERATION_ERROR",
    "INSTANCE_FILE_TOO_LARGE": "FILE_OPERATION_ERROR",
    "FILE_NAME_REFUSED": "FILE_OPERATION_ERROR",
    "STORAGE_ERROR": "FILE_OPERATION_ERROR",
    "STORAGE_UNREACHABLE": "FILE_OPERATION_ERROR",
    "STORAGE_FORBIDDEN": "FILE_OPERATION_ERROR",
    "STORAGE_BUCKET_MISSING": "FILE_OPERATION_ERROR",
    "STORAGE_KEY_INVALID": "FILE_OPERATION_ERROR",
}
# How a run that has failed is answered where its pictures were asked for.
STATUSES_OF_RUNS: Final[Mapping[Code, int]] = {"CONNECTION_ERROR": 502, "TASK_TIMEOUT": 504}
_STATUS_OF_OTHER_RUNS: Final = 422


def problem_json(problem: Problem, otherwise: Code) -> dict[str, Any]:
    """``{code, message, details}``; ``details["reason"]`` is the finer code of our own."""
    details: dict[str, Any] = {"reason": problem.code, "hint": problem.hint}
    if problem.errors:
        details["errors"] = [error.as_dict() for error in problem.errors]
    return {
        "code": CODES.get(problem.code, otherwise),
        "message": problem.detail,
        "details": {**problem.data, **details, "retryable": problem.retryable},
    }


def error_json(error: AtelierError, otherwise: Code) -> dict[str, Any]:
    return problem_json(problem_of(error, prefix="workflow."), otherwise)


def run_error_json(error: Mapping[str, Any] | None) -> dict[str, Any]:
    """The same of what is kept with a job; None: it was interrupted."""
    if error is None:
        return {
            "code": "WORKFLOW_EXECUTION_ERROR",
            "message": "The run was interrupted.",
            "details": {"reason": "INTERRUPTED", "interrupted": True, "retryable": False},
        }
    reason = str(error.get("code", "INTERNAL_ERROR"))
    return {
        "code": CODES.get(reason, "WORKFLOW_EXECUTION_ERROR"),
        "message": str(error.get("message") or "The run failed."),
        "details": {
            **(error.get("data") or {}),
            "reason": reason,
            "hint": error.get("hint"),
            "node": error.get("node"),
            "retryable": bool(error.get("retryable")),
        },
    }


def run_error_response(body: Mapping[str, Any]) -> Response:
    return Json(body, STATUSES_OF_RUNS.get(body["code"], _STATUS_OF_OTHER_RUNS))


def rendering(otherwise: Code) -> Callable[[Problem, str], Response]:
    """Answers a problem in this dialect's shape; ``otherwise`` is the code of what was asked."""

    def render(problem: Problem, path: str) -> Response:
        return Json(problem_json(problem, otherwise), problem.status)

    return render
