"""The error tree. Every error says what was wrong and what to do; none knows a protocol.

Callers branch on the class or on ``code`` (stable, documented in docs/api/errors.md);
rooms subclass the branches below, next to the code that raises.
"""

from collections.abc import Mapping
from typing import Any, ClassVar


class AtelierError(Exception):
    """An error that can be shown to the person who caused it.

    ``code`` is stable and machine-readable, ``retryable`` says whether the same request may
    succeed later without being changed, ``data`` holds details that serialise to JSON.
    """

    code: ClassVar[str] = "INTERNAL_ERROR"
    retryable: ClassVar[bool] = False
    default_hint: ClassVar[str] = ""

    def __init__(self, message: str, *, hint: str | None = None, **data: Any) -> None:
        super().__init__(message)
        self.message = message
        self.hint = self.default_hint if hint is None else hint
        self.data: Mapping[str, Any] = data

    def as_dict(self) -> dict[str, Any]:
        """``{code, message, hint, node, retryable, data}``: how an error is kept with a job."""
        return {
            "code": self.code,
            "message": self.message,
            "hint": self.hint or None,
            "node": self.data.get("node"),
            "retryable": self.retryable,
            "data": {key: value for key, value in self.data.items() if key != "node"},
        }


class InvalidRequest(AtelierError):
    """The caller sent something that can never work unchanged."""

    code = "INVALID_REQUEST"


class NotFound(AtelierError):
    """What was named does not exist; ``data`` lists what does where that is short."""

    code = "NOT_FOUND"


class Conflict(AtelierError):
    """The request contradicts the present state (cancelling what has ended, a reused key)."""

    code = "CONFLICT"


class Unavailable(AtelierError):
    """Something that we depend on is away for now."""

    code = "UNAVAILABLE"
    retryable = True


class LimitReached(AtelierError):
    """So much was asked for that it has to wait; ``data["retry_after_seconds"]`` says how long."""

    code = "LIMIT_REACHED"
    retryable = True


class MediaRejected(AtelierError):
    """A picture or its address can't be used; trying again gives the same."""

    code = "MEDIA_REJECTED"


class MediaUnavailable(AtelierError):
    """A picture could not be fetched this time."""

    code = "MEDIA_UNAVAILABLE"
    retryable = True


class WorkflowError(AtelierError):
    """A workflow can't be built or run as asked."""

    code = "WORKFLOW_ERROR"


class InstanceError(AtelierError):
    """A ComfyUI instance failed us; another one, or a later try, may do."""

    code = "INSTANCE_ERROR"
    retryable = True


class StorageError(AtelierError):
    """The object store refused or failed."""

    code = "STORAGE_ERROR"
    retryable = True


class ConfigurationError(AtelierError):
    """The service can't start like this; the command ends with a sentence and exit code 2."""

    code = "CONFIGURATION_ERROR"
