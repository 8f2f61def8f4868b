"""Workflows that come and go while the service runs: registered here, or files in a folder.

What is registered is kept in the database, so that all processes have it within about a second.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import structlog
from pydantic import ValidationError

from atelier.comfy.object_info import ObjectInfo
from atelier.database import Database, DatabaseUnavailable
from atelier.errors import Conflict, InvalidRequest, NotFound
from atelier.jobs.job import Job
from atelier.pool.pool import Pool
from atelier.service.recently import Recently
from atelier.workflows.archive import Archive, WorkflowVersion
from atelier.workflows.definition import (
    NAME_RULE,
    Definition,
    DefinitionInvalid,
    define,
    described,
    explained,
    is_name,
)
from atelier.workflows.formats import named_types
from atelier.workflows.inline import NAME as INLINE
from atelier.workflows.inline import inline
from atelier.workflows.library import Library, LibraryInvalid, Workflow
from atelier.workflows.manifest import Manifest
from atelier.workflows.patch import patched
from atelier.workflows.workflow import content_of

log = structlog.get_logger(__name__)

POLL_SECONDS = 1.0
VERSIONS_REMEMBERED: Final = 200


class WorkflowNameInvalid(InvalidRequest):
    code = "WORKFLOW_NAME_INVALID"
    default_hint = NAME_RULE


class WorkflowNotOwn(Conflict):
    """It was not registered, so it can't be removed."""

    code = "WORKFLOW_NOT_OWN"


class VersionUnknown(NotFound):
    code = "WORKFLOW_VERSION_UNKNOWN"


@dataclass(frozen=True, slots=True)
class Registered:
    """What a name means now; ``created`` if it meant nothing before."""

    workflow: Workflow
    created: bool


