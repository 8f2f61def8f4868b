"""`atelier workflows ...`: the commands; what they do is in ``catalogue``."""

from pathlib import Path
from typing import Annotated

import typer

from atelier.cli.options import PROBLEM, DataDir, Instances, run_async

workflows = typer.Typer(
    help="The workflows that the running service knows (ATELIER_URL), or this machine's data "
    "folder where none runs.\n\nExample: `atelier workflows list`",
    no_args_is_help=True,
)

Url = Annotated[
    str | None, typer.Option(help="The service to use (ATELIER_URL); default: this machine's.")
]
Name = Annotated[str, typer.Argument(help="A workflow's name.")]


@workflows.command("list")
def list_command(data_dir: DataDir = None, url: Url = None) -> None:
    """Names, titles, where they come from and whether they can run.

    Example: `atelier workflows list`
    """
    from atelier.cli.catalogue import list_workflows

    run_async(list_workflows(data_dir=data_dir, server_url=url))


@workflows.command("show")
def show_command(
    name: Name,
    as_json: Annotated[
        bool, typer.Option("--json", help="All of it as JSON, to be edited and added again.")
    ] = False,
    data_dir: DataDir = None,
    url: Url = None,
) -> None:
    """Its inputs and variants.

    Example: `atelier workflows show style_change`
    """
    from atelier.cli.catalogue import show_workflow

    run_async(show_workflow(name, as_json=as_json, data_dir=data_dir, server_url=url))


@workflows.command("reference")
def reference_command() -> None:
    """The shipped ones in Markdown, with the models that each needs.

    Example: `atelier workflows reference`
    """
    from atelier.cli.reference import reference
    from atelier.workflows.library import Library

    typer.echo(reference(Library()), nl=False)


@workflows.command("add")
def add_command(
    file: Annotated[
        Path, typer.Argument(help="A graph's JSON file, or a graph with a manifest or inputs.")
    ],
    name: Annotated[
        str | None, typer.Option(help="What it is to be called; default: as the file.")
    ] = None,
    inputs: Annotated[
        str | None,
        typer.Option(help="The inputs that count, comma-separated; default: all that are found."),
    ] = None,
    data_dir: DataDir = None,
    url: Url = None,
) -> None:
    """Register a workflow; its manifest is made from the graph, and printed.

    Example: `atelier workflows add portrait_api.json --name portrait --inputs prompt,seed,steps`
    """
    from atelier.cli.catalogue import add_workflow

    run_async(add_workflow(file, name, inputs, data_dir=data_dir, server_url=url))


@workflows.command("remove")
def remove_command(name: Name, data_dir: DataDir = None, url: Url = None) -> None:
    """Remove a workflow that was registered; one that it overrode is there again.

    Example: `atelier workflows remove portrait`
    """
    from atelier.cli.catalogue import remove_workflow

    run_async(remove_workflow(name, data_dir=data_dir, server_url=url))


@workflows.command("check")
def check_command(
    workflow: Annotated[str, typer.Argument(help="A workflow's name, or a JSON file.")],
    data_dir: DataDir = None,
    comfyui: Instances = None,
    url: Url = None,
) -> None:
    """Say for each instance whether it can run the workflow, and what it lacks or would refuse.

    Exit code 0 when one can, else 1. Example: `atelier workflows check portrait_api.json`
    """
    from atelier.cli.catalogue import check_workflow

    if not run_async(
        check_workflow(workflow, data_dir=data_dir, comfyui_urls=comfyui, server_url=url)
    ):
        raise typer.Exit(PROBLEM)
