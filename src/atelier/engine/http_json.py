"""JSON bodies in and out, whatever a stranger sends."""

import json
from typing import Any

import orjson
from aiohttp import web

from atelier.comfy.protocol import dump_json


async def read_object(request: web.Request, *, empty_allowed: bool = False) -> dict[str, Any]:
    """Return the request's body, a JSON object. Anything else is answered with 400."""
    body = await request.read()
    if empty_allowed and not body.strip():
        return {}
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        value = _read_leniently(body)
    if not isinstance(value, dict):
        raise refuse("invalid_body", "The body must be a JSON object.")
    return value


def answer(value: Any, status: int = 200) -> web.Response:
    """Return ``value`` as a JSON response."""
    return web.Response(
        body=dump_json(value), status=status, content_type="application/json", charset="utf-8"
    )


def refuse(kind: str, message: str, details: str = "") -> web.HTTPBadRequest:
    """Return an exception that answers 400, in the shape of ComfyUI's refusals."""
    error = {"type": kind, "message": message, "details": details, "extra_info": {}}
    text = dump_json({"error": error, "node_errors": {}}).decode()
    return web.HTTPBadRequest(text=text, content_type="application/json")


def _read_leniently(body: bytes) -> Any:
    # Python's reader, which ComfyUI uses, also takes NaN and integers of any size.
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        raise refuse("invalid_json", "The body is no JSON.", str(error)) from error