class Workflows:
    """The library as it changes. ``run`` keeps it up to date until it is cancelled."""

    def __init__(self, *, database: Database, library: Library, pool: Pool) -> None:
        self._database = database
        self._archive = Archive(database.dialect)
        self.library = library
        self._pool = pool
        self._definitions: dict[str, Definition] = {}
        self._current: dict[str, str] = {}  # versions of what is registered, by name
        self._unreadable: dict[str, str] = {}
        self._kept = Recently[tuple[str, str]]()
        self._old: OrderedDict[tuple[str, str], Workflow] = OrderedDict()
        self._lock = asyncio.Lock()
        self._told: tuple[str, ...] = ()

    # -- keeping up to date ----------------------------------------------------------------------

    async def run(self) -> None:
        """Look for changed files and for what other processes registered, for ever."""
        await asyncio.gather(
            self._forever(self.refresh_folders), self._forever(self.refresh_registered)
        )

    async def refresh_folders(self) -> None:
        """Take over what has changed in the folders' files."""
        if await asyncio.to_thread(self.library.scan):
            self.library.assemble()
            log.info("workflow files changed", revision=self.library.revision)
        self._tell_problems()

    async def refresh_registered(self) -> None:
        """Take over what is registered now. Raises DatabaseUnavailable."""
        async with self._lock:
            async with self._database.read() as conn:
                current = await self._archive.current(conn)
                changed = {n: v for n, v in current.items() if self._current.get(n) != v}
                bodies = await self._archive.bodies(conn, changed) if changed else {}
            gone = self._current.keys() - current.keys()
            for name in gone:
                self._forget(name)
            for name, body in bodies.items():
                self._read(name, body)
            # Whose version can't be seen yet is looked for again.
            self._current = {n: v for n, v in current.items() if n not in changed or n in bodies}
            if gone or bodies:
                self._assemble()

    def _forget(self, name: str) -> None:
        self._current.pop(name, None)
        self._definitions.pop(name, None)
        self._unreadable.pop(name, None)

    def _read(self, name: str, body: Mapping[str, Any]) -> None:
        try:
            self._definitions[name] = _definition(body)
            self._unreadable.pop(name, None)
        except ValidationError as error:  # a later release has more to say in a manifest
            self._unreadable[name] = f"workflow {name}: {'; '.join(explained(error))}"

    def _assemble(self) -> None:
        self.library.set_own(self._definitions, tuple(self._unreadable.values()))

    def _tell_problems(self) -> None:
        problems = self.library.problems
        if problems != self._told:
            for problem in problems:
                log.warning("a workflow is faulty; what it was before stays", problem=problem)
            if not problems:
                log.info("all workflow files are in order again")
            self._told = problems

    async def _forever(self, work: Callable[[], Awaitable[None]]) -> None:
        clock = asyncio.get_running_loop().time
        while True:
            began = clock()
            try:
                await work()
            except DatabaseUnavailable:
                pass  # said by whoever needs it
            except Exception:
                log.exception("looking for changed workflows failed in a way nobody foresaw")
            # A folder far away takes its time, and is then looked at less often.
            await asyncio.sleep(max(POLL_SECONDS, 10 * (clock() - began)))

    # -- looking -----------------------------------------------------------------------------------

    async def find(self, name: str) -> Workflow:
        """Return what ``name`` means now, also where that is news. Raises WorkflowUnknown."""
        if self.library.find(name) is None:
            await self.refresh_registered()
        return self.library.get(name)

    async def of_job(self, job: Job) -> Workflow:
        """Return the workflow that ``job`` was accepted with.

        A version that was never kept is that of a job from before versions were: it runs what
        its name means now. Raises WorkflowUnknown.
        """
        if job.graph is not None:
            return inline(job.graph, job.inputs)
        now = self.library.find(job.workflow)
        if now is not None and now.version == job.workflow_version:
            return now
        old = await self._kept_version(job.workflow, job.workflow_version)
        return self.library.get(job.workflow) if old is None else old

    async def version(self, name: str, version: str) -> Workflow:
        """Return a version by its hash or its number.

        Raises VersionUnknown, and WorkflowUnknown where there was never anything of that name.
        """
        now = self.library.find(name)
        if now is not None and now.version == version:
            return now
        listed = await self.versions(name)
        for one in listed:
            if version in (one.version, str(one.number)):
                if now is not None and now.version == one.version:
                    return now
                found = await self._kept_version(name, one.version)
                if found is not None:
                    return found
        raise VersionUnknown(
            f"{name} has no version {version!r}.",
            hint=f"GET /v1/workflows/{name}/versions lists them.",
            allowed=[one.version for one in listed[:20]],
        )

    async def versions(self, name: str) -> list[WorkflowVersion]:
        """Return what was registered under ``name`` or used, newest first; raises WorkflowUnknown.

        Files are versions from their first job on.
        """
        found: list[WorkflowVersion] = []
        if is_name(name):
            async with self._database.read() as conn:
                found = await self._archive.versions(conn, name)
        if not found:
            await self.find(name)
        return found

    async def _kept_version(self, name: str, version: str) -> Workflow | None:
        key = (name, version)
        if key not in self._old:
            body = await self._database.query(lambda conn: self._archive.body(conn, name, version))
            if body is None:
                return None
            kept = _definition(body)
            self._old[key] = Workflow(kept.manifest, kept.graphs, version)
            if len(self._old) > VERSIONS_REMEMBERED:
                self._old.popitem(last=False)
        self._old.move_to_end(key)
        return self._old[key]

    async def keep(self, conn: Any, workflow: Workflow) -> None:
        """Keep the version that a job is accepted with, in the transaction that accepts it."""
        key = (workflow.name, workflow.version)
        if key not in self._kept:
            origin = (
                self.library.origin(workflow.name)
                if self.library.find(workflow.name) is not None
                else "own"
            )
            body = content_of(workflow.manifest, workflow.graphs)
            await self._archive.keep(conn, *key, body, origin)

    def remember_kept(self, workflow: Workflow) -> None:
        """Call once the transaction of ``keep`` is committed."""
        key = (workflow.name, workflow.version)
        if key not in self._kept:
            self._kept.add(key)

    # -- registering -------------------------------------------------------------------------------

    def try_out(self, name: str, body: Any) -> Workflow:
        """Return what ``put`` would register, without registering it."""
        return self._built(define(_checked(name), body, self._object_info(body)))

    async def put(self, name: str, body: Any) -> Registered:
        """Register ``body`` (see ``define``) under ``name``.

        Raises WorkflowNameInvalid, or DefinitionInvalid with all problems.
        """
        return await self._register(define(_checked(name), body, self._object_info(body)))

    async def edit(self, name: str, patch: Mapping[str, Any]) -> Registered:
        """Change the manifest of ``name`` by ``patch`` (see ``patched``), and register that.

        A shipped workflow, or one of a folder, is overridden. Raises WorkflowUnknown,
        DefinitionInvalid.
        """
        await self.find(name)
        before = self.library.definition(name)
        manifest = before.manifest.model_dump(mode="json", exclude_defaults=True)
        about = patched(manifest, patch)
        return await self._register(described(_checked(name), about, before.graphs))

    async def remove(self, name: str) -> bool:
        """Take away what was registered under ``name``; True if that uncovered another.

        Raises WorkflowUnknown, WorkflowNotOwn.
        """
        if not is_name(name):
            self.library.get(name)
        async with self._lock:
            removed = await self._database.run(lambda conn: self._archive.remove(conn, name))
            if removed:
                self._forget(name)
                self._assemble()
        uncovered = self.library.find(name) is not None
        if removed:
            log.info("workflow removed", workflow=name)
            return uncovered
        origin = self.library.origin(name)
        what = "is shipped" if origin == "shipped" else "comes from a file"
        raise WorkflowNotOwn(
            f"{name} {what} and can't be removed here.",
            hint="Register another under its name to override it."
            if origin == "shipped"
            else "Remove its file from the folder ATELIER_WORKFLOWS_DIR.",
        )

    async def _register(self, definition: Definition) -> Registered:
        workflow = self._built(definition)
        name, version = workflow.name, workflow.version
        body = content_of(workflow.manifest, workflow.graphs)
        created = self.library.find(name) is None

        async def work(conn: Any) -> None:
            await self._archive.keep(conn, name, version, body, "own")
            await self._archive.register(conn, name, version)

        async with self._lock:
            await self._database.run(work)
            self._definitions[name] = definition
            self._unreadable.pop(name, None)
            self._current[name] = version
            self._assemble()
        self.remember_kept(workflow)
        log.info("workflow registered", workflow=name, version=version)
        return Registered(workflow, created)

    def _built(self, definition: Definition) -> Workflow:
        try:
            return self.library.build(definition)
        except LibraryInvalid as error:
            name = definition.manifest.name
            problems = [one.removeprefix(f"workflow {name}: ") for one in error.problems]
            raise DefinitionInvalid(name, problems) from error

    def _object_info(self, body: Any) -> ObjectInfo | None:
        return self._pool.knowing(named_types(body))


def _definition(body: Mapping[str, Any]) -> Definition:
    return Definition(Manifest.model_validate(body["manifest"]), body["graphs"])


def _checked(name: str) -> str:
    if not is_name(name):
        reason = "stands for graphs without a name" if name == INLINE else "can't be a name"
        raise WorkflowNameInvalid(f"{name!r} {reason}.")
    return name
