"""This machine: its folders, its disk, its limits."""

import shutil
import sys
import tempfile
from pathlib import Path

from atelier.app import check_data_dir
from atelier.cli.doctor.finding import GB, Finding, failed, in_gb, of_error, ok, warning
from atelier.errors import AtelierError
from atelier.settings import Settings

WARN_BELOW_BYTES, FAIL_BELOW_BYTES = 2 * GB, GB // 5

# Connections that one instance may take, and what a process has open besides.
FILES_OF_INSTANCE, FILES_OF_PROCESS = 40, 400


def data_folder(settings: Settings) -> Finding:
    part = "data folder"
    try:
        check_data_dir(settings.data_dir)
    except AtelierError as error:
        return of_error(part, error)
    hint = "Make room, move ATELIER_DATA_DIR to a larger disk, or lower ATELIER_OUTPUT_DAYS."
    return _room(part, settings.data_dir.absolute(), hint)


def log_folder(settings: Settings) -> Finding:
    part, folder = "log folder", settings.log_folder
    if folder is None:
        return ok(part, "none: logs go to the console only")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _try_writing(folder)
    except OSError as error:
        return failed(
            part,
            f"{folder.absolute()} can't be written to: {error.strerror}.",
            "Choose another with ATELIER_LOG_DIR (none: console only), or give this user the "
            "right to write.",
        )
    return ok(part, str(folder.absolute()))


def comfyui_folders(settings: Settings) -> list[Finding]:
    """The folders of a ComfyUI on this machine, where they are named."""
    named = (
        ("input", settings.comfyui_input_folder, True),
        ("output", settings.comfyui_output_folder, False),
    )
    return [
        _comfyui_folder(kind, folder, we_write=we_write)
        for kind, folder, we_write in named
        if folder is not None
    ]


def _comfyui_folder(kind: str, folder: Path, *, we_write: bool) -> Finding:
    part = f"ComfyUI {kind} folder"
    variables = f"COMFYUI_{kind.upper()}_DIR or COMFYUI_ROOT"
    if not folder.is_dir():
        return warning(
            part,
            f"{folder.absolute()} is no folder.",
            f"Correct {variables}, or leave it out where ComfyUI runs on another machine.",
        )
    if we_write:
        try:
            _try_writing(folder)
        except OSError as error:
            return warning(
                part,
                f"What we put into {folder.absolute()} can't be removed: {error.strerror}.",
                "Give this user the right to write there, or it fills up.",
            )
    return _room(part, folder.absolute(), "Make room: ComfyUI can't save pictures without.")


def open_files(instances: int) -> list[Finding]:
    """The limit of open files, where it is too low for so many ``instances``."""
    if sys.platform == "win32":
        return []
    import resource

    limit, highest = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = FILES_OF_PROCESS + FILES_OF_INSTANCE * instances
    if limit == resource.RLIM_INFINITY or limit >= needed:
        return []
    rise = f"Start it after `ulimit -n {needed}`, or set LimitNOFILE={needed} for its unit."
    if highest != resource.RLIM_INFINITY and highest < needed:
        rise = f"Raise the hard limit ({highest}) of this user to {needed} as well. {rise}"
    return [
        warning(
            "open files",
            f"A process may open {limit} files; {instances} instances need up to {needed}.",
            rise,
        )
    ]


def _room(part: str, folder: Path, hint: str) -> Finding:
    free = shutil.disk_usage(folder).free
    message = f"{folder}, {in_gb(free)} free"
    if free < FAIL_BELOW_BYTES:
        return failed(part, f"{message}: too little to go on.", hint)
    if free < WARN_BELOW_BYTES:
        return warning(part, f"{message}: that is little.", hint)
    return ok(part, message)


def _try_writing(folder: Path) -> None:
    with tempfile.TemporaryFile(dir=folder):
        pass
