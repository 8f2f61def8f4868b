"""What the dialects call: jobs, assets, templates, state of the whole. No HTTP, no SQL text."""

from atelier.service.assets import AssetContent, Assets
from atelier.service.files import FileName, Files
from atelier.service.fitting import Fitted, Wish
from atelier.service.generations import Generations
from atelier.service.notices import Notices
from atelier.service.overview import Overview
from atelier.service.presence import Presence
from atelier.service.services import Services
from atelier.service.submission import Submission
from atelier.service.views import (
    AssetView,
    Health,
    InstanceCheck,
    InstanceQueueView,
    InstanceView,
    JobHistory,
    JobPage,
    JobView,
    LineView,
    ModelView,
    OutputView,
    QueuedPrompt,
    QueuesView,
    Stats,
    SystemView,
    VariantView,
    WebhookView,
    WorkflowView,
)
from atelier.service.workflows import Workflows

__all__ = [
    "AssetContent",
    "AssetView",
    "Assets",
    "FileName",
    "Files",
    "Fitted",
    "Generations",
    "Health",
    "InstanceCheck",
    "InstanceQueueView",
    "InstanceView",
    "JobHistory",
    "JobPage",
    "JobView",
    "LineView",
    "ModelView",
    "Notices",
    "OutputView",
    "Overview",
    "Presence",
    "QueuedPrompt",
    "QueuesView",
    "Services",
    "Stats",
    "Submission",
    "SystemView",
    "VariantView",
    "WebhookView",
    "Wish",
    "WorkflowView",
    "Workflows",
]
