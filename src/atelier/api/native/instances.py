"""/v1/instances: which there are, and what is wanted of each."""

from typing import Annotated

from fastapi import APIRouter, Path
from fastapi.responses import Response

from atelier.api.documents import PROBLEMS, PROBLEMS_OF_ONE, PROBLEMS_OF_STATE
from atelier.api.json import Json
from atelier.api.native.models import AddInstance, ChangeInstance, InstanceListModel, InstanceModel
from atelier.api.native.render import instance_json
from atelier.service import Services

Id = Annotated[str, Path(description="An instance's id; it may contain slashes.", max_length=255)]


def instances_router(services: Services) -> APIRouter:
    router = APIRouter(prefix="/v1/instances", tags=["state"], responses=PROBLEMS)
    instances = services.instances

    @router.get("", response_model=InstanceListModel, summary="List ComfyUI instances")
    async def list_instances() -> Response:
        return Json({"instances": [instance_json(one) for one in services.overview.instances()]})

    @router.post(
        "",
        response_model=InstanceModel,
        status_code=201,
        responses={409: PROBLEMS_OF_STATE[409]},
        summary="Add a ComfyUI instance",
    )
    async def add_instance(body: AddInstance) -> Response:
        """A worker serves it within a second or two. An address such as `127.0.0.1` means the
        machine of this process: only workers there serve it."""
        added = await instances.add(
            body.url, name=body.name, weight=body.weight, tags=tuple(body.tags)
        )
        return Json(instance_json(added), 201)

    # Before those that end with the id, which takes slashes too.
    @router.post(
        "/{id:path}/drain",
        response_model=InstanceModel,
        responses=PROBLEMS_OF_ONE,
        summary="Give an instance no more jobs",
    )
    async def drain_instance(id: Id) -> Response:
        """What runs there ends; `claimed_jobs` tells when it has. It stays so over restarts."""
        return Json(instance_json(await instances.drain(id)))

    @router.post(
        "/{id:path}/resume",
        response_model=InstanceModel,
        responses=PROBLEMS_OF_ONE,
        summary="Give a drained instance jobs again",
    )
    async def resume_instance(id: Id) -> Response:
        return Json(instance_json(await instances.resume(id)))

    @router.get(
        "/{id:path}",
        response_model=InstanceModel,
        responses=PROBLEMS_OF_ONE,
        summary="Look at an instance",
    )
    async def get_instance(id: Id) -> Response:
        return Json(instance_json(instances.get(id)))

    @router.patch(
        "/{id:path}",
        response_model=InstanceModel,
        responses=PROBLEMS_OF_ONE,
        summary="Change an instance's weight or tags",
    )
    async def change_instance(id: Id, body: ChangeInstance) -> Response:
        changed = await instances.change(id, weight=body.weight, tags=body.tags)
        return Json(instance_json(changed))

    @router.delete(
        "/{id:path}", status_code=204, responses=PROBLEMS_OF_ONE, summary="Remove an instance"
    )
    async def remove_instance(id: Id) -> Response:
        """It gets no more jobs, and is gone when those that it has have ended. One from a
        worker's configuration stays away, too, until it is added again."""
        await instances.remove(id)
        return Response(status_code=204)

    return router
