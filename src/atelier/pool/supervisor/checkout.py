"""A ComfyUI on this machine's disk: where it is, with which Python, what it understands."""

import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from atelier.errors import ConfigurationError

# Their values are ours to choose: with others we would not find the process that we started.
RESERVED = ("--port", "--listen", "--tls-keyfile", "--tls-certfile", "--cuda-device")

_BIN = "Scripts/python.exe" if sys.platform == "win32" else "bin/python"


@dataclass(frozen=True, slots=True)
class Checkout:
    """``folder`` holds main.py; ``options`` is the source text that declares its options."""

    folder: Path
    python: Path
    options: str = ""

    def knows(self, option: str) -> bool:
        """True when this version of ComfyUI has ``--option``; a foreign one would end it."""
        return f'"{option}"' in self.options or f"'{option}'" in self.options


def find_checkout(path: Path, python: Path | None = None) -> Checkout:
    """The ComfyUI at ``path``: a checkout, or the folder of the portable build around one.

    Raises ConfigurationError where there is none, or no Python to run it with.
    """
    folder = next((one for one in (path, path / "ComfyUI") if (one / "main.py").is_file()), None)
    if folder is None:
        what = "has no main.py" if path.is_dir() else "is no folder"
        raise ConfigurationError(
            f"There is no ComfyUI at {path.absolute()}: it {what}.",
            hint="Give the folder that holds ComfyUI's main.py (--comfyui, ATELIER_COMFYUI_PATH).",
        )
    folder = folder.absolute()
    return Checkout(folder, _python(folder, python), _options(folder))


def _python(folder: Path, chosen: Path | None) -> Path:
    if chosen is not None:
        # Not resolved: the link in a virtual environment is what makes it one.
        if not os.access(chosen, os.X_OK) or chosen.is_dir():
            raise ConfigurationError(
                f"{chosen} is no Python that can be run.",
                hint="Correct --comfyui-python (ATELIER_COMFYUI_PYTHON), or leave it out.",
            )
        return chosen.absolute()
    candidates = list(_candidates(folder))
    for candidate in candidates:
        if os.access(candidate, os.X_OK):
            return candidate
    looked = ", ".join(str(candidate.parent) for candidate in candidates)
    raise ConfigurationError(
        f"No Python was found for the ComfyUI at {folder}. Looked in {looked}.",
        hint="Name the one that has ComfyUI's packages: --comfyui-python (ATELIER_COMFYUI_PYTHON).",
    )


def _candidates(folder: Path) -> Iterator[Path]:
    for around in (folder, folder.parent):
        for name in (".venv", "venv"):
            yield around / name / _BIN
    # The portable build for Windows, spelled as its makers do.
    yield folder.parent / "python_embeded" / "python.exe"


def _options(folder: Path) -> str:
    for file in (folder / "comfy" / "cli_args.py", folder / "main.py"):
        try:
            return file.read_text(encoding="utf-8", errors="replace")
        except OSError:
            continue
    return ""


def checked_arguments(arguments: tuple[str, ...]) -> tuple[str, ...]:
    """``arguments`` for ComfyUI as somebody chose them. Raises ConfigurationError."""
    for argument in arguments:
        if argument.partition("=")[0] in RESERVED:
            raise ConfigurationError(
                f"{argument.partition('=')[0]} can't be among ComfyUI's own arguments: "
                "atelier chooses addresses and devices.",
                hint="Use --gpus (ATELIER_GPUS) for devices and ATELIER_COMFYUI_PORT for ports.",
            )
    return arguments
