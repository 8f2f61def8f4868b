import pytest

from atelier.jobs.policy import Candidate, Seat, choose

NOW = 1_000_000


def candidate(id: str, seq: int, **fields) -> Candidate:
    given = {
        "priority": 0,
        "user": "ada",
        "workflow": "w",
        "variant": None,
        "requirement": "r",
        "model": None,
        "created_at_ms": NOW - 1000,
        "run_after_ms": NOW - 1000,
        "estimate_ms": None,
        "attempts": 0,
        "avoid_instance": None,
    }
    return Candidate(id=id, seq=seq, **(given | fields))


@pytest.mark.parametrize(
    ("waiting", "expected"),
    [
        ([], None),
        ([candidate("a", 2), candidate("b", 1)], "b"),  # first in, first out
        ([candidate("a", 1), candidate("b", 2, priority=1)], "b"),  # priority before arrival
        ([candidate("b", 1), candidate("a", 1)], "a"),  # together: by id
        ([candidate("a", 1, requirement="big"), candidate("b", 2)], "b"),  # can't run a
        ([candidate("a", 1, requirement="big", priority=9)], None),
        ([candidate("a", 1, run_after_ms=NOW + 1), candidate("b", 2)], "b"),  # a waits
        ([candidate("a", 1, run_after_ms=NOW)], "a"),  # its time has come
        ([candidate("a", 1, avoid_instance="gpu"), candidate("b", 2)], "b"),
        ([candidate("a", 1, avoid_instance="gpu")], "a"),  # better here than nowhere
        ([candidate("a", 1, avoid_instance="other"), candidate("b", 2)], "a"),
        (  # the first of those that had better go elsewhere
            [candidate("a", 1, avoid_instance="gpu"), candidate("b", 2, avoid_instance="gpu")],
            "a",
        ),
    ],
)
def test_choice(waiting, expected):
    seat = Seat("gpu", lambda requirement: requirement == "r")
    chosen = choose(waiting, seat, NOW)
    assert (chosen.id if chosen else None) == expected


def test_what_a_seat_can_run_is_asked_once_per_requirement():
    asked = []
    seat = Seat("gpu", lambda requirement: bool(asked.append(requirement)))
    assert choose([candidate(str(n), n) for n in range(9)], seat, NOW) is None
    assert asked == ["r"]
