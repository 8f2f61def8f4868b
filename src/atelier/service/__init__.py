"""What the dialects call: jobs, assets, templates, state of the whole. No HTTP, no SQL text."""

from atelier.service.assets import AssetContent, Assets
from atelier.service.fitting import Fitted, Wish
from atelier.service.generations import Generations, Submission
from atelier.service.overview import Overview
from atelier.service.services import Services
from atelier.service.views import (
    AssetView,
    Health,
    InstanceCheck,
    InstanceView,
    JobHistory,
    JobPage,
    JobView,
    ModelView,
    OutputView,
    Stats,
    WorkflowView,
)
from atelier.service.workflows import Workflows

__all__ = [
    "AssetContent",
    "AssetView",
    "Assets",
    "Fitted",
    "Generations",
    "Health",
    "InstanceCheck",
    "InstanceView",
    "JobHistory",
    "JobPage",
    "JobView",
    "ModelView",
    "OutputView",
    "Overview",
    "Services",
    "Stats",
    "Submission",
    "Wish",
    "WorkflowView",
    "Workflows",
]
