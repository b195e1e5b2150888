from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from celltune.data_prep.errors import DataError
from celltune.data_prep.io.contents import BYTES_PER_DOCUMENT, content_limit
from celltune.search.interactive.data_frames import frames_named, stored_frame


def frame(**columns: Any) -> pd.DataFrame:
    return pd.DataFrame({"text": ["good", "bad"], "label": ["pos", "neg"], **columns})


def stored(given: pd.DataFrame, columns: list[str] | None, cache: Path) -> dict[str, list[Any]]:
    path = stored_frame("data", given, columns, cache)
    assert path.is_absolute()
    content: dict[str, list[Any]] = parquet.read_table(path).to_pydict()
    return content


def test_the_named_columns_are_stored_as_text(tmp_path: Path) -> None:
    given = frame(stars=[5, 1], other=[[1], [2]])
    assert stored(given, ["text", "stars"], tmp_path) == {
        "text": ["good", "bad"],
        "stars": ["5", "1"],
    }


def test_the_same_frame_is_stored_once(tmp_path: Path) -> None:
    first = stored_frame("data", frame(), ["text", "label"], tmp_path)
    modified = first.stat().st_mtime_ns
    again = stored_frame("data", frame(more=[1, 2]), ["text", "label"], tmp_path)
    assert (again, again.stat().st_mtime_ns) == (first, modified)
    assert stored_frame("data", frame()[::-1], ["text", "label"], tmp_path) != first
    assert len(list(first.parent.iterdir())) == 2


@pytest.mark.parametrize(
    ("values", "texts"),
    [
        ([True, False], ["True", "False"]),
        ([1.0, 0.5], ["1", "0.5"]),
        (pd.Categorical(["b", "a"]), ["b", "a"]),
        (pd.array([1, 2], dtype="Int64"), ["1", "2"]),
        (np.array([3, 4], np.uint8), ["3", "4"]),
        (pd.array(["x", "y"], dtype="string"), ["x", "y"]),
        ([1, "a"], ["1", "a"]),
    ],
)
def test_labels_of_any_plain_type_become_text(
    values: Any, texts: list[str], tmp_path: Path
) -> None:
    assert stored(frame(kind=values), ["text", "kind"], tmp_path)["kind"] == texts


def test_the_shortest_texts_stay_within_the_limits_of_their_reader(tmp_path: Path) -> None:
    rows, factor = 20_000, 1_000
    given = pd.DataFrame({"text": ["a"] * rows, "label": ["b"] * rows})
    path = stored_frame("data", given, ["text", "label"], tmp_path)
    many = content_limit(path.stat().st_size * factor, None) // BYTES_PER_DOCUMENT
    assert many > rows * factor


def test_without_names_every_plain_column_is_stored(tmp_path: Path) -> None:
    given = frame(
        day=pd.to_datetime(["2020-01-01", "2020-01-02"]), size=[1.5, None], lists=[[], []]
    )
    assert stored(given, None, tmp_path) == {
        "text": ["good", "bad"],
        "label": ["pos", "neg"],
        "size": ["1.5", None],
    }


@pytest.mark.parametrize(
    ("given", "columns", "message"),
    [
        (
            frame(),
            ["texts", "label"],
            "`data` has no column 'texts'. Did you mean 'text'? Its columns are: text, label.",
        ),
        (
            pd.concat([frame(), frame()[["text"]]], axis=1),
            ["text", "label"],
            "`data` has 2 columns 'text'. Rename all but one.",
        ),
        (
            frame().set_index(pd.Index(["a", "b"])).assign(text=["good", None]),
            ["text", "label"],
            "The column 'text' of `data` has no value in 1 row (index b). Remove them: "
            "data.dropna(subset=['text']).",
        ),
        (
            pd.DataFrame({"text": ["a"] * 6, "label": [None] * 5 + ["x"]}),
            ["text", "label"],
            "The column 'label' of `data` has no value in 5 rows (index 0, 1, 2 and 2 more). "
            "Remove them: data.dropna(subset=['label']).",
        ),
        (
            frame(label=[["pos"], "neg"]),
            ["text", "label"],
            "The column 'label' of `data` contains values of type list and str. They must be "
            "text, whole numbers or truth values.",
        ),
        (
            frame(text=["good", "\ud800"]),
            ["text", "label"],
            "The column 'text' of `data` contains text that is not Unicode: a lone surrogate "
            "(index 1). Correct the encoding with which the frame was read.",
        ),
        (
            frame()[:0],
            ["text", "label"],
            "`data` has no rows. Give a DataFrame of labelled texts.",
        ),
    ],
)
def test_a_frame_without_texts_or_labels_is_rejected(
    given: pd.DataFrame, columns: list[str], message: str, tmp_path: Path
) -> None:
    with pytest.raises(DataError) as raised:
        stored_frame("data", given, columns, tmp_path)
    assert str(raised.value) == message
    assert list(tmp_path.iterdir()) == []


def test_errors_name_the_frame_instead_of_its_file(tmp_path: Path) -> None:
    path = stored_frame("data", frame(), None, tmp_path)
    with (
        pytest.raises(DataError, match=r"^The DataFrame has 2 problems:\n  row 1 of r\.parquet$"),
        frames_named(tmp_path),
    ):
        raise DataError(f"{path} has 2 problems:", "row 1 of r.parquet")


def test_a_cache_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "frames").write_text("")
    with pytest.raises(DataError, match=r"The cache .* cannot be written"):
        stored_frame("data", frame(), ["text", "label"], tmp_path)


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


@settings(max_examples=30)
@given(rows=st.lists(st.tuples(TEXT, TEXT), min_size=1, max_size=5))
def test_any_text_is_stored_exactly(
    rows: list[tuple[str, str]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    given = pd.DataFrame(rows, columns=["text", "label"], dtype=object)
    content = stored(given, ["text", "label"], tmp_path_factory.getbasetemp() / "exact")
    assert list(zip(content["text"], content["label"], strict=True)) == rows
