"""What the commands have in common: exit codes, options, the event loop."""

import asyncio
import re
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from atelier.errors import ConfigurationError

T = TypeVar("T")


class InvalidOptions(ConfigurationError):
    """Options that contradict each other."""


PROBLEM = 1  # what was asked for did not work
CONFIGURATION = 2  # it can't be started like this

Host = Annotated[str | None, typer.Option(help="Address to listen on (HOST).")]
Port = Annotated[int | None, typer.Option(help="Port to listen on (PORT).")]
DataDir = Annotated[Path | None, typer.Option(help="Folder for what is kept (ATELIER_DATA_DIR).")]
Instances = Annotated[
    str | None, typer.Option("--comfyui", help="ComfyUI addresses, comma-separated (COMFYUI_URLS).")
]

Gpus = Annotated[
    str | None,
    typer.Option("--gpus", help="Start a ComfyUI on each GPU: all, none, or 0,1 (ATELIER_GPUS)."),
]
OnCpu = Annotated[
    int | None,
    typer.Option("--cpu", help="Start so many ComfyUIs on the CPU (ATELIER_COMFYUI_CPU)."),
]
Processes = Annotated[
    int | None, typer.Option("--instances", help="With --gpus none: the same as --cpu.")
]
ComfyPython = Annotated[
    Path | None,
    typer.Option("--comfyui-python", help="The Python of that ComfyUI (ATELIER_COMFYUI_PYTHON)."),
]
ComfyArguments = Annotated[
    str | None,
    typer.Option("--comfyui-args", help="More arguments for ComfyUI (ATELIER_COMFYUI_ARGS)."),
]
ComfyUIs = Annotated[
    str | None,
    typer.Option(
        "--comfyui",
        help="ComfyUI addresses, comma-separated (COMFYUI_URLS), or the folder of one that is "
        "started here for each GPU (ATELIER_COMFYUI_PATH).",
    ),
]


def comfyui_options(
    comfyui: str | None,
    *,
    gpus: str | None = None,
    cpu: int | None = None,
    instances: int | None = None,
    python: Path | None = None,
    arguments: str | None = None,
) -> dict[str, object]:
    """The settings that the options about ComfyUI mean. Raises InvalidOptions."""
    urls, paths = _addresses_and_folders(comfyui)
    if len(paths) > 1:
        raise InvalidOptions(f"--comfyui names several folders: {', '.join(paths)}.")
    if instances is not None:
        if gpus not in (None, "none") or cpu not in (None, instances):
            raise InvalidOptions(
                "--instances counts processes on the CPU, with --gpus none; each GPU gets one."
            )
        cpu, gpus = instances, "none"
    return {
        "comfyui_urls": ",".join(urls) or None,
        "comfyui_path": Path(paths[0]).expanduser() if paths else None,
        "comfyui_gpus": gpus,
        "comfyui_on_cpu": cpu,
        "comfyui_python": python,
        "comfyui_arguments": arguments,
    }


def _addresses_and_folders(text: str | None) -> tuple[list[str], list[str]]:
    parts = [part.strip() for part in (text or "").split(",") if part.strip()]
    # HOST:PORT is told below to be an address without http://, not to be no folder.
    urls = [part for part in parts if "://" in part or re.fullmatch(r"[\w.-]+:\d+", part)]
    return urls, [part for part in parts if part not in urls]


def run_async(work: Coroutine[Any, Any, T]) -> T:
    """The result of ``work`` on the fastest event loop that the platform has."""
    if sys.platform == "win32":
        return asyncio.run(work)
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(work)
