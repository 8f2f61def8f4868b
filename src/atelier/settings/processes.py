"""ComfyUI processes that are started and kept here: where from, how many, within which limits."""

import re
import shlex
import sys
from pathlib import Path

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings

_GPUS = re.compile(r"auto|all|none|\d+(\s*,\s*\d+)*")


class ProcessSettings(BaseSettings):
    """The variables of the ComfyUI processes that we keep running."""

    comfyui_path: Path | None = Field(
        None,
        validation_alias="ATELIER_COMFYUI_PATH",
        description="Folder of a ComfyUI (with main.py) of which a process is kept running for "
        "each GPU, by `up` and `worker`.",
    )
    comfyui_python: Path | None = Field(
        None,
        validation_alias="ATELIER_COMFYUI_PYTHON",
        description="Python of that ComfyUI; default: that of its `.venv`, `venv` or portable "
        "build.",
    )
    comfyui_arguments: str = Field(
        "",
        validation_alias="ATELIER_COMFYUI_ARGS",
        description="Further arguments for each of those processes, quoted as in a shell.",
    )
    comfyui_gpus: str = Field(
        "auto",
        validation_alias="ATELIER_GPUS",
        description="GPUs that get a process: auto (all; the CPU where there is none), all, "
        "none, or numbers with commas.",
    )
    comfyui_on_cpu: int | None = Field(
        None,
        ge=0,
        le=64,
        validation_alias="ATELIER_COMFYUI_CPU",
        description="Number of processes on the CPU; default: 1 where no GPU gets one.",
    )
    comfyui_first_port: int = Field(
        8190,
        ge=1,
        le=65000,
        validation_alias="ATELIER_COMFYUI_PORT",
        description="First port to try for those processes; each keeps the one it got.",
    )
    comfyui_memory_mb: int | None = Field(
        None,
        ge=1,
        validation_alias="ATELIER_COMFYUI_MEMORY_MB",
        description="A process that holds more memory when idle is started again.",
    )
    comfyui_memory_hard_mb: int | None = Field(
        None,
        ge=1,
        validation_alias="ATELIER_COMFYUI_MEMORY_HARD_MB",
        description="A process that holds more memory is started again at once.",
    )

    @field_validator("comfyui_gpus")
    @classmethod
    def understood(cls, value: str) -> str:
        value = value.strip().lower()
        if not _GPUS.fullmatch(value):
            raise ValueError("must be auto, all, none, or numbers such as 0,1")
        return value

    @field_validator("comfyui_arguments")
    @classmethod
    def quoted(cls, value: str) -> str:
        try:
            _words(value)
        except ValueError as error:
            raise ValueError(f"can't be split into arguments: {error}") from None
        return value

    @property
    def comfyui_argument_list(self) -> tuple[str, ...]:
        return _words(self.comfyui_arguments)


def _words(text: str) -> tuple[str, ...]:
    # Backslashes stand in paths on Windows.
    return tuple(shlex.split(text, posix=sys.platform != "win32"))
