"""What the OpenAPI document says of this dialect's errors."""

from typing import Any

from atelier.api.tasks.models import ErrorModel

ERRORS: dict[int | str, dict[str, Any]] = {
    422: {"model": ErrorModel, "description": "Something is wrong; `error.fields` names it."},
    503: {"model": ErrorModel, "description": "We can't just now; see `Retry-After`."},
}
ERRORS_OF_ONE: dict[int | str, dict[str, Any]] = {
    **ERRORS,
    404: {"model": ErrorModel, "description": "There is no such thing."},
}
ERRORS_OF_STATE: dict[int | str, dict[str, Any]] = {
    **ERRORS_OF_ONE,
    409: {"model": ErrorModel, "description": "Its state doesn't allow that."},
}
