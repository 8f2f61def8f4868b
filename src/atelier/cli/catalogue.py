"""What the commands of `atelier workflows` do, all of it by calls of the service's API."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aiohttp
import orjson
import typer
from rich.console import Console
from rich.table import Table

from atelier.cli.reach import answer, reached, read_json
from atelier.settings import load_settings
from atelier.telemetry import configure_logging
from atelier.workflows.definition import is_wrapped
from atelier.workflows.manifest import in_language
from atelier.workflows.titles import slug


@asynccontextmanager
async def _service(*, embedded: bool = False, **given: Any) -> AsyncIterator[aiohttp.ClientSession]:
    settings = load_settings(**given)
    configure_logging("ERROR")
    async with reached(settings, Console(stderr=True), embedded=embedded) as session:
        yield session


def _path(name: str) -> str:
    return f"/v1/workflows/{quote(name, safe='')}"


async def list_workflows(*, data_dir: Path | None, server_url: str | None) -> None:
    async with (
        _service(data_dir=data_dir, server_url=server_url) as session,
        session.get("/v1/workflows") as response,
    ):
        listed = await answer(response)
    table = Table("name", "title", "variants", "origin", "runs", box=None, pad_edge=False)
    for one in listed["workflows"]:
        manifest = one["manifest"]
        variants = ", ".join(variant["name"] for variant in manifest["variants"])
        lacking = f"no: it lacks {', '.join(one['missing'])}" if one["missing"] else "no"
        runs = {None: "nobody knows", False: lacking}.get(one["runnable"], f"as {one['variant']}")
        title = in_language(manifest["title"])
        table.add_row(one["name"], title, variants, one["origin"], runs)
    Console().print(table)
    for problem in listed["problems"]:
        typer.echo(f"faulty: {problem}", err=True)


async def show_workflow(
    name: str, *, as_json: bool, data_dir: Path | None, server_url: str | None
) -> None:
    """Raises ServiceRefused, which lists what there is."""
    async with (
        _service(data_dir=data_dir, server_url=server_url) as session,
        session.get(_path(name)) as response,
    ):
        shown = await answer(response)
    if as_json:
        body = {"manifest": shown["manifest"], "graphs": shown["graphs"]}
        typer.echo(orjson.dumps(body, option=orjson.OPT_INDENT_2).decode())
    else:
        _print(shown)


async def add_workflow(
    file: Path,
    name: str | None,
    inputs: str | None,
    *,
    data_dir: Path | None,
    server_url: str | None,
) -> None:
    body = _with_inputs(read_json(file), inputs)
    called = name or _name_of(file)
    async with (
        _service(data_dir=data_dir, server_url=server_url) as session,
        session.put(_path(called), json=body) as response,
    ):
        shown = await answer(response)
        created = response.status == 201
    _print(shown)
    typer.echo(f"{'added' if created else 'changed'}: {called}, version {shown['version']}")


async def remove_workflow(name: str, *, data_dir: Path | None, server_url: str | None) -> None:
    async with _service(data_dir=data_dir, server_url=server_url) as session:
        async with session.delete(_path(name)) as response:
            await answer(response)
        async with session.get(_path(name)) as response:
            uncovered = (await answer(response))["origin"] if response.status == 200 else None
    again = f"; the {uncovered} one of that name is there again" if uncovered else ""
    typer.echo(f"removed: {name}{again}")


async def check_workflow(
    workflow: str,
    *,
    data_dir: Path | None,
    comfyui_urls: str | None,
    server_url: str | None,
) -> bool:
    """Print a line for each instance; True when one of them can run it."""
    given = {"data_dir": data_dir, "comfyui_urls": comfyui_urls, "server_url": server_url}
    async with _service(embedded=True, **given) as session:
        path = Path(workflow)
        if path.suffix.lower() == ".json":
            call = session.put(f"{_path(_name_of(path))}?dry_run=true", json=read_json(path))
        else:
            call = session.get(_path(workflow))
        async with call as response:
            checks = (await answer(response))["checks"]
    console = Console(highlight=False)
    if not checks:
        console.print("No ComfyUI instance can be reached, so nobody knows.")
    for check in checks:
        console.print(*_told(check), soft_wrap=True)
        for problem in check["problems"]:
            console.print(f"     {problem['message']}", soft_wrap=True, markup=False)
    return any(_can_run(check) for check in checks)


def _can_run(check: Mapping[str, Any]) -> bool:
    return check["variant"] is not None and not check["problems"]


def _told(check: Mapping[str, Any]) -> tuple[str, str]:
    mark = "[green]ok  [/green]" if _can_run(check) else "[red]FAIL[/red]"
    if check["variant"] is None:
        return mark, f"{check['instance']}: it lacks {', '.join(check['missing'])}"
    if check["problems"]:
        return mark, f"{check['instance']}: it would refuse the graph ({check['variant']})"
    return mark, f"{check['instance']}: runs it ({check['variant']})"


def _name_of(file: Path) -> str:
    """A name from a file's: ``Portrait (API).json`` is portrait_api."""
    stem = file.resolve().parent.name if file.stem in ("graph", "manifest") else file.stem
    return slug(stem) or "workflow"


def _with_inputs(body: Any, inputs: str | None) -> Any:
    if inputs is None:
        return body
    names = [name.strip() for name in inputs.split(",") if name.strip()]
    return {**body, "inputs": names} if is_wrapped(body) else {"workflow": body, "inputs": names}


def _print(shown: Mapping[str, Any]) -> None:
    manifest = shown["manifest"]
    console = Console()
    console.print(f"[bold]{shown['name']}[/bold]  {in_language(manifest['title'])}")
    if manifest.get("help"):
        console.print(in_language(manifest["help"]))
    table = Table("input", "type", "default", "what it is", box=None, pad_edge=False)
    for entry in manifest.get("inputs", ()):
        table.add_row(entry["name"], entry["type"], _default(entry), _about(entry))
    console.print(table)
    for variant in shown["variants"]:
        needs = variant["needs"]
        since = f", ComfyUI {needs['comfyui']} or newer" if needs["comfyui"] else ""
        console.print(f"variant {variant['name']} ({variant['kind']}{since})", highlight=False)
        for model in needs["models"]:
            size = f"  {model['size_gib']:g} GiB" if model["size_gib"] else ""
            line = f"  {model['path']}{size}  {model['url']}"
            console.print(line, highlight=False, soft_wrap=True)
        for pack in needs["custom_nodes"]:
            console.print(f"  {pack['path']}  {pack['url']}", highlight=False, soft_wrap=True)
    if shown["missing"]:
        console.print(f"can't run now: it lacks {', '.join(shown['missing'])}", highlight=False)


def _default(entry: Mapping[str, Any]) -> str:
    default = entry.get("default")
    if entry.get("required"):
        return "required"
    if entry["type"] == "size" and default is not None:
        return f"{default['width']}x{default['height']}"
    return "" if default is None else str(default)


def _about(entry: Mapping[str, Any]) -> str:
    about = in_language(entry.get("help")) or in_language(entry.get("title"))
    choices: Sequence[Mapping[str, Any]] = entry.get("choices", ())
    if choices:
        about = f"{about} ({', '.join(str(choice['value']) for choice in choices)})".strip()
    return about
