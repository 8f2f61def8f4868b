"""The commands. Each ends with a sentence and an exit code, never with a stack trace."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from atelier import __version__
from atelier.cli.options import (
    CONFIGURATION,
    PROBLEM,
    ComfyArguments,
    ComfyPython,
    ComfyUIs,
    DataDir,
    Gpus,
    Host,
    Instances,
    OnCpu,
    Port,
    Processes,
    comfyui_options,
    run_async,
)
from atelier.cli.workflows import workflows
from atelier.errors import AtelierError

app = typer.Typer(
    name="atelier",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)
app.add_typer(workflows, name="workflows")
webhooks = typer.Typer(
    help="How receivers recognise what this installation tells them.\n\n"
    "Example: `atelier webhooks secret`",
    no_args_is_help=True,
)
app.add_typer(webhooks, name="webhooks")


def print_version(value: bool) -> None:
    if value:
        typer.echo(f"atelier {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=print_version, is_eager=True, help="Print it.")
    ] = False,
) -> None:
    """The production front of ComfyUI: a durable queue, the right instance, pictures back.

    Example: `atelier up`, then open http://127.0.0.1:8000/docs
    """


@app.command()
def up(
    host: Host = None,
    port: Port = None,
    data_dir: DataDir = None,
    comfyui: ComfyUIs = None,
    gpus: Gpus = None,
    cpu: OnCpu = None,
    instances: Processes = None,
    comfyui_python: ComfyPython = None,
    comfyui_args: ComfyArguments = None,
) -> None:
    """API and worker in one process, with the embedded engine where no ComfyUI can be reached.

    Given the folder of a ComfyUI, it starts one process of it for each GPU and keeps it running.

    Examples: `COMFYUI_URLS=http://127.0.0.1:8188 atelier up --port 8000`,
    `atelier up --comfyui ~/ComfyUI --gpus all`
    """
    from atelier.cli.serve import serve

    processes = comfyui_options(
        comfyui,
        gpus=gpus,
        cpu=cpu,
        instances=instances,
        python=comfyui_python,
        arguments=comfyui_args,
    )
    run_async(serve("up", host=host, port=port, data_dir=data_dir, comfyui=processes))


@app.command()
def api(
    host: Host = None, port: Port = None, data_dir: DataDir = None, comfyui: Instances = None
) -> None:
    """The HTTP API alone; workers run elsewhere on the same database and storage.

    Example: `DATABASE_URL=postgresql://atelier@db/atelier atelier api --port 8000`
    """
    from atelier.cli.serve import serve

    given = {"comfyui_urls": comfyui}
    run_async(serve("api", host=host, port=port, data_dir=data_dir, comfyui=given))


@app.command()
def worker(
    data_dir: DataDir = None,
    comfyui: ComfyUIs = None,
    gpus: Gpus = None,
    cpu: OnCpu = None,
    instances: Processes = None,
    comfyui_python: ComfyPython = None,
    comfyui_args: ComfyArguments = None,
) -> None:
    """A worker alone: claims jobs and runs them on the configured instances, or on its own.

    Examples: `COMFYUI_URLS=http://gpu1:8188,http://gpu2:8188 atelier worker`,
    `atelier worker --comfyui ~/ComfyUI --gpus 0,1`
    """
    from atelier.cli.serve import serve

    processes = comfyui_options(
        comfyui,
        gpus=gpus,
        cpu=cpu,
        instances=instances,
        python=comfyui_python,
        arguments=comfyui_args,
    )
    run_async(serve("worker", data_dir=data_dir, comfyui=processes))


@app.command()
def engine(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port; 0 takes a free one.")] = 8188,
    root_dir: Annotated[Path, typer.Option("--root", help="Folder for its files.")] = Path(
        "data/engine"
    ),
) -> None:
    """The embedded CPU engine alone: ComfyUI's protocol, image nodes, no diffusion.

    Example: `atelier engine --port 8189`
    """
    from atelier.engine.command import main as engine_main

    arguments = ["--host", host, "--port", str(port), "--root", str(root_dir)]
    raise typer.Exit(engine_main(arguments))


@app.command()
def doctor(
    data_dir: DataDir = None,
    comfyui: ComfyUIs = None,
    gpus: Gpus = None,
    comfyui_python: ComfyPython = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="A list of {part, level, message, hint}.")
    ] = False,
) -> None:
    """Check folders, database, Redis, storage, instances and workflows; say what to do.

    Exit code 1 when something fails, 0 when there are warnings at most.

    Example: `atelier doctor --json`
    """
    from atelier.cli.doctor import examine

    processes = comfyui_options(comfyui, gpus=gpus, python=comfyui_python)
    if not run_async(examine(data_dir=data_dir, json=as_json, **processes)):
        raise typer.Exit(PROBLEM)


@app.command()
def migrate(data_dir: DataDir = None) -> None:
    """Bring the database up to date (`up`, `api` and `worker` do so themselves).

    Example: `DATABASE_URL=postgresql://atelier@db/atelier atelier migrate`
    """
    from atelier.cli.serve import migrate_database

    typer.echo(run_async(migrate_database(data_dir=data_dir)))


@app.command()
def run(
    workflow: Annotated[str, typer.Argument(help="A workflow's name, or a graph's JSON file.")],
    inputs: Annotated[
        list[str] | None,
        typer.Option("--input", "-i", help="NAME=VALUE; a picture is a file or a URL."),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Where the result goes.")
    ] = None,
    data_dir: DataDir = None,
    comfyui: Instances = None,
    url: Annotated[
        str | None, typer.Option(help="The service to use (ATELIER_URL); default: this machine's.")
    ] = None,
) -> None:
    """Run one job with a progress bar: on the running service, or by itself when none runs.

    Example: `atelier run style_change -i image=photo.jpg -i style=clay -o clay.png`
    """
    from atelier.cli.run import run_job

    run_async(
        run_job(
            workflow,
            inputs or [],
            output,
            data_dir=data_dir,
            comfyui_urls=comfyui,
            server_url=url,
        )
    )


@webhooks.command("secret")
def webhooks_secret(data_dir: DataDir = None) -> None:
    """The secret with which receivers verify webhooks. Example: `atelier webhooks secret`"""
    from atelier.cli.serve import show_webhook_secret

    typer.echo(run_async(show_webhook_secret(data_dir=data_dir)))


@workflows.command("convert")
def workflows_convert(
    file: Annotated[
        Path, typer.Argument(help="A graph in ComfyUI's UI format, or a picture that holds one.")
    ],
    object_info: Annotated[
        Path | None,
        typer.Option("--object-info", help="ComfyUI's answer to GET /object_info, as a file."),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Where it goes; default: printed.")
    ] = None,
    comfyui: Instances = None,
) -> None:
    """Print the API graph, as ComfyUI's own Export (API) does.

    Example: `atelier workflows convert ui.json --object-info object_info.json -o api.json`
    """
    from atelier.cli.convert import convert_file, write

    text = run_async(convert_file(file, object_info=object_info, comfyui_urls=comfyui))
    if output is None:
        typer.echo(text)
    else:
        write(text, output)


def main() -> None:
    """The entry point: errors become a sentence, a hint and an exit code."""
    try:
        app()
    except AtelierError as error:
        typer.echo(f"atelier: {error.message}", err=True)
        if error.hint:
            typer.echo(f"  {error.hint}", err=True)
        configuration = error.code == "CONFIGURATION_ERROR" or _is_configuration(error)
        sys.exit(CONFIGURATION if configuration else PROBLEM)
    except KeyboardInterrupt:
        sys.exit(130)


def _is_configuration(error: AtelierError) -> bool:
    from atelier.errors import ConfigurationError

    return isinstance(error, ConfigurationError)
