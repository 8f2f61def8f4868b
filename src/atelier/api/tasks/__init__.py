"""The dialect of tasks, /api/tasks: named workflows or graphs, run later, told by webhook."""

from atelier.api.tasks.routes import TASKS_SHAPES, tasks_router

__all__ = ["TASKS_SHAPES", "tasks_router"]
