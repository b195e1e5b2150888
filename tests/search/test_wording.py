from __future__ import annotations

import pytest

from celltune.search.wording import counted, listed


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        (0, "0 trials"),
        (1, "1 trial"),
        (2, "2 trials"),
        (12345, "12,345 trials"),
        (1.0, "1 trial"),
        (0.5, "0.5 trials"),
    ],
)
def test_counted_uses_the_singular_only_for_one(number: float, expected: str) -> None:
    assert counted(number, "trial") == expected


def test_counted_accepts_an_irregular_plural() -> None:
    assert [counted(n, "class", "classes") for n in (1, 2)] == ["1 class", "2 classes"]


def test_listed_joins_texts_as_in_a_sentence() -> None:
    assert listed(["a"]) == "a"
    assert listed(["a", "b"]) == "a and b"
    assert listed(["a", "b", "c"], "or") == "a, b or c"
