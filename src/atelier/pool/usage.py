"""What we learn of an instance by using it: its models, its pace, how far it can be trusted."""

import random
import time
from collections.abc import Callable, Mapping
from typing import Any

from atelier.comfy.answers import QueueState
from atelier.comfy.messages import ExecutionStart, Message, Status
from atelier.pool.breaker import Breaker, Circuit
from atelier.pool.report import Report
from atelier.pool.warmth import Warmth
from atelier.pool.work import Work

# Its own: the module's is seeded by who wants to repeat things.
_CHANCE = random.Random()


class Usage:
    """Hears what passes between us and the instance. ``running`` has its prompt ids by job.

    ``on_drop`` is called when the WebSocket is lost, ``look_again`` when its queue has become
    longer than we know of, ``on_circuit`` when the breaker opens or closes.
    """

    def __init__(
        self,
        running: Mapping[str, str],
        *,
        look_again: Callable[[], None],
        on_drop: Callable[[], None],
        on_circuit: Callable[[Circuit], None],
    ) -> None:
        self.warmth = Warmth()
        self.work = Work()
        self._breaker = Breaker()
        self._running = running
        self._look_again = look_again
        self._on_drop = on_drop
        self._on_circuit = on_circuit

    # -- the client's observer -----------------------------------------------------------------

    def submitting(self, prompt_id: str, graph: Mapping[str, Any]) -> None:
        self.warmth.submitting(prompt_id, graph)

    def heard(self, message: Message) -> None:
        now_ms = time.monotonic() * 1000
        self.warmth.heard(message, now_ms)
        if isinstance(message, Status) and message.queue_remaining is not None:
            self._count_foreign(message.queue_remaining)
        elif isinstance(message, ExecutionStart):
            for job, prompt_id in self._running.items():
                if prompt_id == message.prompt_id:
                    self.work.started(job, now_ms)

    def freed(self) -> None:
        self.warmth.clear()

    def dropped(self) -> None:
        self.failed(crash=True)
        self._on_drop()

    def _count_foreign(self, there: int) -> None:
        """Tell from the queue's length alone whether to look at it."""
        if there == 0:
            self.work.foreign_running = self.work.foreign_pending = 0
        elif there > len(self._running) + self.work.foreign:
            self._look_again()

    # -- its queue -----------------------------------------------------------------------------

    def look_at(self, queue: QueueState) -> None:
        """Count the prompts that aren't ours, and see what they load."""
        ours = set(self._running.values())
        running = [id for id in queue.running if id not in ours]
        self.work.foreign_running = len(running)
        self.work.foreign_pending = sum(id not in ours for id in queue.pending)
        for id in running:
            self.warmth.foreign(queue.graphs.get(id, {}))

    # -- the breaker ---------------------------------------------------------------------------

    @property
    def circuit(self) -> Circuit:
        return self._breaker.state(time.monotonic())

    def allows_one_more(self) -> bool:
        return self._breaker.allows(time.monotonic(), len(self.work.jobs))

    def failed(self, *, crash: bool) -> None:
        """A run or the connection failed, and the instance is to blame."""
        now = time.monotonic()
        before = self._breaker
        # Not for secrets: so that many workers don't try again in step.
        self._breaker = before.failed(now, chance=_CHANCE.random(), crash=crash)
        if self._breaker.openings > before.openings:
            self._on_circuit("open")

    def worked(self) -> None:
        """A job came to an end by its own doing, well or not."""
        before = self.circuit
        self._breaker = self._breaker.worked(time.monotonic())
        if before != "closed" and self.circuit == "closed":
            self._on_circuit("closed")

    def finished(
        self, prompt_id: str, workflow: str, variant: str | None, run_ms: float
    ) -> tuple[float, bool]:
        """Learn from a job that succeeded: its pace, and what loading took if it loaded.

        Returns its time without loading, and whether that is a guess.
        """
        usual_ms = self.work.run_ms(workflow, variant)
        load_ms = self.warmth.ran(prompt_id, run_ms, usual_ms)
        warm_ms, is_guess = max(run_ms - (load_ms or 0.0), 0.0), load_ms is not None
        self.work.learn(workflow, variant, warm_ms, is_guess=is_guess)
        self.worked()
        return warm_ms, is_guess

    # -- taking over ---------------------------------------------------------------------------

    def restore(self, report: Report) -> None:
        """Begin with what the driver before has told."""
        self.warmth.restore(report.warm, report.switch_ms)

    def free_in_ms(self) -> float:
        """Until the instance has done all that is claimed for it, and other people's prompts."""
        warm = self.warmth.warm
        return self.work.free_in_ms(
            time.monotonic() * 1000,
            lambda model: 0.0 if model in warm else self.warmth.cost_ms(model) or 0.0,
        )
