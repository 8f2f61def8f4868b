"""The bundle that the faces are given."""

from dataclasses import dataclass

from atelier.limits import Limiter
from atelier.service.assets import Assets
from atelier.service.figures import Watching
from atelier.service.files import Files
from atelier.service.generations import Generations
from atelier.service.instances import Instances
from atelier.service.overview import Overview
from atelier.service.presence import Presence
from atelier.service.workflows import Workflows


@dataclass(frozen=True, slots=True)
class Services:
    generations: Generations
    assets: Assets
    overview: Overview
    workflows: Workflows
    files: Files
    instances: Instances
    presence: Presence
    watching: Watching
    limiter: Limiter | None = None  # of submissions
