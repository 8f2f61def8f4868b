"""`atelier run`: one job from a terminal, on the running service or by itself."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import aiohttp
import orjson
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

from atelier.cli.reach import InputMalformed, answer, reached, read_json
from atelier.errors import AtelierError
from atelier.settings import load_settings
from atelier.telemetry import configure_logging

_PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".avif", ".bmp", ".tif", ".tiff")


class JobFailed(AtelierError):
    code = "JOB_FAILED"


async def run_job(
    workflow: str,
    inputs: Sequence[str],
    output: Path | None,
    *,
    data_dir: Path | None,
    comfyui_urls: str | None,
    server_url: str | None,
) -> None:
    """Submit, show the progress, write the results.

    Raises JobFailed, ServiceRefused, InputMalformed, ConfigurationError.
    """
    settings = load_settings(data_dir=data_dir, comfyui_urls=comfyui_urls, server_url=server_url)
    configure_logging("ERROR")
    console = Console(stderr=True)
    values = parse_inputs(inputs)
    async with reached(settings, console, worker=True, embedded=True) as session:
        placed = {
            name: await _upload(session, value) if isinstance(value, Path) else value
            for name, value in values.items()
        }
        body = {"workflow": _workflow(workflow), "inputs": placed}
        job = await _post(session, "/v1/jobs", orjson.dumps(body))
        job = await _follow(session, job, console)
        if job["status"] != "succeeded":
            error = job.get("error") or {}
            raise JobFailed(
                error.get("message") or f"The job was {job['status']}.", hint=error.get("hint")
            )
        for path in await _save(session, job, output):
            console.print(f"wrote {path}", highlight=False)


def parse_inputs(pairs: Sequence[str]) -> dict[str, Any]:
    """``NAME=VALUE`` pairs; a VALUE that names a file becomes its Path, JSON values are parsed.

    Raises InputMalformed.
    """
    values: dict[str, Any] = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals or not name:
            raise InputMalformed(f"{pair!r} is not NAME=VALUE.")
        values[name] = _value(text)
        # NODE.INPUT of a graph may mean a file that the instance has.
        if values[name] == text and "." not in name and _is_file_name(text):
            raise InputMalformed(
                f"{name}: there is no file {text!r} here.",
                hint="Give the path of a picture, or an http or https address.",
            )
    return values


def _is_file_name(text: str) -> bool:
    return "://" not in text and len(text.split()) == 1 and text.lower().endswith(_PICTURES)


def _value(text: str) -> Any:
    if len(text) < 1024 and "\n" not in text and Path(text).is_file():
        return Path(text)
    try:
        number = orjson.loads(text)
    except orjson.JSONDecodeError:
        return text
    return number if isinstance(number, int | float | bool | dict | list) else text


def _workflow(text: str) -> Any:
    path = Path(text)
    if path.suffix.lower() != ".json":
        return text
    return read_json(path)


async def _post(session: aiohttp.ClientSession, path: str, body: bytes) -> Any:
    headers = {"Content-Type": "application/json"}
    async with session.post(path, data=body, headers=headers) as response:
        return await answer(response)


async def _upload(session: aiohttp.ClientSession, path: Path) -> dict[str, str]:
    form = aiohttp.FormData()
    form.add_field("file", await asyncio.to_thread(path.read_bytes), filename=path.name)
    async with session.post("/v1/assets", data=form) as response:
        return {"asset": (await answer(response))["id"]}


async def _follow(session: aiohttp.ClientSession, job: Any, console: Console) -> Any:
    """The job once it has ended; meanwhile a bar shows how far it is."""
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[detail]}"),
        TimeElapsedColumn(),
        console=console,
        transient=True,
    )
    with bar:
        task = bar.add_task(job["workflow"], total=100, detail="queued")
        async with session.get(f"/v1/jobs/{job['id']}/events") as response:
            async for kind, data in _events(response):
                match kind:
                    case "queued" | "position":
                        place = (data.get("queue") or {}).get("position")
                        bar.update(task, detail=f"place {place} in the queue" if place else "")
                    case "progress":
                        steps = data.get("steps")
                        detail = f"step {data.get('step')} of {steps}" if steps else ""
                        bar.update(task, completed=data.get("percent", 0), detail=detail)
                    case "retrying":
                        reason = (data.get("error") or {}).get("message", "")
                        bar.update(task, detail=f"trying again: {reason}")
                    case "finished":
                        bar.update(task, completed=100, detail="")
                    case "snapshot" if data.get("message"):
                        bar.update(task, detail=data["message"])
    async with session.get(f"/v1/jobs/{job['id']}") as response:
        return await answer(response)


async def _events(response: aiohttp.ClientResponse) -> AsyncIterator[tuple[str, dict[str, Any]]]:
    """Server-sent events as (type, data)."""
    kind = ""
    async for raw in response.content:
        line = raw.decode().rstrip("\r\n")
        if line.startswith("event:"):
            kind = line[6:].strip()
        elif line.startswith("data:"):
            data = orjson.loads(line[5:])
            yield kind, data.get("data", data) if isinstance(data, dict) else {}


async def _save(session: aiohttp.ClientSession, job: Any, output: Path | None) -> list[Path]:
    """Write the results: to ``output``, numbered where there are several, or here by name."""
    written = []
    outputs = job["outputs"]
    for number, result in enumerate(outputs):
        if output is None:
            path = Path(result.get("filename") or f"{job['id']}-{number}")
        elif len(outputs) == 1:
            path = output
        else:
            path = output.with_name(f"{output.stem}-{number + 1}{output.suffix}")
        async with session.get(result["url"]) as response:
            data = await response.read()
            if response.status != 200:
                raise JobFailed(f"The result can't be fetched: status {response.status}.")
        try:
            await asyncio.to_thread(path.write_bytes, data)
        except OSError as error:
            raise JobFailed(f"{path} can't be written: {error.strerror}.") from None
        written.append(path)
    return written
