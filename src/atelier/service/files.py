"""Files by the names that graphs and ComfyUI's callers know: filename, subfolder, type.

Instances have folders of their own, where the same name means different files. So an uploaded
name is one of the service, and the subfolder of what a job made begins with the job's id.
"""

from collections.abc import Awaitable, Callable, Collection, Iterable
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, Literal, get_args

from atelier.database import Database
from atelier.errors import InvalidRequest, NotFound
from atelier.jobs.job import TERMINAL, Job
from atelier.jobs.queue import JobQueue
from atelier.media.named_inputs import MAX_PATH_CHARACTERS, NamedInputs
from atelier.service.assets import AssetContent, Assets, AssetUnknown
from atelier.service.views import OutputView

FileType = Literal["input", "output", "temp"]

# A node tells what it has made before the run has ended and the file is kept.
PATIENCE_SECONDS = 30.0


class FileUnknown(NotFound):
    code = "FILE_UNKNOWN"
    default_hint = "The upload, or the history of the run, tells filename, subfolder and type."


class FileNameRefused(InvalidRequest):
    """The name is none, or leads out of the folder of inputs."""

    code = "FILE_NAME_REFUSED"
    default_hint = "Name a file, e.g. cat.png, and a subfolder such as cats where you want one."


@dataclass(frozen=True, slots=True)
class FileName:
    """A file as ComfyUI's callers name it; ``type`` is the folder."""

    filename: str
    subfolder: str = ""
    type: str = "input"


def name_of(job: str, output: OutputView) -> FileName:
    """The name of a job's output: that of the instance, below the job's own subfolder."""
    source = output.source or {}
    subfolder = "/".join(filter(None, (job, source.get("subfolder"))))
    return FileName(output.filename or output.id, subfolder, source.get("type", "output"))


class Files:
    """``wait`` returns once a job has ended, or after that many seconds."""

    def __init__(
        self,
        *,
        database: Database,
        queue: JobQueue,
        names: NamedInputs,
        assets: Assets,
        wait: Callable[[str, float], Awaitable[object]],
    ) -> None:
        self._database = database
        self._queue = queue
        self._names = names
        self._assets = assets
        self._wait = wait

    async def upload(
        self, data: bytes, *, filename: str, subfolder: str = "", overwrite: bool, user: str
    ) -> FileName:
        """Keep a picture under a name that graphs can use; the name is the answer's.

        Where another picture has it, and without ``overwrite``, it becomes ``cat (1).png``.
        Raises FileNameRefused, MediaRejected, UploadTooLarge.
        """
        path = input_path(filename, subfolder)
        asset = await self._assets.upload(data, filename=PurePosixPath(path).name, user=user)
        taken = PurePosixPath(
            await self._database.run(
                lambda conn: self._names.take(
                    conn, path, asset=asset.id, sha256=asset.sha256, overwrite=overwrite
                )
            )
        )
        return FileName(taken.name, "" if str(taken.parent) == "." else str(taken.parent), "input")

    async def open(self, name: FileName) -> AssetContent:
        """The bytes. What a running job has just made is waited for. Raises FileUnknown."""
        try:
            return await self._assets.open(await self.find(name))
        except AssetUnknown:
            raise _unknown(name) from None

    async def find(self, name: FileName) -> str:
        """The asset that ``name`` means; see ``open``."""
        for patience in (PATIENCE_SECONDS, None):
            async with self._database.read() as conn:
                asset, job = await self._look_up(conn, name)
            if asset is not None:
                return asset
            if job is None or job.status in TERMINAL or patience is None:
                break
            await self._wait(job.id, patience)
        raise _unknown(name)

    async def texts(self, outputs: Iterable[OutputView]) -> dict[str, str]:
        """What is written in those ``outputs`` that nodes told as text, by asset id."""
        found: dict[str, str] = {}
        for output in outputs:
            if (output.source or {}).get("key") != "text":
                continue
            if output.text is not None:
                found[output.id] = output.text
            elif not output.available:
                found[output.id] = ""
            else:
                content = await self._assets.open(output.id)
                chunks = await content.read()
                found[output.id] = b"".join([part async for part in chunks]).decode(
                    "utf-8", "replace"
                )
        return found

    async def named(self, texts: Collection[str]) -> dict[str, str]:
        """The assets of those ``texts`` that name a file as graphs do: ``cats/cat.png``,
        ``JOB/made.png [output]``. What isn't known may be a file of the instance's own.
        """
        found: dict[str, str] = {}
        paths = {text: name for text in texts if (name := _of_graph(text)) is not None}
        if not paths:
            return found
        async with self._database.read() as conn:
            for text, name in paths.items():
                asset, _ = await self._look_up(conn, name)
                if asset is not None:
                    found[text] = asset
        return found

    async def _look_up(self, conn: Any, name: FileName) -> tuple[str | None, Job | None]:
        """The asset, and for outputs the job."""
        if name.type not in get_args(FileType) or not name.filename.isprintable():
            return None, None
        if name.type == "input":
            path = "/".join(filter(None, (name.subfolder, name.filename)))
            return (await self._names.find(conn, [path])).get(path), None
        job = await self._queue.get(conn, name.subfolder.partition("/")[0])
        if job is not None:
            for output in map(OutputView.of, (*job.outputs, *job.previews)):
                if name_of(job.id, output) == name:
                    return output.id, job
        return None, job


def input_path(filename: str, subfolder: str) -> str:
    """The path below the folder of inputs. Raises FileNameRefused."""
    # Browsers on Windows have sent the whole path.
    filename = filename.replace("\\", "/")
    parts = [*subfolder.replace("\\", "/").strip("/").split("/"), *filename.split("/")]
    if ".." in parts or subfolder.startswith("/"):
        raise FileNameRefused(f"{filename!r} in {subfolder!r} leads out of the folder.")
    name = parts[-1].strip()
    if name in ("", "."):
        raise FileNameRefused("The upload has no file name.")
    path = "/".join([*(part for part in parts[:-1] if part not in ("", ".")), name])
    if not path.isprintable() or len(path) > MAX_PATH_CHARACTERS:
        raise FileNameRefused(
            f"A name may have {MAX_PATH_CHARACTERS} characters, all of them printable."
        )
    return path


def _of_graph(text: str) -> FileName | None:
    kind = "input"
    for known in get_args(FileType):
        if text.endswith(f"[{known}]"):
            text, kind = text.removesuffix(f"[{known}]").rstrip(), known
    path = PurePosixPath(text)
    if not path.name or len(text) > MAX_PATH_CHARACTERS:
        return None
    return FileName(path.name, "" if str(path.parent) == "." else str(path.parent), kind)


def _unknown(name: FileName) -> FileUnknown:
    where = f" in {name.subfolder!r}" if name.subfolder else ""
    return FileUnknown(f"There is no {name.type} file {name.filename!r}{where}.")
