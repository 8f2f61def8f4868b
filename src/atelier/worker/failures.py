"""How a run can fail at an instance."""

from typing import Any

from atelier.comfy.messages import ExecutionError
from atelier.errors import AtelierError, InstanceError, WorkflowError

OUT_OF_MEMORY = ("OutOfMemoryError", "OutOfMemory")  # torch's class, in its old and new module
TRACEBACK_LINES = 20


class NodeFailed(WorkflowError):
    """A node of the graph raised."""

    code = "WORKFLOW_EXECUTION_ERROR"
    default_hint = "The node and its message say what it could not do; correct the inputs."


class OutOfMemory(InstanceError):
    code = "OUT_OF_MEMORY"
    default_hint = "Use a smaller size or batch, or an instance with more memory."


class Interrupted(InstanceError):
    """Somebody else stopped the prompt at the instance."""

    code = "INTERRUPTED_ELSEWHERE"
    default_hint = "It is tried again by itself."


class PromptLost(InstanceError):
    """The instance restarted and knows nothing of the prompt."""

    code = "PROMPT_LOST"
    default_hint = "It is tried again by itself."


class RunTimeout(InstanceError):
    code = "TASK_TIMEOUT"
    retryable = False
    default_hint = "Raise ATELIER_JOB_TIMEOUT_SECONDS if such runs are expected."


def node_failed(message: ExecutionError) -> AtelierError:
    """The error for a node that raised, with all that is known of it in ``data``."""
    kind = message.exception_type.rpartition(".")[2]
    text = message.exception_message.strip()
    sentence = f"Node {message.node_id} ({message.node_type}) raised {kind}: {text}"
    data: dict[str, Any] = {
        "node": message.node_id,
        "node_type": message.node_type,
        "exception_type": message.exception_type,
        "exception_message": text,
        "traceback": list(message.traceback)[-TRACEBACK_LINES:],
    }
    if kind in OUT_OF_MEMORY:
        return OutOfMemory(sentence, **data)
    return NodeFailed(sentence, **data)
