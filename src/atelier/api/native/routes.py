"""All of /v1."""

from fastapi import APIRouter

from atelier.api.native.assets import assets_router
from atelier.api.native.instances import instances_router
from atelier.api.native.jobs import jobs_router
from atelier.api.native.listen import events_router
from atelier.api.native.registering import registering_router
from atelier.api.native.state import state_router
from atelier.api.native.workflows import workflows_router
from atelier.api.streams import OpenStreams
from atelier.service import Services


def native_router(services: Services, streams: OpenStreams) -> APIRouter:
    router = APIRouter()
    router.include_router(jobs_router(services, streams))
    router.include_router(workflows_router(services))
    router.include_router(registering_router(services))
    router.include_router(assets_router(services))
    router.include_router(events_router(services, streams))
    router.include_router(instances_router(services))
    router.include_router(state_router(services))
    return router
