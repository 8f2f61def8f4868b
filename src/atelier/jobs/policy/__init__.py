"""Which job an instance takes next. Pure: what waits, what the pool has, and the time."""

from atelier.jobs.lanes import Lane, Waiting
from atelier.jobs.policy.board import Board, choose_lane
from atelier.jobs.policy.choice import Choice, Reason, Tuning
from atelier.jobs.policy.instances import Estimates, InstanceState
from atelier.jobs.policy.shares import Shares

__all__ = [
    "Board",
    "Choice",
    "Estimates",
    "InstanceState",
    "Lane",
    "Reason",
    "Shares",
    "Tuning",
    "Waiting",
    "choose_lane",
]
