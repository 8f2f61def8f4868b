"""The workflows as callers see them: in one language, with what the instances can do now."""

from collections.abc import Mapping
from typing import Any

from atelier.examples import example_pictures
from atelier.pool.pool import Pool
from atelier.service.capabilities import Capabilities
from atelier.service.views import VariantView, WorkflowView
from atelier.workflows.graph import Graph, is_link
from atelier.workflows.lacking import lacking, model_json, package_json
from atelier.workflows.library import Alternative, Origin, Workflow, input_schema, requirements
from atelier.workflows.manifest import Manifest, Variant, in_language
from atelier.workflows.workflow import EXAMPLE


def workflow_view(
    workflow: Workflow,
    origin: Origin,
    pool: Pool,
    capabilities: Capabilities,
    language: str = "en",
) -> WorkflowView:
    """``language`` is one of en, zh-Hans, zh-Hant; the manifest has all of them."""
    manifest = workflow.manifest
    variants = tuple(
        _variant(workflow, alternative, pool, capabilities, language)
        for alternative in requirements(workflow)
    )
    chosen = next((variant for variant in variants if variant.available), None)
    return WorkflowView(
        name=manifest.name,
        version=workflow.version,
        origin=origin,
        title=in_language(manifest.title, language),
        help=in_language(manifest.help, language),
        category=manifest.category,
        icon=manifest.icon,
        manifest=manifest.model_dump(mode="json", exclude_none=True),
        input_schema=input_schema(workflow, language),
        runnable=(chosen is not None) if pool.up() else None,
        variant=chosen.name if chosen is not None else None,
        variants=variants,
        example=_example(workflow, chosen.name if chosen is not None else None),
        missing=() if chosen is not None else variants[0].missing,
    )


def _variant(
    workflow: Workflow,
    alternative: Alternative,
    pool: Pool,
    capabilities: Capabilities,
    language: str,
) -> VariantView:
    variant = workflow.manifest.variant(alternative.variant)
    up = pool.up()
    able = tuple(one.id for one in up if not capabilities.missing(one, alternative))
    missing: tuple[str, ...] = ()
    lacks: Mapping[str, Any] | None = None
    if up and not able:
        # Told of the instance that lacks least, which is where one would install it.
        best = min(up, key=lambda one: len(capabilities.missing(one, alternative)))
        missing = capabilities.missing(best, alternative)
        if best.object_info is not None:
            lacks = lacking(variant, alternative, best.object_info).as_dict()
    return VariantView(
        name=variant.name,
        kind=variant.kind,
        title=in_language(variant.title, language) or variant.name,
        available=bool(able) if up else None,
        instances=able,
        missing=missing,
        lacking=lacks,
        inputs=tuple(variant.targets),
        requires=variant.requires,
        defaults=_defaults(workflow, variant),
        needs={
            "models": [model_json(model) for model in variant.needs.models],
            "custom_nodes": [package_json(pack) for pack in variant.needs.nodes],
            "comfyui": variant.needs.comfyui,
        },
    )


def _defaults(workflow: Workflow, variant: Variant) -> dict[str, Any]:
    """What the graph itself has for inputs that have no default of their own."""
    graph: Graph = workflow.graphs[variant.name]
    found: dict[str, Any] = {}
    for entry in workflow.manifest.inputs:
        if entry.default is not None or entry.type not in ("integer", "float", "boolean"):
            continue
        for target in variant.targets.get(entry.name, ()):
            value = graph[target.node]["inputs"][target.input]
            if target.map is None and target.template is None and not is_link(value):
                found[entry.name] = value
                break
    return found


def _example(workflow: Workflow, variant: str | None) -> dict[str, Any]:
    """Inputs to try it with, pictures as ``data:`` URLs."""
    manifest = workflow.manifest
    own = manifest.variant(variant).example if variant is not None else None
    example = manifest.example if own is None else own
    pictures = example_pictures()
    return {
        name: pictures.get(value.removeprefix(EXAMPLE), value)
        if isinstance(value, str) and value.startswith(EXAMPLE)
        else value
        for name, value in (example or _made_example(manifest)).items()
    }


def _made_example(manifest: Manifest) -> dict[str, Any]:
    """What the inputs themselves give, for a workflow that shows none."""
    example: dict[str, Any] = {}
    for entry in manifest.inputs:
        if entry.type in ("image", "mask"):
            if entry.required:
                example[entry.name] = f"{EXAMPLE}photo"
        elif entry.type != "seed" and entry.default is not None:
            example[entry.name] = entry.default
        elif entry.required:
            example[entry.name] = entry.example or in_language(entry.placeholder) or "a cat"
    return example
