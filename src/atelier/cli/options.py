"""What the commands have in common: exit codes, options, the event loop."""

import asyncio
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

T = TypeVar("T")

PROBLEM = 1  # what was asked for did not work
CONFIGURATION = 2  # it can't be started like this

Host = Annotated[str | None, typer.Option(help="Address to listen on (HOST).")]
Port = Annotated[int | None, typer.Option(help="Port to listen on (PORT).")]
DataDir = Annotated[Path | None, typer.Option(help="Folder for what is kept (ATELIER_DATA_DIR).")]
Instances = Annotated[
    str | None, typer.Option("--comfyui", help="ComfyUI addresses, comma-separated (COMFYUI_URLS).")
]


def run_async(work: Coroutine[Any, Any, T]) -> T:
    """The result of ``work`` on the fastest event loop that the platform has."""
    if sys.platform == "win32":
        return asyncio.run(work)
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(work)
