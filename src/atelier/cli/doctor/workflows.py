"""Which workflows run where, and what the others lack."""

import contextlib
from collections.abc import Sequence

from atelier.cli.doctor.finding import Finding, failed, ok, warning
from atelier.cli.doctor.instances import Examined
from atelier.comfy.object_info import ObjectInfo
from atelier.database import Database
from atelier.errors import AtelierError
from atelier.pool.pool import Pool
from atelier.service import Workflows
from atelier.settings import Settings
from atelier.workflows.library import Lacking, Library, Workflow, lacking, requirements


async def library_of(settings: Settings) -> tuple[Library, list[Finding]]:
    """The workflows that there are, registered ones too, and what is wrong with any."""
    folders = [settings.workflows_dir] if settings.workflows_dir else []
    library = Library(folders, strict=False)
    with contextlib.suppress(AtelierError):  # told where the database is looked at
        async with await Database.open(settings.database) as database:
            await database.check()
            workflows = Workflows(database=database, library=library, pool=Pool())
            await workflows.refresh_registered()
    hint = "Correct the file; a running service uses what it was before."
    return library, [failed("workflows", f"{problem}.", hint) for problem in library.problems]


def where_they_run(library: Library, examined: Sequence[Examined]) -> list[Finding]:
    """A finding for each workflow; none where no instance can tell what it has."""
    known = {one.name: one.info for one in examined if one.info is not None}
    if not known:
        return []
    return [_workflow(name, library.get(name), known) for name in library.names()]


def _workflow(name: str, workflow: Workflow, known: dict[str, ObjectInfo]) -> Finding:
    part = f"workflow {name}"
    found = {instance: _variant_or_lacking(workflow, info) for instance, info in known.items()}
    places: dict[str, list[str]] = {}
    for instance, what in found.items():
        if isinstance(what, str):
            places.setdefault(what, []).append(instance)
    if places:
        told = (f"{variant} at {', '.join(where)}" for variant, where in places.items())
        return ok(part, f"runs: {'; '.join(told)}")
    least = min((what for what in found.values() if isinstance(what, Lacking)), key=_weight)
    where = next(instance for instance, what in found.items() if what is least)
    return warning(
        part,
        f"No instance can run it. What needs least lacks at {where}: {least.in_words()}.",
        _what_to_do(least, name),
    )


def _weight(lacks: Lacking) -> float:
    return lacks.weight


def _what_to_do(lacks: Lacking, name: str) -> str:
    steps = []
    for model in lacks.models:
        size = "" if model.size_gib is None else f" ({model.size_gib:g} GiB)"
        steps.append(f"Get {model.path} from {model.url}{size}.")
    steps += [f"Clone {pack.url} to {pack.path} and restart ComfyUI." for pack in lacks.packages]
    if lacks.classes and lacks.comfyui:
        steps.append(f"Update ComfyUI to {lacks.comfyui} or newer.")
    steps.append(f"`atelier workflows show {name}` says what its other variants need.")
    return " ".join(steps)


def _variant_or_lacking(workflow: Workflow, info: ObjectInfo) -> str | Lacking:
    """The variant that would run, or what is missing for the one that lacks least."""
    missing: list[Lacking] = []
    for alternative in requirements(workflow):
        lacks = lacking(workflow.manifest.variant(alternative.variant), alternative, info)
        if not lacks:
            return alternative.variant
        missing.append(lacks)
    return min(missing, key=_weight)
