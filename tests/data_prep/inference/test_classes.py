from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from celltune.data_prep.errors import DataError
from celltune.data_prep.inference.classes import (
    KNOWN_ORDERS,
    check_distinct,
    class_names,
    counts_text,
    ordered_classes,
)


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["10", "9", "-1"], ("-1", "9", "10")),
        (["1.5", "1e1", "01"], ("01", "1.5", "1e1")),
        (["POS", "Neg"], ("Neg", "POS")),
        (["positive", "neutral", "negative"], ("negative", "neutral", "positive")),
        (["True", "False"], ("False", "True")),
        (["spam", "ham"], ("ham", "spam")),
        (["b", "C", "a"], ("a", "b", "C")),
        (["pos", "neg", "other"], ("neg", "other", "pos")),
        (["2", "10", "x"], ("2", "10", "x")),
        (["topic 10", "Topic 2", "topic 02b", "2nd"], ("2nd", "Topic 2", "topic 02b", "topic 10")),
    ],
)
def test_classes_have_a_documented_order(names: list[str], expected: tuple[str, ...]) -> None:
    assert ordered_classes(names)[0] == expected


@settings(max_examples=50)
@given(st.sets(st.text(min_size=1, max_size=4), min_size=2, max_size=8), st.randoms())
def test_order_depends_on_the_names_only(names: set[str], random: object) -> None:
    shuffled = list(names)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    ordered, _ = ordered_classes(shuffled)
    assert ordered == ordered_classes(sorted(names))[0]
    assert set(ordered) == names


def test_known_orders_are_in_lower_case_and_differ() -> None:
    assert len({frozenset(order) for order in KNOWN_ORDERS}) == len(KNOWN_ORDERS)
    assert all(word == word.casefold() for order in KNOWN_ORDERS for word in order)


def test_spellings_of_a_whole_number_have_its_name() -> None:
    assert class_names([{"1.0": 3, "1": 9}, {"0.00": 2}, {"1.10": 1}, {"v1.0": 1}]) == [
        "1",
        "0",
        "1.10",
        "v1.0",
    ]


@pytest.mark.parametrize(
    "labels",
    [
        ["1", "True"],
        ["1", "true", "2"],
        ["0", "false", "2"],
        ["1", "01"],
        ["1.1", "1.10"],
        ["1e0", "1"],
        ["Pos", "pos"],
        ["very  good", "Very Good"],
        ["caf\u00e9", "cafe\u0301"],
    ],
)
def test_spellings_of_one_class_are_reported_together(labels: list[str]) -> None:
    counts = {name: number for number, name in enumerate([*labels, "other"], start=1001)}
    with pytest.raises(DataError) as error:
        check_distinct("r.csv", counts)
    lines = error.value.lines
    assert lines[0] == "r.csv: some labels look like one class, written in several ways."
    assert "(1,001 documents) and '" in lines[1]
    assert len(lines) == 3
    assert lines[2].startswith("  Write each class in one way in the file. If they are different")
    assert "`data.classes: [" in lines[2]


def test_many_spellings_are_not_all_listed() -> None:
    counts = {case(f"word{number}"): 1 for number in range(500) for case in (str, str.upper)}
    with pytest.raises(DataError) as error:
        check_distinct("r.csv", counts)
    assert len(error.value.lines) == 23
    assert error.value.lines[-2:] == [
        "  and 480 more",
        "  Write each class in one way in the file.",
    ]


@pytest.mark.parametrize("labels", [["True", "False"], ["a", "á"], ["1", "-1"]])
def test_different_classes_are_accepted(labels: list[str]) -> None:
    check_distinct("r.csv", dict.fromkeys(labels, 1))


def test_counts_of_few_classes_are_listed_and_of_many_summarized() -> None:
    assert counts_text({"neg": 12_500, "☀": 3}) == "neg: 12,500, ☀: 3"
    names = [f"a rather long name {number}" for number in range(12)]
    assert counts_text(dict.fromkeys(names, 1)) == "12 classes with 1 documents each"
    counts = {name: index for index, name in enumerate(names)}
    assert counts_text(counts).startswith("12 classes; the largest are a rather long name 11: 11")
    assert len(counts_text(dict.fromkeys(names[:6], 1)).split(", ")) == 6
    text = counts_text({f"c{number}": number for number in range(1_000)})
    assert text == (
        "1,000 classes; the largest are c999: 999, c998: 998, c997: 997, the smallest c2: 2, c1: "
        "1, c0: 0"
    )
