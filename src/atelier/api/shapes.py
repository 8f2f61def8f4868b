"""Which dialect an address belongs to, for errors that no route of it has seen.

An unknown address, a wrong method, a refusal before any route: each is answered in the shape of
the dialect whose address it is; elsewhere as a problem document.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from fastapi.responses import Response

from atelier.api.problems import PASSING_STATUSES, Problem, problem_response, retry_after

Render = Callable[[Problem, str], Response]


@dataclass(frozen=True, slots=True)
class Shape:
    """Errors at the addresses that ``pattern`` matches whole are answered by ``render``."""

    pattern: re.Pattern[str]
    render: Render


class Shapes:
    """The shapes of all dialects; where several fit, the first is taken."""

    def __init__(self, shapes: Sequence[Shape] = ()) -> None:
        self._shapes = tuple(shapes)

    def response(
        self, problem: Problem, path: str, headers: Mapping[str, str] | None = None
    ) -> Response:
        for shape in self._shapes:
            if shape.pattern.fullmatch(path):
                response = shape.render(problem, path)
                response.headers.update(headers or {})
                if problem.status in PASSING_STATUSES:
                    response.headers.setdefault("Retry-After", retry_after(problem))
                return response
        return problem_response(problem, path, headers)


def shape(pattern: str, render: Render) -> Shape:
    """``pattern`` is a regular expression; whatever follows it below a slash belongs to it."""
    return Shape(re.compile(f"(?:{pattern})(?:/.*)?", re.DOTALL), render)
