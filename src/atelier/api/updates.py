"""A job's state and events in the words of the dialects that speak of tasks."""

from collections.abc import Mapping
from typing import Any

from atelier.api.json import iso_time
from atelier.events import Event

STATUS_WORDS: Mapping[str, str] = {
    "queued": "pending",
    "running": "processing",
    "succeeded": "completed",
    "failed": "failed",
    "cancelled": "cancelled",
}
_STATUS_OF_EVENT: Mapping[str, str] = {
    "queued": "pending",
    "position": "pending",
    "retrying": "pending",
    "started": "processing",
    "progress": "processing",
    "preview": "processing",
    "finished": "completed",
    "failed": "failed",
    "cancelled": "cancelled",
}


def update_of(event: Event) -> dict[str, Any]:
    """An event as a task's update: ``status`` in every one, the rest where it is known.

    What came out and what went wrong is for each dialect to add.
    """
    data = event.data
    update: dict[str, Any] = {
        "event": event.type,
        "task_id": event.job,
        "user_id": event.user,
        "updated_at": iso_time(event.at_ms),
    }
    if event.type == "snapshot":
        update["status"] = STATUS_WORDS[data["status"]]
        update |= _progress(data["progress"])
    else:
        update["status"] = _STATUS_OF_EVENT[event.type]
    if event.type == "progress":
        update |= _progress(data)
    if update["status"] == "completed":
        update["progress"] = 100
    if "queue" in data:
        update["queue_position"] = data["queue"]["position"]
        update["eta_seconds"] = data["queue"]["eta_seconds"]
    if event.type == "preview":
        update["preview_image"] = data["image"]
    if data.get("message"):
        update["message"] = data["message"]
    return update


def _progress(data: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "progress": data.get("percent", 0),
        "step": data.get("step"),
        "steps": data.get("steps"),
        "node": data.get("node"),
    }
