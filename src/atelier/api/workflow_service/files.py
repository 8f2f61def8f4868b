"""/api/v1/images: input pictures come in under a name; everything goes out by its name."""

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response
from starlette.datastructures import FormData, UploadFile

from atelier.api.addresses import absolute, base_url
from atelier.api.fields import FieldError
from atelier.api.files import FILE, asset_response
from atelier.api.json import Json
from atelier.api.problems import Refused, dialect_route, invalid
from atelier.api.workflow_service.errors import rendering
from atelier.api.workflow_service.models import (
    ANONYMOUS,
    CLIENT_ID_WRONG,
    CodedErrorModel,
    UploadedModel,
    UrlModel,
    is_client_id,
)
from atelier.api.workflow_service.render import file_json
from atelier.service import FileName, Services

_FORM: dict[str, Any] = {
    "schema": {
        "type": "object",
        "properties": {
            "file": {"type": "string", "format": "binary"},
            "overwrite": {"type": "boolean", "default": False},
            "subfolder": {"type": "string", "default": ""},
        },
        "required": ["file"],
    }
}
_WRONG: dict[int | str, dict[str, Any]] = {
    400: {"model": CodedErrorModel, "description": "The form can't be read."},
    413: {"model": CodedErrorModel, "description": "It is too large."},
    422: {"model": CodedErrorModel, "description": "It is no picture, or its name can't be used."},
    503: {"model": CodedErrorModel, "description": "We can't just now; try again."},
}
_MISSING: dict[int | str, dict[str, Any]] = {
    404: {"model": CodedErrorModel, "description": "There is no such picture."},
    422: {"model": CodedErrorModel, "description": "The filename is missing."},
    503: _WRONG[503],
}

Filename = Annotated[str, Query(max_length=500)]
Subfolder = Annotated[str, Query(max_length=500)]
Type = Annotated[str, Query(max_length=20, description="input, output or temp.")]


def files_router(services: Services, public_url: str | None) -> APIRouter:
    router = APIRouter(
        prefix="/images", route_class=dialect_route(rendering("FILE_OPERATION_ERROR"))
    )
    files = services.files

    @router.post(
        "/upload",
        response_model=UploadedModel,
        responses=_WRONG,
        openapi_extra={
            "requestBody": {"required": True, "content": {"multipart/form-data": _FORM}}
        },
        summary="Upload an input picture",
    )
    async def upload_image(request: Request) -> Response:
        """The answer's name (with its subfolder) is what LoadImage takes, at whichever instance.

        Where another picture has the name already, and without `overwrite`, it becomes
        `cat (1).png`."""
        async with request.form(max_files=1, max_fields=10) as form:
            file = _file_of(form)
            if _text(form, "type") not in ("", "input"):
                raise Refused(invalid(FieldError("type", "must be input: nothing else comes in")))
            name = await files.upload(
                await file.read(),
                filename=file.filename or "",
                subfolder=_text(form, "subfolder"),
                overwrite=_text(form, "overwrite").lower() in ("true", "1", "yes", "on"),
                user=_client_of(form),
            )
        return Json({"name": name.filename, "subfolder": name.subfolder, "type": name.type})

    @router.get(
        "/download",
        response_class=Response,
        responses={**_MISSING, **FILE},
        summary="Fetch a picture",
    )
    async def download_image(
        request: Request, filename: Filename, subfolder: Subfolder = "", type: Type = "output"
    ) -> Response:
        """Names are those of an upload's answer, of a history, or of a message on the socket."""
        content = await files.open(FileName(filename, subfolder, type))
        response = await asset_response(content, request.method, request.headers)
        if type == "input":
            # Its name may mean another picture tomorrow.
            response.headers["Cache-Control"] = "no-cache"
        return response

    @router.get("/url", response_model=UrlModel, responses=_MISSING, summary="A picture's URL")
    async def image_url(
        request: Request, filename: Filename, subfolder: Subfolder = "", type: Type = "output"
    ) -> Response:
        """An address for browsers: what it shows never changes."""
        name = FileName(filename, subfolder, type)
        asset = await services.assets.get(await files.find(name))
        return Json({"url": absolute(asset.url, base_url(request, public_url)), **file_json(name)})

    return router


def _file_of(form: FormData) -> UploadFile:
    for field in ("file", "image"):
        if isinstance(found := form.get(field), UploadFile):
            return found
    raise Refused(invalid(FieldError("file", "is required: a picture, as a file of a form")))


def _client_of(form: FormData) -> str:
    given = _text(form, "client_id") or ANONYMOUS
    if not is_client_id(given):
        raise Refused(invalid(FieldError("client_id", CLIENT_ID_WRONG)))
    return given


def _text(form: FormData, name: str) -> str:
    value = form.get(name)
    return value if isinstance(value, str) else ""
