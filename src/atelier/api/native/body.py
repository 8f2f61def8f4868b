"""A request's body as a JSON object that every database can keep."""

from typing import Any

import orjson
from fastapi import Request

from atelier.api.fields import FieldError
from atelier.api.json import checked_plain
from atelier.api.problems import NOT_JSON_HINT, Problem, Refused, invalid


async def json_object(request: Request, what: str, *, if_empty: bytes = b"null") -> dict[str, Any]:
    """Return the body; ``what`` it is stands in the message where it is no object."""
    try:
        body = orjson.loads(await request.body() or if_empty)
    except orjson.JSONDecodeError as error:
        detail = f"The body isn't JSON ({error})."
        raise Refused(Problem("BODY_NOT_JSON", 422, detail, NOT_JSON_HINT)) from None
    if not isinstance(body, dict):
        detail = f"The body must be a JSON object: {what}."
        raise Refused(Problem("BODY_NOT_JSON", 422, detail, NOT_JSON_HINT))
    try:
        checked_plain(body)
    except ValueError as error:
        raise Refused(invalid(FieldError("body", str(error)))) from None
    return body
