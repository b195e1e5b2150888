from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from celltune.data_prep.config import DataConfig
from celltune.data_prep.errors import DataError
from celltune.data_prep.inference import labels as reading
from celltune.data_prep.inference.infer import Inferred, infer
from celltune.data_prep.preparation.pipeline import fingerprint, prepare
from celltune.data_prep.preparation.survey import survey

WriteCsv = Callable[..., Path]
Rows = list[tuple[str, object]]


def rows_of(*labels: object, start: int = 0) -> Rows:
    return [(f"text {number}", label) for number, label in enumerate(labels, start=start)]


@pytest.fixture
def inferred(write_csv: WriteCsv) -> Callable[..., Inferred]:
    def run(rows: Rows, others: dict[str, Rows] | None = None, **fields: Any) -> Inferred:
        paths: dict[str, Any] = {"path": write_csv(rows)}
        for key, content in (others or {}).items():
            paths[key] = write_csv(content, name=f"{key}.csv")
        return infer(DataConfig(**{"source": "csv", **paths, **fields}))

    return run


@pytest.mark.parametrize(
    ("label", "place"), [(b"fr\xff", "byte 0xff at character 3"), (b"\\ud800", "U\\+D800 at char")]
)
@pytest.mark.parametrize("classes", [None, ("a", "b")])
def test_labels_that_no_config_can_contain_are_reported(
    tmp_path: Path, label: bytes, place: str, classes: tuple[str, str] | None
) -> None:
    path = tmp_path / "r.jsonl"
    rows = [
        b'{"text": "sch\xc3\xb6n %d", "label": "%b"}' % (n, (b"a", b"b")[n % 2]) for n in range(20)
    ]
    path.write_bytes(b"\n".join([*rows, b'{"text": "fine", "label": "%b"}' % label]))
    with pytest.raises(DataError, match=rf"row 21 .*{place}.* of the label is not valid UTF-8"):
        infer(DataConfig(path=path, classes=classes))


def test_classes_are_inferred_in_order_and_counted(inferred: Callable[..., Inferred]) -> None:
    result = inferred(rows_of(*["pos", "neg", "pos"] * 50), valid_size=100)
    assert result.config.classes == ("neg", "pos")
    assert result.notes[-1] == ("classes", ("neg", "pos"), "in their usual order")
    assert result.counts == {"train": {"neg": 50, "pos": 100}}
    assert result.lines() == [
        f"Inferred from {result.config.path} (set a key of data to override it):",
        "  text_column   text  (its name)",
        "  label_column  label  (its name)",
        "  classes       neg: 50, pos: 100  (in their usual order)",
    ]
    assert prepare(result.config).classes == ("neg", "pos")


def test_labels_0_and_1_keep_the_fingerprint_of_earlier_releases(
    inferred: Callable[..., Inferred],
) -> None:
    result = inferred(rows_of(*["1.0", " 1", "0", "1"] * 50))
    assert result.config.classes is None
    assert result.notes[-1] == ("classes", ("0", "1"), "in numeric order; 1.0 is 1")
    assert result.counts["train"] == {"0": 50, "1": 150}
    before = DataConfig(source="csv", path=result.config.path)
    assert fingerprint(result.config, "digest") == fingerprint(before, "digest")


def test_explicit_values_are_never_changed(inferred: Callable[..., Inferred]) -> None:
    given = {"classes": ("pos", "neg"), "missing": "keep", "min_per_class": 0}
    given |= {"text_column": "text", "label_column": "label"}
    given |= {"delimiter": ",", "quoting": True, "header": True, "encoding": "utf-8"}
    result = inferred(rows_of(*["neg", "pos"] * 250), **given)
    assert {key: getattr(result.config, key) for key in given} == given
    assert (result.notes, result.warnings, result.lines()) == ((), (), [])


def test_other_sources_are_left_as_they_are() -> None:
    config = DataConfig(source="synthetic")
    assert infer(config) == Inferred(config)


def test_missing_values_are_errors_unless_told_otherwise(
    inferred: Callable[..., Inferred],
) -> None:
    rows = [*rows_of(*["a", "b"] * 250), ("nan", "a"), ("fine", "null"), ("", "only here")]
    with pytest.raises(DataError, match=r"has 3 problems:"):
        inferred(rows)
    result = inferred(rows, missing="drop")
    assert result.counts == {"train": {"a": 250, "b": 250}}
    assert result.warnings == (
        "3 rows of the training file without a label or a text with tokens are left out.",
    )


