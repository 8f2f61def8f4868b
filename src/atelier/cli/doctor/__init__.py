"""`atelier doctor`: each part, whether it works, and what to do where it doesn't."""

import asyncio
from pathlib import Path

import typer
from rich.console import Console

from atelier.cli.doctor import instances, machine, processes, services, workflows
from atelier.cli.doctor.finding import Finding, of_error, ok, without_secrets
from atelier.cli.doctor.report import as_json, show
from atelier.errors import AtelierError
from atelier.outbound import GuardedSession
from atelier.settings import Settings, load_settings
from atelier.telemetry import configure_logging
from atelier.webhooks.signing import checked_secret


async def examine(*, data_dir: Path | None, json: bool = False, **given: object) -> bool:
    """Print what is found; True unless a part fails. ``given``: settings of ComfyUIs, by name."""
    configure_logging("ERROR")
    try:
        settings = load_settings(data_dir=data_dir, **given)
        configure_logging("ERROR", secrets=settings.secrets)
        _check_values(settings)
    except AtelierError as error:
        findings = [of_error("configuration", error)]
    else:
        found = [ok("configuration", "understood"), *await _parts(settings)]
        findings = [without_secrets(one, settings.secrets) for one in found]
    if json:
        typer.echo(as_json(findings))
    else:
        show(findings, Console(highlight=False))
    return not any(finding.level == "failed" for finding in findings)


def _check_values(settings: Settings) -> None:
    """Raise ConfigurationError for what would only be looked at when the service starts."""
    if settings.webhook_secret is not None:
        checked_secret(settings.webhook_secret.get_secret_value())
    GuardedSession(settings.fetch_allow)


async def _parts(settings: Settings) -> list[Finding]:
    data = machine.data_folder(settings)
    findings = [data, machine.log_folder(settings)]
    # The workflows stand in the database: while it is looked at first, its file is made.
    database = await services.database(settings)
    redis, storage, examined, (library, faulty) = await asyncio.gather(
        services.redis(settings),
        services.storage(settings),
        instances.examine_all(settings),
        workflows.library_of(settings),
    )
    findings += [*database, *redis, storage]
    findings += await processes.examine_all(settings)
    for one in examined:
        findings += one.findings
    findings += machine.comfyui_folders(settings)
    findings += machine.open_files(len(examined))
    return [*findings, *faulty, *workflows.where_they_run(library, examined)]
