"""All that waits for one model at one seat, of one class."""

from collections.abc import Iterable

from atelier.jobs.policy.groups import Group, Head, Oldest
from atelier.jobs.policy.users import Users


class Wanted:
    def __init__(self, head: Head, group: Group) -> None:
        self.head = head
        self._groups = [group]

    def add(self, head: Head, group: Group) -> None:
        self.head = min(self.head, head)
        self._groups.append(group)

    @property
    def count(self) -> int:
        return sum(group.count for group in self._groups)

    @property
    def work_ms(self) -> float:
        return sum(group.work_ms for group in self._groups)

    def counted(self, most: int) -> int:
        """How many jobs wait, of each user at most so many for each requirement."""
        return sum(group.counted(most) for group in self._groups)

    def oldest(self, users: Users) -> Oldest:
        """The job that came first, of users who may start one more."""
        found = (group.oldest(users) for group in self._groups)
        return min(one for one in found if one is not None)


def by_model(groups: Iterable[Group], users: Users) -> dict[str | None, Wanted]:
    """Sort by model what waits for a seat, without jobs that their users may not start."""
    wanted: dict[str | None, Wanted] = {}
    for group in groups:
        head = group.head(users)
        if head is None:
            continue
        if group.model in wanted:
            wanted[group.model].add(head, group)
        else:
            wanted[group.model] = Wanted(head, group)
    return wanted
