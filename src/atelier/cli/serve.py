"""The commands that stay: up, api, worker."""

import contextlib
import gc
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import typer

from atelier.app import (
    Application,
    application,
    check_data_dir,
    listen,
    open_database,
    serving,
    stop_signals,
    webhook_secret,
)
from atelier.errors import ConfigurationError
from atelier.examples import example_photo
from atelier.settings import Settings, load_settings
from atelier.telemetry import configure_logging, log_files

Role = Literal["up", "api", "worker"]


async def serve(
    role: Role,
    *,
    host: str | None = None,
    port: int | None = None,
    data_dir: Path | None = None,
    comfyui: Mapping[str, object] | None = None,
) -> None:
    """Run until SIGTERM or Ctrl-C. Raises ConfigurationError where it can't start.

    ``comfyui``: settings of ComfyUIs that the command line gives, by field name.
    """
    given = comfyui or {}
    settings = load_settings(host=host, port=port, data_dir=data_dir, **given)
    configure_logging(
        "DEBUG" if settings.debug else settings.log_level,
        settings.log_format,
        secrets=settings.secrets,
    )
    if settings.comfyui_path is None and any(
        given.get(name) is not None for name in ("comfyui_gpus", "comfyui_on_cpu")
    ):
        raise ConfigurationError(
            "Of which ComfyUI are processes to be started?",
            hint="Give its folder: --comfyui PATH (ATELIER_COMFYUI_PATH).",
        )
    # Beside others, it serves what they are configured with, or what was added by API.
    alone = settings.database.startswith("sqlite")
    has_own = settings.comfyui_urls or settings.comfyui_path is not None
    if role == "worker" and not has_own and alone:
        raise ConfigurationError(
            "A worker needs at least one ComfyUI.",
            hint="Set COMFYUI_URLS=http://host:8188, give the folder of one with --comfyui, or use "
            "`atelier up` for the embedded engine.",
        )
    with contextlib.ExitStack() as held:
        listener = None
        if role != "worker":
            # Before anything is started: a taken port is the commonest mistake.
            listener = held.enter_context(listen(settings.host, settings.port))
        check_data_dir(settings.data_dir)
        if settings.log_folder is not None:
            name = "app" if role == "up" else role
            held.enter_context(
                log_files(settings.log_folder, name, settings.log_format, secrets=settings.secrets)
            )
        with stop_signals() as stop:
            async with contextlib.AsyncExitStack() as stack:
                app = await stack.enter_async_context(
                    application(settings, worker=role != "api", embedded=role == "up")
                )
                if listener is not None:
                    face = serving(app, listener)
                    await face.__aenter__()
                    # The face goes last, so that whoever polls sees the last jobs end.
                    stack.push_async_exit(face.__aexit__)
                    typer.echo(welcome(app, role, listener.getsockname()[1]), err=True)
                else:
                    typer.echo(f"atelier worker: {describe_instances(app)}", err=True)
                # What has been made until here stays: collecting it again and again would hold
                # everything up for a tenth of a second each time.
                gc.collect()
                gc.freeze()
                await stop.wait()
                typer.echo("atelier: stopping; press Ctrl-C again to stop at once", err=True)
                if app.dispatcher is not None:
                    await app.dispatcher.stop()


async def migrate_database(*, data_dir: Path | None) -> str:
    """Bring the database up to date and say what it is."""
    settings = load_settings(data_dir=data_dir)
    configure_logging("WARNING")
    if settings.database_url is None:
        check_data_dir(settings.data_dir)
    async with open_database(settings) as database:
        return f"The database ({await database.version()}) is up to date."


async def show_webhook_secret(*, data_dir: Path | None) -> str:
    """The secret that signs webhooks, made now if there was none."""
    settings = load_settings(data_dir=data_dir)
    configure_logging("WARNING")
    if settings.database_url is None:
        check_data_dir(settings.data_dir)
    async with open_database(settings) as database:
        return await webhook_secret(settings, database)


def describe_instances(app: Application) -> str:
    """One sentence on each instance."""
    described = []
    for instance in app.pool.instances:
        name = (
            "the embedded CPU engine" if instance.embedded else f"ComfyUI at {instance.shown_url}"
        )
        state = "ready" if instance.up else f"not reachable yet ({instance.last_error})"
        described.append(f"{name}: {state}")
    return "; ".join(described) or "no ComfyUI is configured: jobs wait (set COMFYUI_URLS)"


def welcome(app: Application, role: Role, port: int) -> str:
    """What was started, where to look, and a line to try."""
    settings = app.settings
    base = _base_url(settings, port)
    lines = [
        "",
        f"atelier {'is up' if role == 'up' else 'API is up'}: {base}",
        f"  instances  {describe_instances(app)}",
        f"  database   {_shown_database(settings)}",
        f"  storage    {settings.storage.url.split('?')[0]}",
        f"  docs       {base}/docs",
    ]
    if app.embedded and not settings.comfyui_urls:
        lines.append(
            "  note       no ComfyUI is configured; classic image processing is used. "
            "Set COMFYUI_URLS for diffusion."
        )
    elif app.embedded:
        lines.append(
            "  note       no configured ComfyUI could be reached, so the embedded engine helps out."
        )
    lines += [
        "",
        "Try it (any photo of yours will do):",
        f"  {curl_line(base)}",
        "",
    ]
    return "\n".join(lines)


def curl_line(base: str) -> str:
    """A command that sends a photo and writes the stylised picture to clay.png."""
    return (
        f"curl -sS -H 'Accept: image/*' -F image=@{example_photo()} -F style=clay "
        f"{base}/v1/workflows/style_change -o clay.png"
    )


def _base_url(settings: Settings, port: int) -> str:
    if settings.public_url:
        return settings.public_url.rstrip("/")
    host = "127.0.0.1" if settings.host in ("0.0.0.0", "::", "") else settings.host
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


def _shown_database(settings: Settings) -> str:
    from sqlalchemy import make_url

    return make_url(settings.database).render_as_string(hide_password=True)
