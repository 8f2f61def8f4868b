"""Which models an instance has loaded, as its own messages tell. Pure.

ComfyUI doesn't say it anywhere. But a prompt whose loaders it reports as cached found its models
there, and one whose loaders run has just loaded them.
"""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import median
from typing import Any, Final

from atelier.comfy.messages import (
    Executing,
    ExecutionCached,
    ExecutionError,
    ExecutionInterrupted,
    ExecutionStart,
    ExecutionSuccess,
    Message,
)
from atelier.comfy.model_key import GraphModels, models_of

# The first load after a start takes several times as long: the middle one of these doesn't.
_LOADS_COUNTED: Final = 5
_REMEMBERED_KEYS: Final = 16
_REMEMBERED_PROMPTS: Final = 64  # some are never heard of again


@dataclass(slots=True)
class _Prompt:
    models: GraphModels
    loading_since: float | None = None
    load_ms: float = 0.0
    has_loaded: bool = False


class Warmth:
    """Instances keep the models of the last prompt, larger ones those of several: how many is
    learned from which prompts find theirs.
    """

    def __init__(self) -> None:
        self._loads: dict[str, deque[float]] = {}  # what switching took, by key
        self._recent: list[str] = []  # model keys, the last used first
        self._kept = 1
        self._prompts: dict[str, _Prompt] = {}
        self._ended: dict[str, tuple[str, float]] = {}  # by prompt: the key and its loaders' time

    @property
    def switch_ms(self) -> dict[str, float]:
        """What switching to a model took, by its key."""
        return {key: round(median(loads), 1) for key, loads in self._loads.items()}

    @property
    def warm(self) -> frozenset[str]:
        """Keys of what is loaded; of a key of several files, each of them too."""
        kept = self._recent[: self._kept]
        return frozenset(kept).union(*(key.split("+") for key in kept))

    @property
    def recent(self) -> tuple[str, ...]:
        """The whole keys of what is loaded, the last used first."""
        return tuple(self._recent[: self._kept])

    def cost_ms(self, key: str | None) -> float | None:
        """What switching to ``key`` takes: as measured, else as others took on average."""
        if key is None or not self._loads:
            return None
        if key in self._loads:
            return median(self._loads[key])
        return sum(median(loads) for loads in self._loads.values()) / len(self._loads)

    def restore(self, recent: tuple[str, ...], switch_ms: Mapping[str, float]) -> None:
        """Begin with what the worker before has learned."""
        self._recent, self._kept = list(recent), max(1, len(recent))
        self._loads = {key: deque([ms], _LOADS_COUNTED) for key, ms in switch_ms.items()}

    def clear(self) -> None:
        """Nothing is loaded: the instance restarted, or was told to unload."""
        self._recent.clear()
        self._kept = 1

    def submitting(self, prompt_id: str, graph: Mapping[str, Any]) -> None:
        for remembered in (self._prompts, self._ended):
            if len(remembered) >= _REMEMBERED_PROMPTS:
                del remembered[next(iter(remembered))]
        self._prompts[prompt_id] = _Prompt(models_of(graph))

    def foreign(self, graph: Mapping[str, Any]) -> None:
        """Somebody else's prompt runs, of which no messages come."""
        key = models_of(graph).key
        if key is not None and key not in self._recent[: self._kept]:
            self._use(key)

    def heard(self, message: Message, now_ms: float) -> None:
        """Take a message; those of prompts that weren't announced say nothing here."""
        prompt_id = getattr(message, "prompt_id", None)
        prompt = self._prompts.get(prompt_id) if isinstance(prompt_id, str) else None
        if prompt is None or prompt_id is None or prompt.models.key is None:
            return
        key = prompt.models.key
        match message:
            case ExecutionStart():
                prompt.loading_since, prompt.load_ms, prompt.has_loaded = None, 0.0, False
            case ExecutionCached(nodes=nodes) if prompt.models.loaders <= set(nodes):
                self._found(key)
            case Executing(node=node) if node is not None:
                self._move(prompt, node, now_ms)
            case ExecutionSuccess() | Executing(node=None):
                self._move(prompt, None, now_ms)
                if prompt.has_loaded:
                    self._ended[prompt_id] = key, prompt.load_ms
                del self._prompts[prompt_id]
            case ExecutionError() | ExecutionInterrupted():
                # What it has loaded until then stays; how long the rest takes isn't known.
                del self._prompts[prompt_id]

    def ran(self, prompt_id: str, run_ms: float, usual_ms: float | None) -> float | None:
        """Learn from a prompt that took ``run_ms``; what its loaders took, None if it was warm.

        Loading goes on after the loaders have ended, at the first step of the sampler: what it
        took longer than ``usual_ms``, a warm run of the kind, belongs to it.
        """
        ended = self._ended.pop(prompt_id, None)
        if ended is None:
            return None
        key, load_ms = ended
        took = load_ms if usual_ms is None else max(load_ms, run_ms - usual_ms)
        self._loads.setdefault(key, deque(maxlen=_LOADS_COUNTED)).append(took)
        return load_ms

    def _move(self, prompt: _Prompt, node: str | None, now_ms: float) -> None:
        if prompt.loading_since is not None:
            prompt.load_ms += now_ms - prompt.loading_since
            prompt.loading_since = None
        if node in prompt.models.loaders:
            prompt.loading_since = now_ms
            if not prompt.has_loaded and prompt.models.key is not None:
                prompt.has_loaded = True
                self._load(prompt.models.key)

    def _found(self, key: str) -> None:
        """It was there still: so are those that were used since."""
        if key in self._recent:
            self._kept = max(self._kept, self._recent.index(key) + 1)
        self._use(key)

    def _load(self, key: str) -> None:
        """It was gone: so many as were used since are too many to keep."""
        if key in self._recent:
            self._kept = max(1, min(self._kept, self._recent.index(key)))
        self._use(key)

    def _use(self, key: str) -> None:
        if key in self._recent:
            self._recent.remove(key)
        self._recent.insert(0, key)
        del self._recent[_REMEMBERED_KEYS:]
