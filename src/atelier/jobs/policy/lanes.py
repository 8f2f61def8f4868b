"""Queued jobs that are alike to the choice stand in one lane, first in, first out."""

from atelier.jobs.lanes import Lane, Waiting

__all__ = ["Lane", "Waiting"]
