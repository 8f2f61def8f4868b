"""What `atelier workflows` prints."""

from rich.console import Console
from rich.table import Table

from atelier.settings import load_settings
from atelier.workflows.library import Library
from atelier.workflows.manifest import in_language


def _library() -> Library:
    settings = load_settings()
    return Library([settings.workflows_dir] if settings.workflows_dir else [])


def list_workflows() -> None:
    library = _library()
    table = Table("name", "title", "variants", box=None, pad_edge=False)
    for name in library.names():
        manifest = library.get(name).manifest
        variants = ", ".join(variant.name for variant in manifest.variants)
        table.add_row(name, in_language(manifest.title), variants)
    Console().print(table)


def show_workflow(name: str) -> None:
    """Raises WorkflowUnknown, which lists what there is."""
    manifest = _library().get(name).manifest
    console = Console()
    console.print(f"[bold]{manifest.name}[/bold]  {in_language(manifest.title)}")
    if manifest.help:
        console.print(in_language(manifest.help))
    table = Table("input", "type", "default", "what it is", box=None, pad_edge=False)
    for entry in manifest.inputs:
        default = "required" if entry.required else "" if entry.default is None else entry.default
        about = in_language(entry.help) or in_language(entry.title)
        if entry.choices:
            about = f"{about} ({', '.join(str(choice.value) for choice in entry.choices)})".strip()
        table.add_row(entry.name, entry.type, str(default), about)
    console.print(table)
    for variant in manifest.variants:
        console.print(f"variant {variant.name} ({variant.kind})", highlight=False)
