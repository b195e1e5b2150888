from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from celltune.data_prep.config import DataConfig
from celltune.data_prep.dataset.tensorized import PreparedData, TensorizedSplit
from celltune.data_prep.errors import DataError
from celltune.data_prep.preparation.builder import require_tokens
from celltune.data_prep.preparation.pipeline import fingerprint, prepare, survey
from celltune.data_prep.sources.base import Document
from celltune.data_prep.sources.synthetic import SyntheticSource
from celltune.data_prep.text.tokenizers import open_tokenizer

WriteCsv = Callable[..., Path]


@pytest.fixture
def opened(tmp_path: Path) -> Any:
    def open_it(**fields: Any) -> PreparedData:
        return prepare(DataConfig(**fields), cache_dir=tmp_path / "cache")

    return open_it


def words(data: PreparedData, part: TensorizedSplit) -> list[str]:
    bounds = zip(part.offsets[:-1], part.offsets[1:], strict=True)
    return [" ".join(data.words[index] for index in part.ids[a:b]) for a, b in bounds]


def test_reviews_come_out_as_they_went_in(
    write_csv: WriteCsv, reviews: list[tuple[str, int]], opened: Any
) -> None:
    path = write_csv(reviews * 2)
    data = opened(source="csv", path=path, train_size=10, valid_size=2)
    assert (len(data.train), len(data.valid)) == (10, 2)
    assert data.classes == ("0", "1")
    assert (data.num_classes, data.vocabulary_size) == (2, len(data.words))
    expected = {(" ".join(text.replace('"', "").split()), label) for text, label in reviews}
    found = set(zip(words(data, data.train), data.train.labels.tolist(), strict=True))
    plain = {pair for pair in expected if not set(pair[0]) & set(":!.I")}
    assert plain <= found


def test_the_vocabulary_knows_the_training_part_only(write_csv: WriteCsv, opened: Any) -> None:
    path = write_csv([(f"only{i} shared", i % 2) for i in range(40)])
    data = opened(source="csv", path=path, valid_size=10)
    assert len(data.words) == 2 + 1 + 30
    assert words(data, data.valid) == ["<unk> shared"] * 10
    assert data.info["valid"]["unknown_share"] == 0.5


def test_a_second_preparation_opens_the_cache(opened: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    first = opened(source="synthetic", reviews=60)
    monkeypatch.setattr(SyntheticSource, "documents", lambda *_: pytest.fail("read again"))
    second = opened(source="synthetic", reviews=60)
    assert first.fingerprint == second.fingerprint
    assert (first.train.ids == second.train.ids).all()


def test_progress_is_told_to_the_last_review(tmp_path: Path) -> None:
    told: list[tuple[str, int, int | None]] = []
    config = DataConfig(source="synthetic", reviews=700, valid_size=100, train_size=500)
    for _ in range(2):
        prepare(config, cache_dir=tmp_path, progress=lambda *event: told.append(event))
    assert told == [
        ("read", 500, None),
        ("read", 700, None),
        ("tokenize", 600, 600),
    ]


def test_the_environment_names_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CELLTUNE_CACHE", str(tmp_path / "named"))
    data = prepare(DataConfig(source="synthetic", reviews=20))
    assert (tmp_path / "named" / data.fingerprint / "manifest.json").exists()


def test_the_fingerprint_follows_all_that_shapes_the_data_but_not_the_path() -> None:
    base = {"source": "csv", "path": "a.csv"}
    name = fingerprint(DataConfig(**base), "digest")
    assert fingerprint(DataConfig(source="csv", path="b.csv"), "digest") == name
    assert fingerprint(DataConfig(**base), "other") != name
    changes: list[dict[str, Any]] = [
        {"text_column": "t"},
        {"label_column": "l"},
        {"classes": ["0", "1"]},
        {"train_size": 9},
        {"valid_size": 0.3},
        {"seed": 2},
        {"vocabulary_size": 9},
        {"min_count": 2},
        {"max_tokens": 9},
        {"keep": "tail"},
    ]
    names = {fingerprint(DataConfig(**base, **change), "digest") for change in changes}
    assert len(names | {name}) == len(changes) + 1


@pytest.mark.parametrize(
    ("rows", "size", "message"),
    [
        ([("fine", 1), ("good", 1)], 1, "none of the 2 .* has the class '0', all are of '1'"),
        (
            [("fine", 1), ('"";:', 0)] * 3,
            2,
            "row .: the review is empty, it holds nothing",
        ),
        ([("fine", 1), ("bad", 0)], 5, "there are 2 reviews, but data.valid_size takes 5"),
    ],
)
def test_rows_that_cannot_be_learnt_from_are_refused(
    write_csv: WriteCsv, opened: Any, rows: list[tuple[str, int]], size: int, message: str
) -> None:
    path = write_csv(rows)
    with pytest.raises(DataError, match=message):
        opened(source="csv", path=path, valid_size=size)
    with pytest.raises(DataError, match=message):
        survey(DataConfig(source="csv", path=path, valid_size=size))


PIECES = [
    "<br />",
    "<BR />",
    '<br" />',
    "<b",
    "r />",
    '"',
    ";",
    ":",
    " ",
    ".",
    "don",
    "a",
    "é",
    "br",
]


@pytest.mark.parametrize("name", ["basic_english", "whitespace"])
@given(text=st.lists(st.sampled_from(PIECES)).map("".join) | st.text())
def test_a_survey_finds_the_reviews_without_a_token(name: str, text: str) -> None:
    config = DataConfig(source="synthetic", tokenizer=name)  # type: ignore[arg-type]
    row = Document("row 1", text, 0, None)
    if open_tokenizer(name)(text):
        require_tokens([row], config)
    else:
        with pytest.raises(DataError, match=f"row 1: the review is empty, .* that {name} calls"):
            require_tokens([row], config)


def test_max_tokens_cuts_every_review(opened: Any) -> None:
    data = opened(source="synthetic", reviews=200, max_tokens=7)
    assert data.train.lengths.max() == data.info["train"]["longest"] == 7
    assert data.train.lengths.min() >= 5
    assert data.info["train"]["cut_reviews"] > 50
    assert data.train.tokens == data.train.lengths.sum() == len(data.train.ids)
    assert data.nbytes == data.train.nbytes + data.valid.nbytes


def test_imdb_prepares_the_same_from_folder_and_archive(
    imdb_folder: Path, imdb_archive: Path, opened: Any
) -> None:
    one = opened(source="imdb", path=imdb_folder, valid_size=2)
    other = opened(source="imdb", path=imdb_archive, valid_size=2)
    assert one.words == other.words
    assert np.array_equal(one.train.ids, other.train.ids)


def test_preparing_needs_neither_ray_nor_torch() -> None:
    code = (
        "import celltune.data_prep.preparation.pipeline, sys; "
        "print({'ray', 'torch', 'torchtext'} & set(sys.modules))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "set()"
