"""Which instances a worker takes, and which it leaves to others. Pure.

Every worker decides for itself from the same rows, so that nobody has to lead. All aim at an even
part; a worker that comes gets its part as others let go of what is more than theirs.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Seen:
    """An instance to be served. ``driver`` is None where no worker holds it now.

    ``host``: only workers there can reach it.
    """

    id: str
    host: str | None
    driver: str | None


@dataclass(frozen=True, slots=True)
class Decision:
    take: tuple[str, ...] = ()
    leave: tuple[str, ...] = ()


def decide(
    me: str,
    instances: Sequence[Seen],
    workers: Mapping[str, str],
    *,
    held: Collection[str],
    orphans: Collection[str] = (),
) -> Decision:
    """What ``me`` does now. ``workers`` has the host of each that lives by its name.

    ``held`` are those that this process serves; what is recorded as ours beyond that was left by
    our own earlier life. ``orphans`` have been without a driver for so long that they are taken
    whatever our part. Of what is too much the last are left, and only when someone wants them.
    """
    mine = [one for one in instances if one.id in held]
    ours_before = [one for one in instances if one.driver == me and one.id not in held]
    free = [one for one in instances if one.driver is None and _can(workers[me], one)]
    part = _part(me, instances, workers)
    take = list(ours_before)
    for one in free:
        alone = sum(_can(host, one) for host in workers.values()) == 1
        if len(mine) + len(take) < part or alone or one.id in orphans:
            take.append(one)
    surplus = len(mine) + len(take) - part
    if surplus <= 0 or take:
        return Decision(tuple(one.id for one in take))
    loads = dict.fromkeys(workers, 0)
    for one in instances:
        if one.driver in loads and one.driver is not None:
            loads[one.driver] += 1
    wanting = {
        name: _part(name, instances, workers) - loads[name] for name in workers if name != me
    }
    leave: list[str] = []
    for one in reversed(mine):
        if len(leave) == surplus:
            break
        # One that others can't reach, or for which nobody has room, is better kept.
        taker = next(
            (
                name
                for name, host in sorted(workers.items())
                if wanting.get(name, 0) > 0 and _can(host, one)
            ),
            None,
        )
        if taker is not None:
            wanting[taker] -= 1
            leave.append(one.id)
    return Decision(leave=tuple(leave))


_ROUNDING = 1e-9


def _part(me: str, instances: Sequence[Seen], workers: Mapping[str, str]) -> int:
    """The sum over what ``me`` can reach of one divided by how many workers can, rounded up."""
    total = 0.0
    for one in instances:
        if _can(workers[me], one):
            total += 1 / sum(_can(host, one) for host in workers.values())
    return math.ceil(total - _ROUNDING)


def _can(host: str, instance: Seen) -> bool:
    return instance.host is None or instance.host == host
