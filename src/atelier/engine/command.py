"""``python -m atelier.engine``."""

import argparse
import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path

from atelier.engine.config import EngineConfig
from atelier.errors import AtelierError


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until SIGTERM, SIGINT or the linger time; return the exit code."""
    config = _parse(arguments)
    # The default of 5 ms is how long a busy node may keep the event loop from answering.
    sys.setswitchinterval(0.001)
    try:
        _run(config)
    except AtelierError as error:
        print(f"{error.message} {error.hint}".rstrip(), file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


def _run(config: EngineConfig) -> None:
    # Here, so that importing the package stays cheap.
    from atelier.engine.server import serve

    try:
        import uvloop
    except ImportError:  # there is none for Windows
        asyncio.run(serve(config))
    else:
        uvloop.run(serve(config))


def _parse(arguments: Sequence[str] | None) -> EngineConfig:
    parser = argparse.ArgumentParser(
        prog="python -m atelier.engine",
        description="An engine that speaks ComfyUI's protocol and runs image nodes on the CPU.",
        epilog="example: python -m atelier.engine --port 8188 --root ./data/engine",
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (%(default)s)")
    parser.add_argument("--port", type=int, default=8188, help="0 takes a free one (%(default)s)")
    parser.add_argument(
        "--root", type=Path, default=Path("engine"), help="holds input, output and temp"
    )
    parser.add_argument(
        "--linger", type=float, metavar="SECONDS", help="end when idle and alone for so long"
    )
    parser.add_argument(
        "--announce", type=Path, metavar="FILE", help="write url and pid here once listening"
    )
    chosen = parser.parse_args(arguments)
    return EngineConfig(
        root=chosen.root,
        host=chosen.host,
        port=chosen.port,
        linger_seconds=chosen.linger,
        announce=chosen.announce,
    )
