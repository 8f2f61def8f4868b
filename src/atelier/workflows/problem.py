"""What can be wrong with an input, each kind naming the input and what would be right."""

from collections.abc import Sequence
from typing import Any, ClassVar

from atelier.errors import InvalidRequest
from atelier.workflows.nearest import listed, nearest


class InputProblem(InvalidRequest):
    """One input is wrong; ``problem`` completes a sentence that begins with its name."""

    code: ClassVar[str] = "INPUT_INVALID"

    def __init__(self, name: str, problem: str, **details: Any) -> None:
        super().__init__(f"{name} {problem}.", input=name, **details)
        self.input = name
        self.problem = problem

    def as_problem(self) -> dict[str, Any]:
        """``{input, code, problem}`` and, where there is a list or a range, what is allowed."""
        return {"code": self.code, "problem": self.problem, **self.data}


class InputMissing(InputProblem):
    code = "INPUT_MISSING"

    def __init__(self, name: str) -> None:
        super().__init__(name, "is required")


class InputMistyped(InputProblem):
    code = "INPUT_MISTYPED"

    def __init__(self, name: str, value: object, expected: str) -> None:
        super().__init__(name, f"must be {expected}, not {shown(value)}", expected=expected)


class InputOutOfRange(InputProblem):
    code = "INPUT_OUT_OF_RANGE"

    def __init__(self, name: str, value: object, low: float | None, high: float | None) -> None:
        bounds = [f"at least {low}"] if low is not None else []
        bounds += [f"at most {high}"] if high is not None else []
        super().__init__(
            name, f"must be {' and '.join(bounds)}, not {shown(value)}", minimum=low, maximum=high
        )


class InputNotAChoice(InputProblem):
    code = "INPUT_NOT_A_CHOICE"

    def __init__(self, name: str, value: object, known: Sequence[Any]) -> None:
        allowed = nearest(value, known, limit=50)
        super().__init__(
            name,
            f"must be one of {listed(allowed, len(known))}, not {shown(value)}",
            allowed=list(allowed),
            total=len(known),
        )


class InputUnknown(InputProblem):
    code = "INPUT_UNKNOWN"

    def __init__(self, name: str, known: Sequence[str]) -> None:
        allowed = nearest(name, known, limit=20)
        super().__init__(
            name,
            f"is not an input; there are {listed(allowed, len(known))}",
            allowed=list(allowed),
            total=len(known),
        )


class InputsInvalid(InvalidRequest):
    """All that is wrong with the inputs; ``data["problems"]`` has an object for each."""

    code = "INPUTS_INVALID"

    def __init__(self, problems: Sequence[InputProblem]) -> None:
        super().__init__(
            " ".join(problem.message for problem in problems),
            problems=[problem.as_problem() for problem in problems],
        )
        self.problems = tuple(problems)


def shown(value: object) -> str:
    """Return ``value`` short enough for a message: data URIs run to megabytes."""
    text = repr(value[:80] if isinstance(value, str) else value)
    return text if len(text) <= 80 else text[:77] + "..."
