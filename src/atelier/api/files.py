"""Stored bytes as an HTTP answer: ETag, ranges, conditions, and headers that keep it safe."""

import re
from collections.abc import Mapping
from email.utils import format_datetime, parsedate_to_datetime
from typing import Any, Literal
from urllib.parse import quote

from fastapi import Request
from fastapi.responses import RedirectResponse, Response
from starlette.responses import StreamingResponse

from atelier.service import AssetContent

_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})", re.ASCII)
_WHOLE_BYTES = 2 * 1024 * 1024
_SHOWN_IN_PLACE = ("image/", "video/", "audio/", "text/plain")

Span = tuple[int, int]

_BYTES: dict[str, Any] = {
    "content": {"*/*": {"schema": {"type": "string", "format": "binary"}}},
    "description": "The bytes.",
}
# How the OpenAPI document describes such an answer.
FILE: dict[int | str, dict[str, Any]] = {
    200: _BYTES,
    206: {**_BYTES, "description": "Those that `Range` asked for."},
    304: {"description": "It is what you have already."},
    416: {"description": "It has no such range."},
}
REDIRECT: dict[int | str, dict[str, Any]] = {
    307: {"description": "The store itself serves it, at `Location`."}
}


def byte_range(header: str | None, size: int) -> Span | Literal["beyond"] | None:
    """First byte and the one after the last; None: send all; "beyond": nothing to send.

    Only one range is honoured; several may be answered with everything (RFC 9110, 14.2).
    """
    match = _RANGE.fullmatch((header or "").replace(" ", ""))
    if match is None or match.groups() == ("", ""):
        return None
    first, last = match.groups()
    if not first:
        length = int(last)
        return (max(size - length, 0), size) if length and size else "beyond"
    start = int(first)
    end = int(last) + 1 if last else size
    if last and end <= start:
        return None
    return "beyond" if start >= size else (start, min(end, size))


def not_modified(if_none_match: str, etag: str) -> bool:
    known = [one.strip().removeprefix("W/") for one in if_none_match.split(",")]
    return "*" in known or etag.removeprefix("W/") in known


def _applies(if_range: str | None, content: AssetContent) -> bool:
    """Whether a range of the caller's older copy still fits this content."""
    if if_range is None or if_range == content.info.etag:
        return True
    try:
        return parsedate_to_datetime(if_range) >= content.info.modified.replace(microsecond=0)
    except (ValueError, TypeError):
        return False


async def file_response(content: AssetContent, request: Request) -> Response:
    """The bytes, or a redirect to where the store itself serves them."""
    if content.redirect_url is not None:
        # A signed address expires: the redirect must not outlive it.
        headers = {"Cache-Control": "private, max-age=60"}
        return RedirectResponse(content.redirect_url, 307, headers)
    return await asset_response(content, request.method, request.headers)


async def asset_response(
    content: AssetContent, method: str, headers: Mapping[str, str]
) -> Response:
    info = content.info
    answer = {
        "ETag": info.etag,
        "Last-Modified": format_datetime(info.modified, usegmt=True),
        "Cache-Control": "public, max-age=31536000, immutable",
        "Accept-Ranges": "bytes",
        **harmless(content),
    }
    condition = headers.get("if-none-match")
    if condition is not None and not_modified(condition, info.etag):
        return Response(status_code=304, headers=answer)
    wanted = headers.get("range") if _applies(headers.get("if-range"), content) else None
    span = byte_range(wanted, info.size)
    if span == "beyond":
        return Response(
            status_code=416, headers={**answer, "Content-Range": f"bytes */{info.size}"}
        )
    status = 200
    start, end = span or (0, info.size)
    if span is not None:
        status = 206
        answer["Content-Range"] = f"bytes {start}-{end - 1}/{info.size}"
    if method == "HEAD":
        answer["Content-Length"] = str(end - start)
        return Response(status_code=status, headers=answer, media_type=info.media_type)
    return await bytes_response(content, start, end, status, answer)


async def bytes_response(
    content: AssetContent, start: int, end: int, status: int, headers: Mapping[str, str]
) -> Response:
    """Small ones whole, so that a failing store is still an error and not a cut-off answer."""
    media_type = content.info.media_type
    chunks = await content.read(start, end)
    if end - start <= _WHOLE_BYTES:
        return Response(b"".join([part async for part in chunks]), status, headers, media_type)
    sized = {**headers, "Content-Length": str(end - start)}
    return StreamingResponse(chunks, status, sized, media_type)


def harmless(content: AssetContent) -> dict[str, str]:
    """Headers with which a stranger's file doesn't become a page of ours."""
    return {
        "X-Content-Type-Options": "nosniff",
        "Content-Security-Policy": "default-src 'none'; sandbox",
        "Content-Disposition": _disposition(content),
    }


def _disposition(content: AssetContent) -> str:
    kind = "inline" if content.info.media_type.startswith(_SHOWN_IN_PLACE) else "attachment"
    if "svg" in content.info.media_type:
        kind = "attachment"
    if content.filename is None:
        return kind
    return f"{kind}; filename*=UTF-8''{quote(content.filename, safe='')}"
