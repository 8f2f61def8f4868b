from typing import Annotated, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from atelier.api.fields import FieldError, field_errors, sentence


class Body(BaseModel):
    model_config = ConfigDict(extra="forbid")

    amount: Annotated[int, Field(ge=1, le=3)] = 1
    kind: Literal["a", "b"] = "a"
    names: Annotated[list[str], Field(max_length=2)] = []
    flag: bool = False


def endpoint(body: Body) -> None: ...


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"amount": 0}, "amount must be at least 1; it is 0"),
        ({"amount": 4}, "amount must be at most 3; it is 4"),
        ({"amount": 1.5}, "amount must be a whole number; it is 1.5"),
        ({"amount": "x"}, "amount must be a whole number; it is 'x'"),
        ({"kind": "c"}, "kind must be one of a, b; it is 'c'"),
        ({"names": ["a"] * 3}, "names may have at most 2 entries; it has more"),
        ({"names": ["a", 5]}, "names.1 must be text; it is 5"),
        ({"flag": "perhaps"}, "flag must be true or false; it is 'perhaps'"),
        ({"amuont": 1}, "amuont isn't a known field (did you mean amount?)"),
        ({"zzz": 1}, "zzz isn't a known field"),
    ],
)
def test_error_reads_as_a_sentence(given, message):
    with pytest.raises(ValidationError) as caught:
        Body.model_validate(given)
    (error,) = field_errors(caught.value.errors(), endpoint)
    assert f"{error.field} {error.message}" == message


def test_long_value_is_cut():
    with pytest.raises(ValidationError) as caught:
        Body.model_validate({"amount": "x" * 10_000})
    (error,) = field_errors(caught.value.errors(), endpoint)
    assert len(error.message) < 120


def test_sentence_joins_all():
    errors = [FieldError("a", "is required"), FieldError("b", "must be text")]
    assert sentence(errors) == "a is required; b must be text."
