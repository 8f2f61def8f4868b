"""What `atelier workflows reference` prints: the library as a Markdown page."""

from collections.abc import Iterator

from atelier.workflows.library import Library
from atelier.workflows.manifest import Input, Manifest, Variant, in_language

_KINDS = {
    "diffusion": "draws with a diffusion model",
    "model": "works with a neural network",
    "classic": "image processing, no model",
    "custom": "a graph of its own",
}


def reference(library: Library) -> str:
    """A section for each workflow: its inputs, its variants and what each needs and where."""
    sections = ["\n".join(_section(library.get(name).manifest)) for name in sorted(library.names())]
    return "\n\n".join(sections) + "\n"


def _section(manifest: Manifest) -> Iterator[str]:
    yield f"## `{manifest.name}`: {in_language(manifest.title)}"
    yield ""
    if manifest.help:
        yield in_language(manifest.help)
        yield ""
    yield "| input | type | |"
    yield "|---|---|---|"
    for entry in manifest.inputs:
        if entry.choices_from != "variants":
            yield f"| `{entry.name}` | {_type(entry)} | {_about(entry)} |"
    for number, variant in enumerate(manifest.variants, start=1):
        yield ""
        yield from _variant(number, variant)


def _type(entry: Input) -> str:
    if entry.choices:
        return ", ".join(f"`{choice.value}`" for choice in entry.choices)
    if entry.type == "model":
        return f"file in `{entry.folder}`"
    kinds = {"image": "picture", "mask": "mask", "size": "size", "seed": "seed"}
    if entry.min is None or entry.max is None or entry.type == "text":
        return kinds.get(entry.type, entry.type)
    return f"{kinds.get(entry.type, entry.type)}, {entry.min:g} to {entry.max:g}"


def _about(entry: Input) -> str:
    needed = "**Required.** " if entry.required else ""
    default = f" Default: `{entry.default}`." if entry.default is not None else ""
    return f"{needed}{in_language(entry.help)}{default}".replace("|", "\\|").replace("\n", " ")


def _variant(number: int, variant: Variant) -> Iterator[str]:
    needs = variant.needs
    parts = [_KINDS[variant.kind]]
    if needs.comfyui:
        parts.append(f"ComfyUI {needs.comfyui} or newer")
    if variant.requires:
        parts.append("only with " + ", ".join(f"`{name}`" for name in variant.requires))
    yield f"**{number}. {in_language(variant.title)}** (`{variant.name}`): {'; '.join(parts)}."
    if needs.models or needs.nodes:
        yield ""
        yield "| goes to | GiB | from |"
        yield "|---|---|---|"
    for model in needs.models:
        size = f"{model.size_gib:g}" if model.size_gib else ""
        others = [f"`{pattern}`" for pattern in model.match if not pattern.startswith("!")]
        like = f"; so does what is called {', '.join(others)}" if others else ""
        chosen = f", chosen by `{model.input}`" if model.input else ""
        yield f"| `{model.path}`{chosen}{like} | {size} | <{model.url}> |"
    for pack in needs.nodes:
        yield f"| `{pack.path}` (custom nodes) | | <{pack.url}> |"
