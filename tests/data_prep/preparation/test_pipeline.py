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
from celltune.data_prep.preparation.pipeline import (
    fingerprint,
    prepare,
    read_documents,
    read_training_documents,
)
from celltune.data_prep.preparation.selection import require_tokens
from celltune.data_prep.preparation.survey import survey
from celltune.data_prep.sources.base import Document
from celltune.data_prep.sources.synthetic import SyntheticSource
from celltune.data_prep.text.tokenizers import open_tokenizer

WriteCsv = Callable[..., Path]


@pytest.fixture
def prepare_data(tmp_path: Path) -> Any:
    def prepare_config(**fields: Any) -> PreparedData:
        return prepare(DataConfig(**fields), cache_dir=tmp_path / "cache")

    return prepare_config


def texts_of(data: PreparedData, split: TensorizedSplit) -> list[str]:
    bounds = zip(split.offsets[:-1], split.offsets[1:], strict=True)
    return [" ".join(data.words[index] for index in split.ids[a:b]) for a, b in bounds]


def test_prepared_texts_equal_the_written_ones(
    write_csv: WriteCsv, reviews: list[tuple[str, int]], prepare_data: Any
) -> None:
    path = write_csv(reviews * 2)
    data = prepare_data(source="csv", path=path, train_size=10, valid_size=2)
    assert (len(data.train), len(data.valid)) == (10, 2)
    assert data.classes == ("0", "1")
    assert (data.num_classes, data.vocabulary_size) == (2, len(data.words))
    expected = {(" ".join(text.replace('"', "").split()), label) for text, label in reviews}
    prepared = set(zip(texts_of(data, data.train), data.train.labels.tolist(), strict=True))
    unpunctuated = {pair for pair in expected if not set(pair[0]) & set(":!.I")}
    assert unpunctuated <= prepared


def test_vocabulary_is_built_from_training_split(write_csv: WriteCsv, prepare_data: Any) -> None:
    path = write_csv([(f"only{i} shared", i % 2) for i in range(40)])
    data = prepare_data(source="csv", path=path, valid_size=10)
    assert len(data.words) == 2 + 1 + 30
    assert texts_of(data, data.valid) == ["<unk> shared"] * 10
    assert data.info["valid"]["unknown_share"] == 0.5


def test_second_preparation_opens_the_cache(
    prepare_data: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = prepare_data(source="synthetic", reviews=60)
    monkeypatch.setattr(SyntheticSource, "documents", lambda *_: pytest.fail("was read"))
    second = prepare_data(source="synthetic", reviews=60)
    assert first.fingerprint == second.fingerprint
    assert (first.train.ids == second.train.ids).all()


def test_progress_is_reported_to_the_last_document(tmp_path: Path) -> None:
    calls: list[tuple[str, int, int | None]] = []
    config = DataConfig(source="synthetic", reviews=700, valid_size=100, train_size=500)
    for _ in range(2):
        prepare(config, cache_dir=tmp_path, progress=lambda *event: calls.append(event))
    assert calls == [
        ("read", 0, None),
        ("read", 500, None),
        ("read", 700, None),
        ("tokenize", 600, 600),
    ]


def test_environment_variable_sets_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CELLTUNE_CACHE", str(tmp_path / "named"))
    data = prepare(DataConfig(source="synthetic", reviews=20))
    assert (tmp_path / "named" / data.fingerprint / "manifest.json").exists()


def test_fingerprint_depends_on_settings_and_content_but_not_on_path() -> None:
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
        (
            [("fine", 1), ("good", 1)],
            1,
            r"none of the 2 .* class '0'\. .* present are: '1'",
        ),
        (
            [("fine", 1), ('"";:', 0), ("bad", 0), ("good", 1)],
            2,
            r"row 2: the text .* has no tokens .* Remove it, or use `data\.missing: drop`",
        ),
        (
            [("fine", 1), ('"";:', 0)] * 5,
            2,
            r"5 texts have no tokens .*: row . '\"\";:', .* and 2 more\. Remove them, or use",
        ),
        ([("fine", 1), ("bad", 0)], 5, "There are 2 documents, but data.valid_size takes 5"),
    ],
)
def test_rejects_documents_that_cannot_be_trained_on(
    write_csv: WriteCsv, prepare_data: Any, rows: list[tuple[str, int]], size: int, message: str
) -> None:
    path = write_csv(rows)
    with pytest.raises(DataError, match=message):
        prepare_data(source="csv", path=path, valid_size=size)
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
def test_require_tokens_agrees_with_the_tokenizer(name: str, text: str) -> None:
    config = DataConfig(source="synthetic", tokenizer=name)  # type: ignore[arg-type]
    document = Document("row 1", text, 0, None)
    if open_tokenizer(name)(text):
        require_tokens([document], config)
    else:
        with pytest.raises(DataError, match=f"row 1: the text .* has no tokens for .*'{name}'"):
            require_tokens([document], config)


def test_max_tokens_truncates_every_document(prepare_data: Any) -> None:
    data = prepare_data(source="synthetic", reviews=200, max_tokens=7)
    assert data.train.lengths.max() == data.info["train"]["longest"] == 7
    assert data.train.lengths.min() >= 5
    assert data.info["train"]["cut_reviews"] > 50
    assert data.train.tokens == data.train.lengths.sum() == len(data.train.ids)
    assert data.nbytes == data.train.nbytes + data.valid.nbytes


def test_imdb_gives_equal_data_from_folder_and_archive(
    imdb_folder: Path, imdb_archive: Path, prepare_data: Any
) -> None:
    from_folder = prepare_data(source="imdb", path=imdb_folder, valid_size=2)
    from_archive = prepare_data(source="imdb", path=imdb_archive, valid_size=2)
    assert from_folder.words == from_archive.words
    assert np.array_equal(from_folder.train.ids, from_archive.train.ids)


def test_preparation_imports_neither_ray_nor_torch() -> None:
    code = (
        "import celltune.data_prep.preparation.pipeline, sys; "
        "print({'ray', 'torch', 'torchtext'} & set(sys.modules))"
    )
    process = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert process.stdout.strip() == "set()"


@pytest.mark.parametrize("duplicates", ["report", "drop"])
def test_training_documents_are_those_of_the_preparation_without_the_test_split(
    duplicates: str, write_csv: WriteCsv, tmp_path: Path
) -> None:
    rows = [(f"text {number} of many", number % 2) for number in range(40)]
    path, test_path = write_csv(rows), tmp_path / "test.csv"
    test_path.write_text("text,label\n" + "".join(f"{text},{label}\n" for text, label in rows[:4]))
    config = DataConfig(
        source="csv", path=path, test_path=test_path, valid_size=10, duplicates=duplicates
    )
    expected = read_documents(config)
    documents = read_training_documents(config)
    assert documents.train == expected.train
    assert documents.valid == expected.valid
    assert len(expected.test) == 4
    assert len(documents.test) == 0
    assert len(documents.train) + len(documents.valid) == (40 if duplicates == "report" else 36)


def test_the_test_split_is_not_read_for_training_documents(
    write_csv: WriteCsv, tmp_path: Path
) -> None:
    path, invalid = write_csv([(f"text {n}", n % 2) for n in range(20)]), tmp_path / "invalid.csv"
    invalid.write_text("no columns")
    config = DataConfig(source="csv", path=path, test_path=invalid, valid_size=5)
    assert len(read_training_documents(config).valid) == 5
    with pytest.raises(DataError, match=r"invalid\.csv"):
        read_documents(config)
