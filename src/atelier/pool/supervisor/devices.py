"""Which GPUs this machine has, and which of them get a ComfyUI.

What the tools of the makers print: https://docs.nvidia.com/deploy/nvidia-smi/,
https://rocm.docs.amd.com/projects/rocm_smi_lib/.
"""

import asyncio
import json
import platform
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from atelier.errors import ConfigurationError

TOOL_SECONDS = 20.0  # the first call after boot loads the driver

_NVIDIA = ("nvidia-smi", "--query-gpu=index,uuid,name", "--format=csv,noheader")
_ROCM = ("rocm-smi", "--showproductname", "--json")


@dataclass(frozen=True, slots=True)
class Device:
    """What one ComfyUI runs on; ``environment`` and ``arguments`` make it see nothing else."""

    id: str
    name: str
    environment: Mapping[str, str] = field(default_factory=dict)
    arguments: tuple[str, ...] = ()
    uuid: str = ""

    @property
    def number(self) -> str:
        return self.id.rpartition("-")[2]


@dataclass(frozen=True, slots=True)
class Found:
    """``problem`` says why GPUs that may be there can't be told, e.g. a driver that fails."""

    gpus: tuple[Device, ...] = ()
    problem: str = ""


async def find_gpus(environment: Mapping[str, str]) -> Found:
    """The GPUs that a process with ``environment`` may use, numbered as their maker does."""
    return await asyncio.to_thread(_find, environment)


def _find(environment: Mapping[str, str]) -> Found:
    problems = []
    for tool, parse, variable in (
        (_NVIDIA, nvidia, "CUDA_VISIBLE_DEVICES"),
        (_ROCM, rocm, "HIP_VISIBLE_DEVICES"),
    ):
        said, problem = _ask(tool)
        if problem:
            problems.append(problem)
        elif gpus := visible(parse(said), environment.get(variable)):
            return Found(gpus)
    if sys.platform == "darwin" and platform.machine() == "arm64":
        return Found((Device("gpu-0", "Apple GPU"),))
    return Found(problem="; ".join(problems))


def _ask(command: Sequence[str]) -> tuple[str, str]:
    """What ``command`` prints, and what is wrong; both empty where there is no such tool."""
    program = shutil.which(command[0])
    if program is None:
        return "", ""
    try:
        done = subprocess.run(
            [program, *command[1:]],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=TOOL_SECONDS,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return "", f"{command[0]}: {error}"
    if done.returncode:
        lines = (done.stdout + done.stderr).strip().splitlines()
        return "", f"{command[0]}: {lines[-1] if lines else f'exit code {done.returncode}'}"
    return done.stdout, ""


def nvidia(said: str) -> tuple[Device, ...]:
    """The devices of nvidia-smi's lines ``index, uuid, name``."""
    found = []
    for line in said.splitlines():
        index, _, rest = line.partition(",")
        uuid, _, name = rest.partition(",")
        if not index.strip().isdigit():
            continue  # "No devices were found"
        # Numbered by the bus as nvidia-smi does; CUDA's own order begins with the fastest.
        seen = {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": index.strip()}
        found.append(
            Device(f"gpu-{index.strip()}", name.strip(), environment=seen, uuid=uuid.strip())
        )
    return tuple(found)


def rocm(said: str) -> tuple[Device, ...]:
    """The devices of rocm-smi's ``{"card0": {"Card Series": name, ...}, ...}``."""
    try:
        told = json.loads(said)
    except ValueError:
        return ()
    cards = [key for key in told if key.startswith("card") and key[4:].isdigit()]
    found = []
    # Cards may be numbered with gaps, by their display outputs; HIP counts without.
    for number, key in enumerate(sorted(cards, key=lambda key: int(key[4:]))):
        properties = {name.casefold(): value for name, value in told[key].items()}
        name = properties.get("card series") or properties.get("card model") or "AMD GPU"
        seen = {"HIP_VISIBLE_DEVICES": str(number)}
        found.append(Device(f"gpu-{number}", str(name), environment=seen))
    return tuple(found)


def visible(gpus: tuple[Device, ...], restriction: str | None) -> tuple[Device, ...]:
    """Those of ``gpus`` that CUDA_VISIBLE_DEVICES or its like leaves, by number or uuid."""
    if restriction is None:
        return gpus
    wanted = [part.strip() for part in restriction.split(",") if part.strip()]
    return tuple(
        gpu
        for gpu in gpus
        if any(one == gpu.number or (one and gpu.uuid.startswith(one)) for one in wanted)
    )


def cpus(count: int, cores: int, environment: Mapping[str, str]) -> tuple[Device, ...]:
    """``count`` times the processor, whose ``cores`` are shared out among them."""
    # Each would start a thread for every core, and they would stand in each other's way.
    threads = {} if "OMP_NUM_THREADS" in environment else {"OMP_NUM_THREADS": _share(cores, count)}
    return tuple(
        Device(f"cpu-{number}", "CPU", environment=threads, arguments=("--cpu",))
        for number in range(count)
    )


def _share(cores: int, count: int) -> str:
    return str(max(1, cores // max(1, count)))


def chosen_gpus(wanted: str, found: Found, *, on_cpu: int | None) -> tuple[Device, ...]:
    """The GPUs that ``wanted`` means: auto, all, none, or numbers with commas.

    ``auto`` is all that there are, and none where processes ``on_cpu`` are asked for.
    Raises ConfigurationError where what was asked for by name isn't there.
    """
    if wanted == "none" or (wanted == "auto" and on_cpu is not None):
        return ()
    if wanted == "auto":
        return found.gpus
    because = f" ({found.problem})" if found.problem else ""
    if not found.gpus:
        raise ConfigurationError(
            f"No GPU was found on this machine{because}.",
            hint="Check its driver with nvidia-smi or rocm-smi, or run on the CPU with "
            "`--gpus none` (ATELIER_GPUS=none).",
        )
    if wanted == "all":
        return found.gpus
    by_number = {gpu.number: gpu for gpu in found.gpus}
    numbers = [number.strip() for number in wanted.split(",")]
    if missing := [number for number in numbers if number not in by_number]:
        there = ", ".join(f"{gpu.number} ({gpu.name})" for gpu in found.gpus)
        raise ConfigurationError(
            f"There is no GPU {', '.join(missing)} on this machine; there is: {there}.",
            hint="Correct --gpus (ATELIER_GPUS).",
        )
    return tuple(by_number[number] for number in dict.fromkeys(numbers))
