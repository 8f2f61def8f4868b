"""From what a caller asks to what can be run: workflow, inputs, variant, requirement, graph."""

import random
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from atelier.comfy.model_key import models_of
from atelier.comfy.object_info import ObjectInfo
from atelier.errors import AtelierError, WorkflowError
from atelier.jobs.job import Job
from atelier.pool.instance import Instance
from atelier.pool.pool import Pool
from atelier.service.capabilities import Capabilities, Requirement, requirement_of
from atelier.service.fitting import Fitted, Wish, fit
from atelier.workflows.bind import bind, complete, draws_seed, input_at, seed_of
from atelier.workflows.check import Problem, check
from atelier.workflows.copies import repeat, results
from atelier.workflows.formats import graph_of, named_types
from atelier.workflows.graph import Graph
from atelier.workflows.inline import IMAGE_INPUTS
from atelier.workflows.inline import NAME as GRAPH_NAME
from atelier.workflows.library import (
    Alternative,
    Library,
    Workflow,
    fit_models,
    inline,
    lacking,
    requirements,
    resolve_models,
)


class GraphInvalid(WorkflowError):
    """The graph can't run; ``data["node_errors"]`` lists all that is wrong with it."""

    code = "WORKFLOW_VALIDATION_ERROR"
    default_hint = "Correct what is listed under node_errors and submit again."

    def __init__(
        self, problems: Sequence[Problem], inputs: Mapping[int, str] | None = None
    ) -> None:
        names = inputs or {}
        super().__init__(
            " ".join(f"{problem.message.rstrip('.')}." for problem in problems),
            node=problems[0].node or None,
            node_errors=[
                {**problem.as_dict(), "workflow_input": names.get(number)}
                for number, problem in enumerate(problems)
            ],
        )


class CannotRun(WorkflowError):
    """No instance of the pool has what the workflow needs, those that are down included."""

    code = "NO_INSTANCE_CAN_RUN"
    default_hint = (
        "Install what is missing on an instance, or add one that has it: COMFYUI_URLS, or "
        "POST /v1/instances."
    )


@dataclass(frozen=True, slots=True)
class Planned:
    """A request understood: complete inputs and what an instance must have.

    ``variant``, ``model`` and ``plan`` are None while no instance is up to decide for.
    ``draws_seed``: the caller left the seed to chance.
    """

    found: Workflow
    inputs: Mapping[str, Any]
    graph: Graph | None
    requirement: Requirement
    variant: str | None
    model: str | None
    seed: int | None
    draws_seed: bool = False
    plan: "Plan | None" = None


