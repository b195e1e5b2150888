from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from celltune.data_prep.config import DataConfig
from celltune.data_prep.errors import DataError
from celltune.data_prep.preparation.pipeline import prepare, prepare_test
from celltune.data_prep.preparation.splits import stratified_split
from celltune.data_prep.sources.base import Document
from celltune.data_prep.sources.factory import open_source
from celltune.data_prep.tables import separated

WriteCsv = Callable[..., Path]


@given(
    documents=st.lists(
        st.tuples(st.integers(0, 1), st.none() | st.integers(0, 30).map(str)),
        min_size=20,
        max_size=80,
    ),
    valid=st.integers(1, 6),
    test=st.integers(0, 6),
    train=st.none() | st.integers(1, 6),
    seed=st.integers(0, 5),
)
def test_no_group_is_in_two_splits(
    documents: list[tuple[int, str | None]], valid: int, test: int, train: int | None, seed: int
) -> None:
    labels = np.array([label for label, _ in documents], dtype=np.int64)
    groups = [group for _, group in documents]
    try:
        splits = stratified_split(labels, train, valid, seed, test_size=test, groups=groups)
    except DataError as error:
        assert "groups" in str(error) or "class" in str(error)  # noqa: PT017 (a split is also allowed)
        return
    found = [{groups[i] for i in split if groups[i] is not None} for split in splits]
    assert not found[0] & found[1] | found[0] & found[2] | found[1] & found[2]
    assert (len(splits.valid), len(splits.test)) == (valid, test)
    assert train is None or len(splits.train) == train
    assert len(set(np.concatenate(splits).tolist())) == sum(map(len, splits))
    again = stratified_split(labels, train, valid, seed, test_size=test, groups=groups)
    assert all((one == other).all() for one, other in zip(splits, again, strict=True))


def test_splits_of_groups_are_stratified() -> None:
    rng = np.random.default_rng(3)
    labels = rng.permutation(np.repeat([0, 1], [600, 400]))
    groups = [str(group) for group in rng.integers(0, 120, 1_000)]
    splits = stratified_split(labels, 300, 0.2, 1, groups=groups)
    assert abs(int((labels[splits.valid] == 1).sum()) - 80) <= 1
    assert abs(int((labels[splits.train] == 1).sum()) - 120) <= 6


def test_rejects_groups_that_are_too_large() -> None:
    labels = np.array([0, 1] * 10)
    with pytest.raises(DataError, match=r"0 documents .* 1 are needed. Reduce data.valid_size\.$"):
        stratified_split(labels, None, 4, 1, groups=["one"] * 20)
    with pytest.raises(DataError, match=r"too few are left for data.test_size\. Reduce data.valid"):
        stratified_split(labels, None, 4, 1, test_size=4, groups=["one"] * 20)


@given(st.integers(0, 9), st.integers(1, 20), st.integers(0, 20))
def test_test_split_does_not_depend_on_other_sizes(seed: int, test: int, valid: int) -> None:
    labels = np.repeat([0, 1], [50, 40])
    one = stratified_split(labels, None, 30, seed, test_size=test)
    other = stratified_split(labels, 20, valid + 1, seed, test_size=test)
    assert (one.test == other.test).all()
    assert len(one.test) == test


def grouped(path: Path, groups: Path, **fields: Any) -> list[Document]:
    config = DataConfig(source="imdb", path=path, groups=groups, **fields)
    return list(open_source(config, cache_dir=path).documents(["train", "test"]))


def test_groups_are_assigned_by_id(imdb_folder: Path, tmp_path: Path) -> None:
    source = open_source(DataConfig(source="imdb", path=imdb_folder), cache_dir=tmp_path)
    groups = tmp_path / "movies.csv"
    rows = [f"{document.id},m{i % 2}\n" for i, document in enumerate(source.documents())]
    groups.write_text("id,movie\n" + "".join(rows))
    documents = grouped(imdb_folder, groups)
    assert [each.group for each in documents[:6]] == ["m0", "m1"] * 3
    assert {each.group for each in documents[6:]} == {None}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", r"has 0 columns \(none\)\. data\.groups needs a CSV file"),
        ("id,a,b\n", "needs a CSV file with the column id and one other"),
        ("id,movie\nx\n", "row 1 has 1 cells instead of 2"),
        (
            "id,movie\nx,1\nx,2\n",
            "row 2 assigns the document 'x' to the group '2', an earlier row to '1'",
        ),
        ("id,movie\nx,1\n", "assigns no group to the document 'train/neg/1_1'"),
    ],
)
def test_rejects_invalid_file_of_groups(
    imdb_folder: Path, tmp_path: Path, content: str, message: str
) -> None:
    path = tmp_path / "movies.csv"
    path.write_text(content)
    with pytest.raises(DataError, match=message):
        grouped(imdb_folder, path)


def test_rejects_too_long_row_of_groups(
    imdb_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(separated, "MAX_DOCUMENT_BYTES", 12)
    path = tmp_path / "movies.csv"
    path.write_text('id,movie\n"' + "\nx" * 6 + '",m\n')
    with pytest.raises(DataError, match=r"movies\.csv, line 2: the row, .* is longer than"):
        grouped(imdb_folder, path)


def test_group_column_keeps_groups_together(write_csv: WriteCsv, tmp_path: Path) -> None:
    rows = [(f"word{i % 7} film{i // 2}", i % 2, f"film{i // 2}") for i in range(40)]
    path = write_csv(rows, ["text", "label", "film"])
    config = DataConfig(source="csv", path=path, group_column="film", valid_size=8, test_size=8)
    data = prepare(config, cache_dir=tmp_path / "cache")
    films = {word for word in data.words if word.startswith("film")}
    assert (len(data.train), len(data.valid)) == (24, 8)
    assert len(films) == 12
    film_ids = data.valid.ids.reshape(8, 2)[:, 1]
    assert (film_ids == 0).all()
    assert len(prepare_test(config, cache_dir=tmp_path / "cache").split) == 8
