"""The ComfyUI that processes are started of: its folder, its Python, torch, GPUs and ports."""

import asyncio
import json
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from atelier.app import comfyui_environment, comfyui_folders, devices_of
from atelier.cli.doctor.finding import Finding, failed, of_error, ok, warning
from atelier.errors import AtelierError
from atelier.pool.supervisor.checkout import Checkout, checked_arguments, find_checkout
from atelier.pool.supervisor.devices import Device
from atelier.pool.supervisor.probe import comfyui_answers, port_is_free
from atelier.pool.supervisor.record import Record
from atelier.settings import Settings

TORCH_SECONDS = 120.0  # a cold import from a slow disk

# The last line that it prints is for us; libraries may print before.
_ASK_TORCH = """
import json, torch
found = {"version": torch.__version__, "device": "cpu", "count": 0}
if torch.cuda.is_available():
    found.update(device=torch.cuda.get_device_name(0), count=torch.cuda.device_count())
elif getattr(torch.backends, "mps", None) and torch.backends.mps.is_available():
    found.update(device="mps", count=1)
print(json.dumps(found))
"""


async def running_processes(settings: Settings) -> list[tuple[str, str]]:
    """(url, name) of the processes that an atelier keeps and that answer."""
    found = []
    for folder in comfyui_folders(settings):
        record = Record.read(folder)
        url = f"http://127.0.0.1:{record.port}" if record is not None else ""
        if record is not None and record.process is not None and await comfyui_answers(url):
            found.append((url, folder.name))
    return found


async def examine_all(settings: Settings) -> list[Finding]:
    """Findings about what ``up`` and ``worker`` would start; none where they start nothing."""
    if settings.comfyui_path is None:
        return []
    part = "ComfyUI folder"
    try:
        checkout = find_checkout(settings.comfyui_path, settings.comfyui_python)
        checked_arguments(settings.comfyui_argument_list)
    except AtelierError as error:
        return [of_error(part, error)]
    findings = [ok(part, f"{checkout.folder}, run with {checkout.python}")]
    try:
        devices = await devices_of(settings)
    except AtelierError as error:
        return [*findings, of_error("GPUs", error)]
    named = ", ".join(f"{device.id} ({device.name})" for device in devices)
    findings.append(ok("ComfyUI processes", named or "none"))
    findings.append(await _torch(checkout, devices, comfyui_environment(settings)))
    return [*findings, *_ports(settings, devices)]


async def _torch(
    checkout: Checkout, devices: Sequence[Device], environment: dict[str, str]
) -> Finding:
    part = "ComfyUI's torch"
    told, problem = await asyncio.to_thread(_ask_torch, checkout.python, environment)
    if told is None:
        return failed(
            part,
            f"{checkout.python} can't import it: {problem}.",
            f"Install ComfyUI's packages there: {checkout.python} -m pip install -r "
            f"{checkout.folder / 'requirements.txt'}, or name another with --comfyui-python.",
        )
    on_gpu = sum(not device.arguments for device in devices)
    said = f"{told['version']}, {told['count'] or 'no'} GPU(s), {told['device']}"
    if on_gpu > told["count"]:
        return failed(
            part,
            f"{said}: it can't use the {on_gpu} GPU(s) of this machine.",
            "Install the build of torch for their maker and driver "
            "(https://pytorch.org/get-started/locally/), or use --gpus none.",
        )
    return ok(part, said)


def _ask_torch(python: Path, environment: dict[str, str]) -> tuple[dict[str, Any] | None, str]:
    try:
        done = subprocess.run(
            [str(python), "-c", _ASK_TORCH],
            env=environment,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=TORCH_SECONDS,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return None, str(error)
    lines = (done.stdout if done.returncode == 0 else done.stderr).strip().splitlines()
    last = lines[-1] if lines else f"exit code {done.returncode}"
    if done.returncode:
        return None, last.rstrip(".")
    try:
        return json.loads(last), ""
    except ValueError:
        return None, last


def _ports(settings: Settings, devices: Sequence[Device]) -> list[Finding]:
    """A warning for each recorded port that somebody else uses, else where the ports are."""
    records = {folder.name: Record.read(folder) for folder in comfyui_folders(settings)}
    taken, ports = [], []
    for device in devices:
        record = records.get(device.id)
        if record is None:
            continue
        ports.append(f"{device.id} at {record.port}")
        if record.process is None and not port_is_free(record.port):
            taken.append(
                warning(
                    "ComfyUI ports",
                    f"Port {record.port} of {device.id} is used by another program.",
                    "Stop that program, or start atelier again: it takes another port then.",
                )
            )
    new = f"others from {settings.comfyui_first_port} on"
    return taken or [ok("ComfyUI ports", "; ".join([*ports, new]))]