def test_texts_without_tokens_are_found_before_a_search_or_left_out(
    inferred: Callable[..., Inferred],
) -> None:
    rows = [('"', "a"), *rows_of(*["a", "b"] * 250), ('";', "b")]
    message = r"2 texts have no tokens .*: row 1 '\"', row 502 .* `data\.missing: drop` to leave"
    with pytest.raises(DataError, match=message):
        inferred(rows)
    with pytest.raises(DataError, match=r"row 501: the text .* has no tokens .* Remove it, or use"):
        inferred(rows[1:])
    with pytest.raises(DataError, match=r"none of the 500 documents is of class 'only here'\."):
        inferred([*rows, ('"', "only here")], missing="drop")
    result = inferred(rows, missing="drop")
    assert result.counts == {"train": {"a": 250, "b": 250}}
    assert result.warnings[0].startswith("2 rows of the training file without a label")
    data = prepare(result.config)
    assert len(data.train) + len(data.valid) == 500
    assert survey(result.config).counts["train"].sum() == len(data.train)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (
            ["x"] * 9,
            r"column 'label': every document \(9 in all\) has the label 'x'\. A classifier",
        ),
        (list(range(50)), r"50 documents have 50 different labels, too many for classes\. Set"),
        (["a", "A", "b"] * 9, r"some labels look like one class.*\n.*'a' \(9 .* and 'A' \(9"),
        (["1", "True", "0"] * 9, r"'1' \(9 documents\) and 'True' \(9 documents\)"),
    ],
)
def test_labels_that_are_no_classes_are_rejected(
    inferred: Callable[..., Inferred], labels: list[object], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        inferred(rows_of(*labels))


@pytest.mark.parametrize("key", ["test_path", "valid_path"])
def test_labels_of_other_files_are_checked(inferred: Callable[..., Inferred], key: str) -> None:
    train = rows_of(*["a", "b"] * 60)
    result = inferred(train, {key: rows_of("b", "a", start=500)})
    assert result.counts[key[:-5]] == {"a": 1, "b": 1}  # type: ignore[index]
    with pytest.raises(DataError, match=rf"{key}\.csv, row 2 .* is 'c'.* training documents have"):
        inferred(train, {key: rows_of("a", "c")})
    with pytest.raises(DataError, match=r"  2 labels are empty: row 1 \(line 2\), row 2"):
        inferred(train, {key: rows_of("", "")})


def test_problems_of_two_files_are_reported_together(inferred: Callable[..., Inferred]) -> None:
    others = {"valid_path": rows_of("c"), "test_path": rows_of("", "", "d")}
    with pytest.raises(DataError) as error:
        inferred(rows_of(*["a", "b"] * 60), others)
    lines = error.value.lines
    assert lines[0] == "The files of two splits have problems:"
    assert "valid_path.csv, row 1 (line 2): the label in column 'label' is 'c'" in lines[1]
    assert lines[2].endswith("test_path.csv has 3 problems:")
    assert len(lines) == 5


def test_classes_that_a_split_lacks_are_reported(inferred: Callable[..., Inferred]) -> None:
    labels = [*["a", "b"] * 1000, "rare", "rare", "single"]
    test = {"test_path": rows_of("a", "b", "rare")}
    result = inferred(rows_of(*labels), test, valid_size=100)
    assert result.config.min_per_class == 1
    assert result.notes[-1][:2] == ("min_per_class", 1)
    assert result.notes[-1].reason == (
        "the validation split would otherwise contain no document of 'rare' (2 in all)"
    )
    assert [warning.split(". ")[0] for warning in result.warnings] == [
        "The validation split contains no document of 'single' (1 in all)",
        "The test split contains no document of 'single' (1 in all)",
        "Classes have fewer than 10 documents in a split: 'rare' (2 in all) in validation",
    ]
    data = prepare(result.config)
    assert set(data.train.labels) == {0, 1, 2, 3}
    assert set(data.valid.labels) == {0, 1, 2}


def test_few_documents_of_a_class_are_reported_once(inferred: Callable[..., Inferred]) -> None:
    rows = rows_of(*["a"] * 1000, *["b"] * 50)
    (warning,) = inferred(rows, valid_size=0.2, test_size=0.1).warnings
    assert ": 'b' (50 in all) in test. Each document changes the recall" in warning
    (warning,) = inferred(rows[:1040], valid_size=0.1, test_size=0.1).warnings
    assert ": 'b' (40 in all) in validation; 'b' (40 in all) in test. Each" in warning
    assert (
        inferred(rows_of(*["a"] * 1000, *["b"] * 110), valid_size=0.2, test_size=0.1).warnings == ()
    )


def test_validation_is_preferred_if_a_class_is_too_rare_for_all_splits(
    inferred: Callable[..., Inferred],
) -> None:
    rows = rows_of(*["a"] * 2014, *["b"] * 1983, "rare", "rare", "single")
    result = inferred(rows, valid_size=0.2, test_size=0.1)
    assert result.config.min_per_class == 1
    data = prepare(result.config)
    assert set(data.train.labels) == {0, 1, 2, 3}
    assert set(data.valid.labels) == {0, 1, 2}
    assert result.warnings == tuple(
        f"The {split} split contains no document of {names}. No metric of this split shows how "
        f"well {subject} recognized."
        for split, names, subject in (
            ("validation", "'single' (1 in all)", "it is"),
            ("test", "'single' (1 in all), 'rare' (2 in all)", "they are"),
        )
    )


def test_a_class_of_one_document_is_in_the_training_split(
    inferred: Callable[..., Inferred],
) -> None:
    rows = rows_of(*["a"] * 50, "single")
    with pytest.raises(DataError, match=r"contain none of class 'single', which has 1 of 51"):
        inferred(rows, valid_size=40, min_per_class=0)
    result = inferred(rows, valid_size=40)
    assert result.notes[-1].reason == (
        "the training split would otherwise contain no document of a rare class"
    )
    assert 1 in prepare(result.config).train.labels


def test_split_without_rare_classes_stays_as_it_is(inferred: Callable[..., Inferred]) -> None:
    assert inferred(rows_of(*["a", "b", "c"] * 100)).config.min_per_class is None


def test_documents_that_cannot_be_split_are_rejected(inferred: Callable[..., Inferred]) -> None:
    with pytest.raises(DataError, match=r"There are 8 documents, but data\.valid_size takes 9"):
        inferred(rows_of(*["a", "b"] * 4), valid_size=9)


def test_groups_may_prevent_that_a_rare_class_is_everywhere(
    write_csv: WriteCsv,
) -> None:
    rows = [(f"t{n}", "ab"[n % 2], n // 4) for n in range(400)]
    rows += [("r", "rare", 1000)]
    path = write_csv([*rows, ("s", "rare", 1000)], ["text", "label", "film"])
    result = infer(DataConfig(source="csv", path=path, group_column="film"))
    assert result.config.min_per_class is None
    assert result.warnings[0].startswith("The validation split contains no document of 'rare' (2")
    message = r"would contain none of class 'rare', which has 3 of 403"
    path = write_csv([*rows, *rows[-1:] * 2], ["text", "label", "film"])
    with pytest.raises(DataError, match=message):
        infer(DataConfig(source="csv", path=path, group_column="film"))


def test_small_validation_split_is_reported_with_its_uncertainty(
    inferred: Callable[..., Inferred],
) -> None:
    (warning,) = inferred(rows_of(*["a", "b"] * 20)).warnings
    assert warning.startswith(
        "The validation split has 8 documents: its accuracies are uncertain by up to ±35 percentage"
    )
    (warning,) = inferred(rows_of(*["a", "b"] * 99), {"valid_path": rows_of("a", "b")}).warnings
    assert "Set data.valid_path to a larger file" in warning


def test_a_thousand_classes_take_three_lines(inferred: Callable[..., Inferred]) -> None:
    result = inferred(rows_of(*[f"class {n % 1000}" for n in range(6000)]))
    assert len(result.lines()) <= 3 + 2
    assert all(len(line) < 300 for line in result.lines())
    assert (survey(result.config).counts["valid"] > 0).all()


def test_progress_counts_the_documents_of_all_files(
    inferred: Callable[..., Inferred], write_csv: WriteCsv, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "REPORTED_ROWS", 50)
    calls: list[tuple[str, int, int | None]] = []
    path = write_csv(rows_of(*["a", "b"] * 60))
    config = DataConfig(source="csv", path=path, test_path=path)
    infer(config, progress=lambda *event: calls.append(event))
    assert calls == [("labels", done, None) for done in (50, 100, 150, 200)]
