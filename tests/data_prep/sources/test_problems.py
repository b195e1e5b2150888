"""All problems of a table in one error, and rows without a text or label."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from celltune.data_prep.config import DataConfig
from celltune.data_prep.errors import DataError
from celltune.data_prep.preparation.pipeline import fingerprint, prepare, prepare_test
from celltune.data_prep.preparation.survey import survey
from celltune.data_prep.sources.base import Document, Split
from celltune.data_prep.sources.factory import open_source
from celltune.data_prep.sources.problems import Kind, Problems

WriteCsv = Callable[..., Path]
KIND = Kind("texts are odd", "the text is {value}.", "Correct it.")


def read(path: Path, /, **fields: Any) -> list[Document]:
    config = DataConfig(**{"source": path.suffix[1:], "path": path, **fields})
    return list(open_source(config, cache_dir=path.parent).documents())


def test_problems_are_counted_by_kind_with_their_first_places(write_csv: WriteCsv) -> None:
    rows = [("☀ fine", 1), ("", 0), ("a", ""), (" ", 0), ("b", "☂"), ("", 0), ("", 0), ("c", 2)]
    path = write_csv(rows)
    with pytest.raises(DataError) as error:
        read(path)
    assert error.value.lines == [
        f"{path} has 7 problems:",
        "  4 texts are empty: row 2 (line 3), row 4 (line 5), row 6 (line 7) and 1 more. Remove "
        "the row or add a text, or use `data.missing: drop` to leave such rows out.",
        "  row 3 (line 4): the label in column 'label' is empty. Remove the row or add a label, or "
        "use `data.missing: drop` to leave such rows out.",
        "  2 labels are no classes: row 5 (line 6) '☂', row 8 (line 9) '2'. Correct the labels, or "
        "set data.classes to the labels of the column, in class order: "
        "`data.classes: ['0', '1', '2', '☂']`.",
    ]


def test_rows_that_cannot_be_read_are_problems_with_their_numbers(write_csv: WriteCsv) -> None:
    path = write_csv([("", 0), ("a", 1, "more"), ("b", 0), (1, 2, 3), ("few",), ("", 1)])
    with pytest.raises(DataError) as error:
        read(path)
    lines = error.value.lines
    assert lines[0] == f"{path} has 5 problems:"
    assert lines[1].startswith("  2 texts are empty: row 1 (line 2), row 6 (line 7). Remove")
    assert lines[2].startswith("  2 rows with too many cells: row 2 (line 3), row 4 (line 5). ")
    assert lines[3].startswith("  row 5 (line 6): the row has too few cells: 1, but the header")
    assert len(lines) == 4


def test_error_of_the_whole_file_is_the_last_problem(tmp_path: Path) -> None:
    (path := tmp_path / "r.csv").write_text('text,label\n,1\na,1\n"b,1\n')
    with pytest.raises(DataError) as error:
        read(path)
    assert error.value.lines[0] == f"{path} has 2 problems:"
    assert "this is not valid CSV" in error.value.lines[2]


def test_rows_of_several_files_are_numbered_on(write_csv: WriteCsv) -> None:
    first = write_csv([(1, "a", 1), (2, "", 0)], ["id", "text", "label"])
    second = write_csv([(2, "c", 1), (1, "d", 0)], ["id", "text", "label"], name="s.csv")
    config = {"missing": "drop", "source": "csv"}
    documents = read(first, **config, path=[first, second])
    assert [document.id for document in documents] == ["row 1", "row 3", "row 4"]
    with pytest.raises(DataError, match=r"s\.csv, row 2 .* the id '1' .* occurs in an earlier row"):
        read(first, **config, id_column="id", path=[first, second])


def test_memory_does_not_grow_with_the_number_of_problems() -> None:
    problems = Problems(Path("r.csv"))

    def add(count: int) -> int:
        tracemalloc.start()
        for row in range(count):
            problems.add(KIND, row, f" (line {row})", f"'{row}'")
        size = tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()
        return size

    add(10)
    assert add(10_000) < 10_000
    with (
        pytest.raises(DataError, match=r"has 10,010 problems:\n  10,010 .* and 10,007 more\. C"),
        problems.collected(),
    ):
        pass


WORDS = ["nan", " NaN ", "null", "NULL", "<NA>", "", "  "]


@pytest.mark.parametrize("word", WORDS)
@pytest.mark.parametrize("column", ["text", "label"])
def test_missing_cells_are_reported_or_dropped(write_csv: WriteCsv, word: str, column: str) -> None:
    row = (word, "1") if column == "text" else ("a text", word)
    path = write_csv([("fine", 1), row, ("bad", 0), ("None", "0")])
    kept = [(1, "fine"), (0, "bad"), (0, "None")]
    documents = read(path, missing="drop")
    assert [(each.label, each.text) for each in documents] == kept
    assert [each.id for each in documents] == ["row 1", "row 3", "row 4"]
    expected = (
        f"row 2 .* the {column} .* is '.*', which stands for a missing value.*`data.missing: keep`"
    )
    with pytest.raises(DataError, match=expected if word.strip() else f"the {column} .* is empty"):
        read(path, missing="error")


def test_missing_values_of_typed_formats(tmp_path: Path) -> None:
    (lines := tmp_path / "r.jsonl").write_text(
        "".join(json.dumps({"text": t, "label": 1}) + "\n" for t in (None, float("nan"), "fine"))
    )
    columns = {"text": pa.array(["fine", None]), "label": pa.array([1.0, float("nan")])}
    pq.write_table(pa.table(columns), table := tmp_path / "r.parquet")
    for path in (lines, table):
        assert [each.text for each in read(path, missing="drop")] == ["fine"]
        with pytest.raises(DataError, match=r"has [23] problems:"):
            read(path, missing="error")


def test_words_are_texts_and_classes_unless_they_are_missing(write_csv: WriteCsv) -> None:
    path = write_csv([("nan", "null"), ("fine", "other")])
    for missing in ("keep", None):
        documents = read(path, classes=["null", "other"], missing=missing)
        assert [(each.text, each.label) for each in documents] == [("nan", 0), ("fine", 1)]
    path = write_csv([("good", "null"), ("fine", "other")])
    assert len(read(path, classes=["null", "other"], missing="error")) == 2


def test_file_without_any_complete_row_is_rejected(write_csv: WriteCsv) -> None:
    with pytest.raises(DataError, match=r"none of the 2 rows has a text and a label\. Check"):
        read(write_csv([("", 1), ("fine", "nan")]), missing="drop")


def test_number_of_dropped_rows_is_known(write_csv: WriteCsv, tmp_path: Path) -> None:
    config = DataConfig(source="csv", path=write_csv([("", 1), ("fine", 1)]), missing="drop")
    source = open_source(config, cache_dir=tmp_path)
    assert len(list(source.documents())) == 1
    assert source.dropped == {"train": 1}  # type: ignore[attr-defined]


@pytest.mark.parametrize("label", ["1", " 1", "1.0", "1.", "1.00 ", "+1"])
def test_spellings_of_a_number_are_one_class(write_csv: WriteCsv, label: str) -> None:
    path = write_csv([("fine", label), ("bad", "0.0")])
    if label == "+1":
        with pytest.raises(DataError, match=r"is '\+1'\. Allowed are '0', '1'"):
            read(path)
        return
    assert [each.label for each in read(path)] == [1, 0]


def test_classes_that_are_named_are_kept_apart(write_csv: WriteCsv) -> None:
    path = write_csv([("a", "1.0"), ("b", "1")])
    assert [each.label for each in read(path, classes=["1", "1.0"])] == [1, 0]
    with pytest.raises(DataError, match=r"is '1\.00'"):
        read(write_csv([("a", "1.00")]), classes=["1", "1.0"])


def test_many_classes_are_not_all_listed(write_csv: WriteCsv) -> None:
    names = [f"c{number}" for number in range(1000)]
    with pytest.raises(DataError, match=r"Allowed are .*'c19' and 980 others\. Correct") as error:
        read(write_csv([("a", "x")]), classes=names)
    assert len(str(error.value)) < 600


def files(tmp_path: Path, write_csv: WriteCsv) -> dict[str, Path]:
    rows = [(f"word{i} film", i % 2) for i in range(20)]
    return {
        "path": write_csv(rows),
        "valid_path": write_csv([("a film", 1), ("one film", 0), ("new", 1)], name="v.csv"),
    }


def test_validation_split_can_be_a_file(tmp_path: Path, write_csv: WriteCsv) -> None:
    config = DataConfig(source="csv", **files(tmp_path, write_csv), test_size=5)  # type: ignore[arg-type]
    data = prepare(config, cache_dir=tmp_path)
    assert (len(data.train), len(data.valid)) == (15, 3)
    assert data.valid.labels.tolist() == [1, 0, 1]
    assert len(prepare_test(config, cache_dir=tmp_path).split) == 5
    counts = {split: each.tolist() for split, each in survey(config).counts.items()}
    assert counts == {"train": [8, 7], "valid": [1, 2], "test": [2, 3]}
    assert prepare(config, cache_dir=tmp_path).fingerprint == data.fingerprint


def test_fingerprint_tells_a_validation_file_from_a_test_file(
    tmp_path: Path, write_csv: WriteCsv
) -> None:
    paths = files(tmp_path, write_csv)
    own_valid = DataConfig(source="csv", duplicates="drop", **paths)  # type: ignore[arg-type]
    own_test = own_valid.model_copy(update={"test_path": paths["valid_path"], "valid_path": None})
    digests = [
        open_source(config, cache_dir=tmp_path).digest(splits)
        for config, splits in ((own_valid, _splits("valid")), (own_test, _splits("test")))
    ]
    assert digests[0] == digests[1]
    assert fingerprint(own_valid, digests[0]) != fingerprint(own_test, digests[1])


def _splits(other: Split) -> tuple[Split, ...]:
    return ("train", other)


def test_validation_file_and_size_exclude_each_other(tmp_path: Path) -> None:
    fields: dict[str, Any] = {"source": "csv", "path": tmp_path, "valid_path": tmp_path}
    with pytest.raises(ValueError, match=r"data\.valid_path and data\.valid_size both define"):
        DataConfig(**fields, valid_size=0.3)
    assert DataConfig(**fields, valid_size=0.2).valid_path == tmp_path


def test_configs_of_earlier_releases_state_columns_of_every_source() -> None:
    given = {"source": "imdb", "text_column": "text", "label_column": "label"}
    config = DataConfig(**given)  # type: ignore[arg-type]
    assert fingerprint(config, "digest") == fingerprint(DataConfig(source="imdb"), "digest")
    with pytest.raises(
        ValueError, match=r"data\.text_column is 'body', but the source 'imdb' does"
    ):
        DataConfig(**{**given, "text_column": "body"})  # type: ignore[arg-type]


def test_new_keys_change_fingerprints_only_if_they_change_data() -> None:
    base: dict[str, Any] = {"source": "csv", "path": "a.csv"}

    def of(**fields: Any) -> str:
        return fingerprint(DataConfig(**{**base, **fields}), "digest")

    unchanged = [{"text_column": "text"}, {"label_column": "label"}, {"min_per_class": 0}]
    unchanged += [{"missing": "error"}, {"missing": "keep"}]  # type: ignore[list-item]
    assert {of(**fields) for fields in unchanged} == {of()}
    changed = [{"missing": "drop"}, {"min_per_class": 1}, {"text_column": "body"}]
    assert len({of(**fields) for fields in changed} | {of()}) == 4