class Planner:
    def __init__(
        self, *, library: Library, pool: Pool, capabilities: Capabilities, rng: random.Random
    ) -> None:
        self._library = library
        self._pool = pool
        self.capabilities = capabilities
        self._rng = rng

    def fit(self, workflow: str, wish: Wish) -> Fitted:
        """Raises WorkflowUnknown, InputsInvalid."""
        manifest = self._library.get(workflow).manifest
        folders = {entry.folder for entry in manifest.inputs if entry.type == "model"}
        models = None
        # One that nobody has reached yet may have what the others lack.
        if self._pool.all_known():
            models = {
                folder: self._pool.model_files(folder, also_down=True)
                for folder in folders
                if folder
            }
        return fit(manifest, wish, models)

    def plan(self, workflow: str | Mapping[str, Any], inputs: Mapping[str, Any]) -> Planned:
        """A graph may be in ComfyUI's UI format: the instance that knows most of it converts it.

        Raises WorkflowUnknown, GraphMalformed, ConversionFailed, ConversionUnavailable,
        InputsInvalid, NoVariantFits, GraphInvalid, CannotRun.
        """
        named = isinstance(workflow, str)
        if isinstance(workflow, str):
            found = self._library.get(workflow)
        else:
            found = inline(self._graph(workflow), inputs)
        completed = complete(found.manifest, inputs, rng=self._rng)
        alternatives = requirements(found, completed)
        chosen, instance = self._choose(alternatives)
        if chosen is None and self._pool.all_known() and not self._waits_for(alternatives):
            raise self._refusal(found, alternatives, completed, named=named)
        if chosen is not None and instance is not None and not named:
            self._check_graph(found, chosen, completed, instance)
        requirement = requirement_of(alternatives if chosen is None else (chosen,))
        self.capabilities.remember(requirement)
        return Planned(
            found=found,
            inputs=completed,
            graph=None if named else next(iter(found.graphs.values())),
            requirement=requirement,
            variant=chosen.variant if chosen else None,
            model=_model_key(found, chosen, completed, instance),
            seed=seed_of(found.manifest, completed),
            draws_seed=draws_seed(found.manifest, inputs),
            plan=_plan(found, chosen.variant, completed, instance) if chosen and instance else None,
        )

    def file_inputs(self, graph: Graph) -> dict[str, str]:
        """The texts of ``graph`` that name files of the input folder, by ``NODE.INPUT``."""
        told = self._pool.up() or self._pool.known()
        infos = [one.object_info for one in told if one.object_info is not None]
        return {
            f"{node_id}.{name}": value
            for node_id, node in graph.items()
            for name, value in node["inputs"].items()
            if isinstance(value, str) and _takes_file(node["class_type"], name, infos)
        }

    def graph_of(self, job: Job) -> Graph:
        """The graph that ``job`` runs: its own, or that of its workflow with its inputs.

        Empty where the workflow is no longer registered, or nobody has chosen a variant yet.
        """
        if job.graph is not None:
            return {node_id: dict(node) for node_id, node in job.graph.items()}
        try:
            workflow = self._library.get(job.workflow)
        except AtelierError:
            return {}
        variant = job.variant
        if variant is None or variant not in workflow.graphs:
            return {}
        return bind(workflow.graphs[variant], workflow.manifest, variant, job.inputs)

    def instance_id(self, name: str) -> str | None:
        """The id of the instance that is called or found at ``name``; None: not of this pool."""
        address = name.rstrip("/")
        return next(
            (one.id for one in self._pool.instances if address in (one.id, one.url.rstrip("/"))),
            None,
        )

    def _graph(self, body: Mapping[str, Any]) -> Graph:
        known = self._pool.knowing(named_types(body))
        return graph_of(body, known, pick=self._rng.choice, now=datetime.now().astimezone())

    def _choose(
        self, alternatives: Sequence[Alternative]
    ) -> tuple[Alternative, Instance] | tuple[None, None]:
        open_now = [one for one in self._pool.up() if one.wanted == "active"]
        for alternative in alternatives:
            for instance in open_now:
                if not self.capabilities.missing(instance, alternative):
                    return alternative, instance
        return None, None

    def _waits_for(self, alternatives: Sequence[Alternative]) -> list[Instance]:
        """Those that can run it, but are down or draining now."""
        return [
            one
            for one in self._pool.known()
            if self.capabilities.choose_alternative(one, alternatives) is not None
        ]

    def _refusal(
        self,
        workflow: Workflow,
        alternatives: Sequence[Alternative],
        inputs: Mapping[str, Any],
        *,
        named: bool,
    ) -> WorkflowError:
        best = min(
            self._pool.known(), key=lambda one: len(self.capabilities.missing(one, alternatives[0]))
        )
        if not named:
            problems = _problems(workflow, alternatives[0].variant, inputs, best.object_info)
            if problems:
                return GraphInvalid(problems)
        lacks = {
            one.variant: lacking(workflow.manifest.variant(one.variant), one, best.object_info)
            for one in alternatives
            if best.object_info is not None
        }
        sentence = "; ".join(
            f"the variant {variant} lacks {what.in_words()}" for variant, what in lacks.items()
        )
        return CannotRun(
            f"No instance can run {workflow.name}: {sentence}.",
            missing={
                one.variant: list(self.capabilities.missing(best, one)) for one in alternatives
            },
            needs={variant: what.as_dict() for variant, what in lacks.items()},
            instance=best.id,
        )

    def _check_graph(
        self,
        workflow: Workflow,
        alternative: Alternative,
        inputs: Mapping[str, Any],
        instance: Instance,
    ) -> None:
        problems = _problems(workflow, alternative.variant, inputs, instance.object_info)
        if problems:
            raise GraphInvalid(problems)


@dataclass(frozen=True, slots=True)
class Plan:
    """How one job runs at one instance."""

    workflow: Workflow
    variant: str
    fitted: Graph  # names the model files that the instance has
    inputs: Mapping[str, Any]
    counting: tuple[str, ...]  # nodes whose results count; empty: all that deliver

    def graph(self, inputs: Mapping[str, Any]) -> Graph:
        """The graph to submit, with ``inputs`` (pictures as file names) written into it."""
        workflow, variant = self.workflow, self.variant
        graph = bind(self.fitted, workflow.manifest, variant, inputs)
        return repeat(graph, workflow.manifest, variant, inputs)

    def problems(
        self, graph: Graph, object_info: ObjectInfo | None, uploaded: Collection[str]
    ) -> list[Problem]:
        """What is wrong with ``graph`` there; ``uploaded`` are files newer than object_info."""
        return [] if object_info is None else check(graph, object_info, uploaded=uploaded)

    def invalid(self, problems: Sequence[Problem]) -> GraphInvalid:
        """The error for ``problems``, naming the workflow's own inputs where they are meant."""
        variant = self.workflow.manifest.variant(self.variant)
        names = {
            number: name
            for number, problem in enumerate(problems)
            if (name := input_at(variant, problem.node, problem.input)) is not None
        }
        return GraphInvalid(problems, names)


