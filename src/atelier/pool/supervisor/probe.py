"""Whether something that speaks ComfyUI's protocol answers, and whether it has work."""

import socket
from typing import Any

import aiohttp


async def comfyui_answers(url: str, timeout_seconds: float = 3.0) -> bool:
    """True when something that speaks ComfyUI's protocol answers at ``url``."""
    body = await _asked(f"{url}/system_stats", timeout_seconds)
    return isinstance(body, dict) and "system" in body


async def comfyui_is_idle(url: str, timeout_seconds: float = 3.0) -> bool:
    """True when it answers and no prompt, whoever submitted it, runs or waits there."""
    body = await _asked(f"{url}/queue", timeout_seconds)
    if not isinstance(body, dict):
        return False
    return body.get("queue_running") == [] == body.get("queue_pending")


async def _asked(url: str, timeout_seconds: float) -> Any:
    """The JSON that ``url`` answers with, or None."""
    try:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=timeout_seconds)) as session,
            session.get(url) as response,
        ):
            return await response.json(content_type=None)
    except (aiohttp.ClientError, TimeoutError, OSError, ValueError):
        return None


def port_is_free(port: int) -> bool:
    """True when a server could listen on ``port`` of this machine now."""
    with socket.socket() as probe:
        # As servers do: what is left of closed connections doesn't count.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def any_free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
