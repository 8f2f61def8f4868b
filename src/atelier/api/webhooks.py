"""How each dialect shows a job that has ended to the address that was named with it."""

from collections.abc import Callable, Mapping
from typing import Any

from atelier.api.addresses import absolute
from atelier.api.native.render import job_json
from atelier.api.tasks.render import task_json
from atelier.service import JobView

Render = Callable[[JobView], Mapping[str, Any]]


def webhook_renderers(base: str) -> Mapping[str, Render]:
    """By dialect; ``base`` is where callers reach the service, for the addresses of pictures."""
    return {"tasks": lambda view: task_json(view, base)}


def native_webhook(base: str) -> Render:
    """A job as /v1 shows it in a list (without its graph), with absolute addresses."""

    def render(view: JobView) -> Mapping[str, Any]:
        document = job_json(view) | {"graph": None}
        for files in ("outputs", "previews"):
            document[files] = [_absolute(file, base) for file in document[files]]
        return document

    return render


def _absolute(file: Mapping[str, Any], base: str) -> dict[str, Any]:
    thumbnail = file["thumbnail_url"]
    return {
        **file,
        "url": absolute(file["url"], base),
        "thumbnail_url": thumbnail and absolute(thumbnail, base),
    }
