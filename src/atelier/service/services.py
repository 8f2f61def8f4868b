"""The bundle that the faces are given."""

from dataclasses import dataclass

from atelier.service.assets import Assets
from atelier.service.figures import Watching
from atelier.service.files import Files
from atelier.service.generations import Generations
from atelier.service.overview import Overview
from atelier.service.workflows import Workflows


@dataclass(frozen=True, slots=True)
class Services:
    generations: Generations
    assets: Assets
    overview: Overview
    workflows: Workflows
    files: Files
    watching: Watching
