"""The ComfyUI processes that the settings ask for."""

import os
from pathlib import Path

import structlog

from atelier.errors import ConfigurationError
from atelier.pool.supervisor.checkout import checked_arguments, find_checkout
from atelier.pool.supervisor.comfyui import ComfyUI, Limits
from atelier.pool.supervisor.devices import Device, Found, chosen_gpus, cpus, find_gpus
from atelier.pool.supervisor.fleet import Fleet
from atelier.settings import Settings

log = structlog.get_logger(__name__)

FOLDER = "comfyui"  # in the data folder: one folder for each process
MB = 1_000_000


async def fleet_of(settings: Settings) -> Fleet | None:
    """What is to be kept running, not yet started; None where nothing is.

    Raises ConfigurationError where the ComfyUI or a GPU that was asked for isn't there.
    """
    if settings.comfyui_path is None:
        return None
    checkout = find_checkout(settings.comfyui_path, settings.comfyui_python)
    arguments = checked_arguments(settings.comfyui_argument_list)
    environment = comfyui_environment(settings)
    limits = Limits(
        memory_bytes=_bytes(settings.comfyui_memory_mb),
        memory_hard_bytes=_bytes(settings.comfyui_memory_hard_mb),
    )
    folder = settings.data_dir / FOLDER
    members = [
        ComfyUI(
            checkout,
            device,
            folder / device.id,
            log_file=(settings.log_folder or folder) / f"comfyui-{device.id}.log",
            arguments=arguments,
            environment=environment,
            limits=limits,
        )
        for device in await devices_of(settings)
    ]
    return Fleet(folder, members, first_port=settings.comfyui_first_port)


async def devices_of(settings: Settings) -> tuple[Device, ...]:
    """What each process is to run on. Raises ConfigurationError."""
    wanted, on_cpu = settings.comfyui_gpus, settings.comfyui_on_cpu
    asked = wanted != "none" and not (wanted == "auto" and on_cpu is not None)
    found = await find_gpus(os.environ) if asked else Found()
    gpus = chosen_gpus(wanted, found, on_cpu=on_cpu)
    if on_cpu is None:
        on_cpu = 0 if gpus else 1
    if asked and not gpus:
        log.warning(
            "no GPU was found, so ComfyUI runs on the CPU, which takes minutes for a picture",
            reason=found.problem or None,
        )
    if not gpus and not on_cpu:
        raise ConfigurationError(
            "No ComfyUI is to be started: no GPU and none on the CPU.",
            hint="Ask for some with --gpus or --cpu, or leave out the folder (--comfyui, "
            "ATELIER_COMFYUI_PATH).",
        )
    return (*gpus, *cpus(on_cpu, os.cpu_count() or 1, os.environ))


def comfyui_environment(settings: Settings) -> dict[str, str]:
    """What ComfyUI gets of our environment: all but our secrets, for custom nodes can read it."""
    return {name: value for name, value in os.environ.items() if name not in settings.secret_names}


def comfyui_folders(settings: Settings) -> tuple[Path, ...]:
    """The folders of the ComfyUIs that run here or ran here, with their input and output."""
    if settings.comfyui_path is None:
        return ()
    parent = settings.data_dir / FOLDER
    return tuple(folder for folder in sorted(parent.glob("*")) if (folder / "output").is_dir())


def _bytes(size_mb: int | None) -> int | None:
    return None if size_mb is None else size_mb * MB
