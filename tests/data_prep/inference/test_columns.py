from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

import pytest

from celltune.data_prep.errors import DataError
from celltune.data_prep.inference.columns import Choice, FirstRows, choose_columns

LONG = [f"this is the text number {number}, and it goes on for a while" for number in range(40)]
TITLES = [f"a title, {number}" for number in range(40)]
BINARY = ["pos", "neg"] * 20
THREE = ["x", "y", "z", "x"] * 10
IDS = [str(number) for number in range(40)]


def choose(
    columns: dict[str, list[str]],
    text: str | None = None,
    label: str | None = None,
    others: Collection[str] = (),
    first: int | None = None,
) -> tuple[Choice | None, Choice | None]:
    rows = [list(row) for row in zip(*columns.values(), strict=True)]

    def all_rows(names: Sequence[str]) -> Iterator[tuple[str, ...]]:
        return zip(*(columns[name] for name in names), strict=True)

    table = FirstRows("r.csv", list(columns), rows[:first], all_rows)
    return choose_columns(table, text, label, others)


@pytest.mark.parametrize("text", ["text", "Review", "tweet", "review-text", " Body "])
@pytest.mark.parametrize("label", ["label", "Sentiment", "class", "TARGET"])
def test_names_decide(text: str, label: str) -> None:
    columns = {"id": IDS, label: BINARY, "author": THREE, text: LONG, "notes": LONG}
    chosen = choose(columns)
    reason = "its name; the texts of 'notes' are not used"
    assert chosen == (Choice(text, reason), Choice(label, "its name"))


def test_text_and_label_are_preferred_to_other_names() -> None:
    chosen = choose({"rating": THREE, "content": LONG, "text": LONG, "label": BINARY})
    assert [choice and choice.column for choice in chosen] == ["text", "label"]


def test_content_decides_if_no_name_does() -> None:
    chosen = choose({"number": IDS, "a": BINARY, "b": LONG})
    assert chosen[0] is not None
    assert chosen[0] == ("b", "long and varied, 54 characters on average")
    assert chosen[1] == ("a", "2 different values")
    assert choose({"1": BINARY, "2": LONG})[0] == chosen[0]._replace(column="2")


def test_of_two_columns_the_other_one_is_taken() -> None:
    short = [f"w{number}" for number in range(40)]
    assert choose({"word": short, "label": BINARY})[0] == ("word", "the only other column")
    classes = [str(number % 15) for number in range(40)]
    assert choose({"text": LONG, "code": classes})[1] == ("code", "the only other column")


def test_short_texts_are_recognized_beside_labels() -> None:
    words = [f"word{number}" for number in range(40)]
    reason = "varied; the only other column has few values"
    assert choose({"name": words, "country": THREE})[0] == ("name", reason)
    with pytest.raises(DataError, match="no column can be recognized"):
        choose({"id": IDS, "country": THREE})
    with pytest.raises(DataError, match="no column can be recognized"):
        choose({"name": words, "country": THREE, "other": THREE})


def test_empty_columns_without_a_name_are_ignored() -> None:
    empty = [""] * 40
    table = FirstRows(
        "spam.csv",
        ["v1", "v2", "", ""],
        [list(row) for row in zip(BINARY, LONG, empty, empty, strict=True)],
        lambda names: [[label] for label in BINARY] if list(names) == ["v1"] else [],
    )
    chosen = choose_columns(table, None, None)
    assert [choice and choice.column for choice in chosen] == ["v2", "v1"]


def test_known_columns_are_kept_and_others_left_out() -> None:
    assert choose({"text": LONG, "label": BINARY}, "label", "text") == (None, None)
    chosen = choose({"film": THREE, "kind": BINARY, "text": LONG}, "text", None, ["film"])
    assert chosen == (None, Choice("kind", "2 different values"))
    chosen = choose({"text": LONG, "body": LONG, "label": BINARY}, None, "text")
    assert chosen[0] == ("body", "its name")


@pytest.mark.parametrize(
    ("columns", "lines"),
    [
        (
            {"a b": LONG, "summary": LONG[::-1], "label": BINARY},
            [
                "r.csv: 2 columns can contain the texts. Set one of them:",
                f"  `data.text_column: 'a b'` - 40 different values, such as '{LONG[0][:39]}…', ",
            ],
        ),
        (
            {"text": LONG, "a": BINARY, "b": THREE},
            [
                "r.csv: 2 columns can contain the labels. Set one of them:",
                "  `data.label_column: a` - 2 different values, such as 'pos', 'neg'",
                "  `data.label_column: b` - 3 different values, such as 'x', 'y', 'z'",
            ],
        ),
        (
            {"text": LONG, "rating": THREE, "sentiment": BINARY},
            ["r.csv: 2 columns can contain the labels. Set one of them:"],
        ),
        (
            {"text": LONG, "a": IDS, "b": IDS},
            ["r.csv: no column can be recognized as the one that contains the labels. Set one"],
        ),
        (
            {"a": IDS, "b": BINARY, "c": THREE},
            ["r.csv: no column can be recognized as the one that contains the texts. Set one"],
        ),
    ],
)
def test_undecided_columns_are_named_with_the_line_to_paste(
    columns: dict[str, list[str]], lines: list[str]
) -> None:
    with pytest.raises(DataError) as error:
        choose(columns)
    for shown, expected in zip(error.value.lines, lines, strict=False):
        assert shown.startswith(expected)
    assert len(error.value.lines) >= len(lines)


def test_error_lists_ten_columns() -> None:
    with pytest.raises(DataError, match=r"and 23 other columns$"):
        choose({"text": LONG, **{f"c{number}": BINARY for number in range(33)}})


def test_missing_cells_do_not_count() -> None:
    sparse = [*BINARY[:8], *["", "nan"] * 16]
    assert choose({"text": LONG, "kind": sparse, "n": IDS})[1] == ("kind", "2 different values")


def test_all_rows_decide_which_column_has_the_labels() -> None:
    sorted_classes = ["a"] * 20 + ["b"] * 20
    columns = {"text": LONG, "x": sorted_classes, "v": BINARY, "z": ["1"] * 20 + IDS[:20]}
    with pytest.raises(DataError, match=r"2 columns can contain the labels") as error:
        choose(columns, first=10)
    assert error.value.lines[1].startswith("  `data.label_column: x` - 2 different values")
    del columns["v"]
    assert choose(columns, first=10)[1] == ("x", "2 different values")
    wide = {"text": LONG * 9, "n": [str(number) for number in range(360)], "m": IDS * 9}
    wide["n"][:20] = ["0"] * 20
    assert choose(wide, first=20)[1] == ("m", "40 different values")
    with pytest.raises(
        DataError, match=r"`data.label_column: 'n'` - more than 50 different values"
    ):
        choose({**wide, "m": ["1"] * 360}, first=20)
