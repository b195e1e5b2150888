"""The texts of problems in a config."""

from __future__ import annotations

from datetime import date
from typing import Any, Literal

import pytest
from pydantic import BaseModel, Field, ValidationError

from celltune.search.config.problems import problem_text, with_subject


class Model(BaseModel, strict=True):
    count: int = Field(1, ge=1, lt=9)
    share: float = Field(0.5, gt=0, le=1, allow_inf_nan=False)
    flag: bool = False
    text: str = Field("ab", min_length=2, pattern="^a")
    kind: Literal["x", "y"] = "x"
    many: list[int] = Field([1], min_length=1)
    raw: bytes = b""


@pytest.mark.parametrize(
    ("key", "value", "sentence"),
    [
        ("count", 0, "s.count is 0. It must be at least 1."),
        ("count", 9, "s.count is 9. It must be below 9."),
        (
            "count",
            "1",
            "s.count is '1'. It must be a whole number. Remove the quotes, which make 1 a text.",
        ),
        (
            "count",
            "-010",
            "s.count is '-010'. It must be a whole number. Omit the leading zero, with which some "
            "read it as octal: -10.",
        ),
        ("count", "one", "s.count is 'one'. It must be a whole number."),
        ("count", None, "s.count is null. It must be a whole number."),
        ("share", 0, "s.share is 0. It must be above 0."),
        ("share", 1.5, "s.share is 1.5. It must be at most 1."),
        ("share", float("inf"), "s.share is inf. It must be a finite number."),
        ("share", {}, "s.share is a mapping. It must be a number."),
        ("flag", "yes", "s.flag is 'yes'. It must be true or false."),
        (
            "text",
            True,
            "s.text is true. It must be text. YAML reads yes, on and true without quotes as true. "
            "Put the text in quotes, such as 'yes'.",
        ),
        (
            "text",
            False,
            "s.text is false. It must be text. YAML reads no, off and false without quotes as "
            "false. Put the text in quotes, such as 'no'.",
        ),
        (
            "text",
            date(2024, 1, 31),
            "s.text is 2024-01-31. It must be text. Put it in quotes: '2024-01-31'.",
        ),
        ("text", 12, "s.text is 12. It must be text. Put it in quotes: '12'."),
        (
            "text",
            None,
            "s.text is null. It must be text. YAML reads null, ~ and nothing as no value. Put a "
            "text in quotes, such as 'null'.",
        ),
        ("text", [1], "s.text is [1]. It must be text."),
        ("text", "a", "s.text is 'a'. It must be text whose length is at least 2."),
        ("text", "ba", "s.text is 'ba'. It must be text that matches ^a."),
        ("kind", "z", "s.kind is 'z'. It must be 'x' or 'y'."),
        ("many", [], "s.many is []. It must be a list whose length is at least 1."),
        ("many", 3, "s.many is 3. It must be a list."),
        ("raw", 3, "s.raw is 3. It must be a valid bytes."),
    ],
)
def test_each_problem_is_a_sentence_with_the_value(key: str, value: object, sentence: str) -> None:
    with pytest.raises(ValidationError) as raised:
        Model.model_validate({key: value})
    (error,) = raised.value.errors()
    assert with_subject(f"s.{key}", problem_text(error)) == sentence


@pytest.mark.parametrize(
    ("path", "message", "sentence"),
    [
        ("space.size", "is empty.", "space.size is empty."),
        ("data.classes", "Contains 'x' twice", "data.classes contains 'x' twice."),
        ("data", "data.a and data.b exclude each other.", "data.a and data.b exclude each other."),
        ("metric", "'f1' is not a metric.", "metric: 'f1' is not a metric."),
        ("", "budget.target is 9.", "budget.target is 9."),
        ("", "must have a name.", "The config must have a name."),
    ],
)
def test_a_validator_can_write_a_predicate_or_a_sentence(
    path: str, message: str, sentence: str
) -> None:
    error: dict[str, Any] = {"type": "value_error", "msg": f"Value error, {message}"}
    assert with_subject(path, problem_text(error)) == sentence


def test_a_quoted_name_shows_no_password() -> None:
    uri = "http://user:secret@host"
    message = f"Value error, '{uri}' is not a metric."
    error: dict[str, Any] = {"type": "value_error", "msg": message, "input": uri}
    text = problem_text(error)
    assert "secret" not in text
    assert text.endswith("' is not a metric.")


def test_a_list_shows_no_password() -> None:
    uri = "http://user:secret@host"
    error: dict[str, Any] = {"type": "value_error", "msg": f"is ['{uri}']. It must be a number."}
    assert problem_text(error) == "is ['http://... It must be a number."
