"""Texts that look the same give the same data; data of releases that did not normalize stays."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from pathlib import Path

import pytest

from celltune.data_prep.cache.disk import PREPARED, load_or_build
from celltune.data_prep.config import DataConfig
from celltune.data_prep.dataset.tensorized import PreparedData
from celltune.data_prep.preparation.pipeline import (
    fingerprint,
    prepare,
    prepare_test,
    read_documents,
    read_training_documents,
)
from celltune.data_prep.sources.table import TableSource
from celltune.data_prep.text.encoder import TextEncoder, TextRules

WriteCsv = Callable[..., Path]
ROWS = [(f"Ein schöner Film {number}", 1) for number in range(5)] + [
    (f"ein übler Film {number}", 0) for number in range(5)
]


def decomposed(text: str) -> str:
    return unicodedata.normalize("NFD", text)


def config_of(path: Path) -> DataConfig:
    return DataConfig(source="csv", path=path, test_path=path, valid_size=2)


def base_fingerprint(config: DataConfig, path: Path) -> str:
    """Return the fingerprint that earlier releases gave the data."""
    return fingerprint(config, TableSource.from_config(config, cache_dir=path).digest())


@pytest.fixture
def plain(write_csv: WriteCsv) -> DataConfig:
    return config_of(write_csv(ROWS, name="plain.csv"))


@pytest.fixture
def mixed(write_csv: WriteCsv) -> DataConfig:
    """Every other text has separate accents."""
    rows = [
        (decomposed(text) if row % 2 else text, label) for row, (text, label) in enumerate(ROWS)
    ]
    return config_of(write_csv(rows, name="mixed.csv"))


def as_by_an_earlier_release(config: DataConfig, cache: Path) -> PreparedData:
    """Store data whose vocabulary has separate accents under the fingerprint without NFC."""
    name, data = base_fingerprint(config, cache), prepare(config, cache_dir=cache / "new")
    words = tuple(decomposed(word) for word in data.words)
    old = PreparedData(name, data.train, data.valid, data.classes, words)
    return load_or_build(cache, name, lambda: old, PREPARED)


def test_texts_that_look_the_same_give_the_same_data(
    plain: DataConfig, mixed: DataConfig, tmp_path: Path
) -> None:
    first, second = (prepare(config, cache_dir=tmp_path) for config in (plain, mixed))
    assert first.words == second.words
    assert "schöner" in first.words
    assert first.train.ids.tolist() == second.train.ids.tolist()
    tests = [prepare_test(config, cache_dir=tmp_path).split.ids for config in (plain, mixed)]
    assert tests[0].tolist() == tests[1].tolist()


def test_only_data_that_changes_has_another_fingerprint(
    plain: DataConfig, mixed: DataConfig, tmp_path: Path
) -> None:
    assert prepare(plain, cache_dir=tmp_path).fingerprint == base_fingerprint(plain, tmp_path)
    assert prepare(mixed, cache_dir=tmp_path).fingerprint != base_fingerprint(mixed, tmp_path)


def test_source_is_read_once_and_not_again(
    mixed: DataConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: list[object] = []
    original = TableSource.documents
    monkeypatch.setattr(
        TableSource, "documents", lambda *arguments: reads.append(0) or original(*arguments)
    )
    built = prepare(mixed, cache_dir=tmp_path)
    opened = prepare(mixed, cache_dir=tmp_path)
    assert len(reads) == 1
    assert opened.fingerprint == built.fingerprint


def test_data_of_an_earlier_release_is_used_as_it_is(mixed: DataConfig, tmp_path: Path) -> None:
    old = as_by_an_earlier_release(mixed, tmp_path)
    assert prepare(mixed, cache_dir=tmp_path).words == old.words
    known = prepare_test(mixed, cache_dir=tmp_path).split.ids
    # The texts with separate accents find their words, those without do not.
    assert (known == 0).sum() == 5


def test_dropped_duplicates_may_differ_in_their_accents(
    plain: DataConfig, write_csv: WriteCsv, tmp_path: Path
) -> None:
    test = write_csv([(decomposed(text), label) for text, label in ROWS[:1]], name="test.csv")
    config = plain.model_copy(update={"test_path": test, "duplicates": "drop"})
    data = prepare(config, cache_dir=tmp_path)
    assert len(data.train) + len(data.valid) == len(ROWS) - 1
    digest = TableSource.from_config(config, cache_dir=tmp_path).digest(("train", "test"))
    assert data.fingerprint != fingerprint(config, digest)


def test_raw_documents_are_normalized_like_the_prepared_data(
    plain: DataConfig, write_csv: WriteCsv, tmp_path: Path
) -> None:
    test = write_csv([(decomposed(text), label) for text, label in ROWS[:1]], name="test.csv")
    config = plain.model_copy(update={"test_path": test, "duplicates": "drop"})
    data = prepare(config, cache_dir=tmp_path)
    for documents in (read_documents(config), read_training_documents(config)):
        assert [document.label for document in documents.train] == data.train.labels.tolist()
        assert [document.label for document in documents.valid] == data.valid.labels.tolist()
        texts = [document.text for document in (*documents.train, *documents.valid)]
        assert set(texts) == {text for text, _ in ROWS[1:]}


@pytest.mark.parametrize("learned", [str, decomposed])
def test_new_texts_are_normalized_as_the_vocabulary_is(
    learned: Callable[[str], str], plain: DataConfig
) -> None:
    words = ["<unk>", "<pad>", learned("schöner"), "film"]
    encoder = TextEncoder(TextRules.of(plain), words)
    for text in ("Schöner Film", decomposed("Schöner Film")):
        known = learned is str or text != unicodedata.normalize("NFC", text)
        assert encoder.encode([text])[0].tolist() == [2 if known else 0, 3]
        assert encoder.spell(text).ids.tolist() == [2 if known else 0, 3]
