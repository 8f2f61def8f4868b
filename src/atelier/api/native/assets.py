"""/v1/assets: bring pictures, fetch pictures and other files."""

from collections.abc import Awaitable, Callable
from typing import Annotated

from fastapi import APIRouter, Path, Query, Request
from fastapi.responses import Response
from starlette.datastructures import UploadFile

from atelier.api.documents import PROBLEMS, PROBLEMS_OF_ONE
from atelier.api.fields import FieldError
from atelier.api.files import FILE, REDIRECT, file_response
from atelier.api.json import Json
from atelier.api.native.conversion import Format, MaxSize, Quality
from atelier.api.native.models import AssetModel
from atelier.api.native.render import asset_json
from atelier.api.problems import Refused, invalid
from atelier.media.conversion import conversion_of
from atelier.service import Services

AssetId = Annotated[str, Path(description="The asset's id.", max_length=100)]
_BINARY = {"schema": {"type": "string", "format": "binary"}}
_FORM = {
    "schema": {
        "type": "object",
        "properties": {"file": {"type": "string", "format": "binary"}},
        "required": ["file"],
    }
}
_UPLOAD_HINT = "curl -F file=@photo.jpg .../v1/assets, or the picture itself as the body."


def assets_router(services: Services) -> APIRouter:
    router = APIRouter(prefix="/v1/assets", tags=["assets"])
    assets = services.assets

    @router.post(
        "",
        status_code=201,
        response_model=AssetModel,
        responses=PROBLEMS,
        openapi_extra={
            "requestBody": {
                "required": True,
                "content": {"multipart/form-data": _FORM, "image/*": _BINARY},
            }
        },
        summary="Upload a picture",
    )
    async def upload_asset(
        request: Request,
        user: Annotated[str, Query(min_length=1, max_length=200)] = "anonymous",
        filename: Annotated[str | None, Query(max_length=255)] = None,
    ) -> Response:
        """A form with a `file`, or the picture itself as the body. It is checked, turned
        upright and freed of metadata; name it in inputs as `asset:ID`."""
        if request.headers.get("content-type", "").startswith("multipart/form-data"):
            async with request.form(max_files=1, max_fields=10) as form:
                file = form.get("file")
                if not isinstance(file, UploadFile):
                    error = FieldError("file", "is required: a picture")
                    raise Refused(invalid(error, hint=_UPLOAD_HINT))
                data, filename = await file.read(), filename or file.filename
        else:
            data = await request.body()
        if not data:
            error = FieldError("body", "must not be empty")
            raise Refused(invalid(error, hint=_UPLOAD_HINT))
        view = await assets.upload(data, filename=filename, user=user)
        return Json(asset_json(view), 201, {"Location": f"/v1/assets/{view.id}"})

    @router.get(
        "/{asset_id}",
        response_model=AssetModel,
        responses=PROBLEMS_OF_ONE,
        summary="Look at a picture's data",
    )
    async def get_asset(asset_id: AssetId) -> Response:
        return Json(asset_json(await assets.get(asset_id)))

    async def fetch_content(
        request: Request,
        asset_id: AssetId,
        format: Format = None,
        quality: Quality = None,
        max_size: MaxSize = None,
    ) -> Response:
        """Answers ranges and conditional requests; the content behind an address never changes.

        With `format`, `quality` or `max_size` a picture is converted, once: then it is kept.
        """
        conversion = conversion_of(format, quality, max_size)
        return await file_response(await assets.open(asset_id, conversion=conversion), request)

    async def fetch_thumbnail(request: Request, asset_id: AssetId) -> Response:
        """Answers ranges and conditional requests; the content behind an id never changes."""
        return await file_response(await assets.open(asset_id, thumbnail=True), request)

    _add_file_route(router, "content", fetch_content, "Fetch a file")
    _add_file_route(router, "thumbnail", fetch_thumbnail, "Fetch a file's thumbnail")
    return router


def _add_file_route(
    router: APIRouter, address: str, fetch: Callable[..., Awaitable[Response]], summary: str
) -> None:
    router.add_api_route(
        f"/{{asset_id}}/{address}",
        fetch,
        methods=["GET"],
        response_class=Response,
        responses={**PROBLEMS_OF_ONE, **FILE, **REDIRECT},
        summary=summary,
        operation_id=f"fetch_asset_{address}",
    )
    router.add_api_route(
        f"/{{asset_id}}/{address}",
        fetch,
        methods=["HEAD"],
        response_class=Response,
        include_in_schema=False,
    )