def is_picture(value: object) -> bool:
    """True for ``{"url": ...}`` and ``{"asset": id}``."""
    return isinstance(value, Mapping) and len(value) == 1 and next(iter(value)) in ("url", "asset")


def plan_run(workflow: Workflow, job: Job, instance: Instance, capabilities: Capabilities) -> Plan:
    """How ``job``, which was accepted with ``workflow``, runs at ``instance``.

    Raises CannotRun when it lost what it had when the job was claimed for it.
    """
    alternatives = [
        alternative
        for alternative in requirements(workflow, job.inputs)
        if job.variant in (None, alternative.variant)
    ]
    chosen = capabilities.choose_alternative(instance, alternatives)
    if chosen is None:
        missing = capabilities.missing(instance, alternatives[0]) if alternatives else ()
        raise CannotRun(
            f"{instance.id} can't run {job.workflow}: it lacks {', '.join(missing)}.",
            missing=list(missing),
            instance=instance.id,
        )
    return _plan(workflow, chosen.variant, job.inputs, instance)


def _plan(workflow: Workflow, variant: str, inputs: Mapping[str, Any], instance: Instance) -> Plan:
    info = instance.object_info
    chosen = workflow.manifest.variant(variant)
    graph, resolved = workflow.graphs[variant], dict(inputs)
    if info is not None:
        graph = fit_models(graph, chosen, info)
        resolved = resolve_models(workflow.manifest, chosen, resolved, info)
    return Plan(
        workflow=workflow,
        variant=variant,
        fitted=graph,
        inputs=resolved,
        counting=results(graph, workflow.manifest, variant, resolved),
    )


def _problems(
    workflow: Workflow, variant: str, inputs: Mapping[str, Any], info: ObjectInfo | None
) -> list[Problem]:
    if info is None:
        return []
    graph = _bound(workflow, variant, inputs, info)
    # Which files an instance has is older news than which nodes: the worker looks again.
    return [problem for problem in check(graph, info) if problem.code != "file_missing"]


def lasting_problems(workflow: Workflow, variant: str, info: ObjectInfo | None) -> list[Problem]:
    """What is wrong with the graph as it stands, apart from what every caller has to give."""
    if info is None:
        return []
    described = workflow.manifest.variant(variant)
    found = []
    for problem in check(workflow.graphs[variant], info):
        name = input_at(described, problem.node, problem.input)
        entry = workflow.manifest.input(name) if name is not None else None
        if problem.code != "file_missing" and (entry is None or entry.default is not None):
            found.append(problem)
    return found


def _bound(workflow: Workflow, name: str, inputs: Mapping[str, Any], info: ObjectInfo) -> Graph:
    """The graph as that instance would get it."""
    variant = workflow.manifest.variant(name)
    graph = fit_models(workflow.graphs[name], variant, info)
    resolved = resolve_models(workflow.manifest, variant, inputs, info)
    return bind(graph, workflow.manifest, name, resolved)


def _takes_file(class_type: str, name: str, infos: Sequence[ObjectInfo]) -> bool:
    for info in infos:
        if (node := info.node(class_type)) is not None and name in node.inputs:
            return node.inputs[name].uploaded
    return (class_type, name) in IMAGE_INPUTS


def _model_key(
    workflow: Workflow,
    chosen: Alternative | None,
    inputs: Mapping[str, Any],
    instance: Instance | None,
) -> str | None:
    """What must be loaded for this job: the affinity key of the queue.

    While no instance is up, only that of a graph is known, which names its files itself.
    """
    if chosen is None or instance is None or instance.object_info is None:
        if workflow.name != GRAPH_NAME:
            return None
        variant = workflow.manifest.variants[0].name
        graph = bind(workflow.graphs[variant], workflow.manifest, variant, inputs)
        return models_of(graph).key
    return models_of(_bound(workflow, chosen.variant, inputs, instance.object_info)).key
