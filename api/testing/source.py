"""Contract suite of data sources; needs pytest.

Subclass `SourceContract` in your tests and implement `write`::

    class TestMySource(SourceContract):
        def write(self, folder, documents):
            ...  # write the documents to the folder in your format
            return DataConfig(source="my_source", path=folder / "file")
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from celltune.data_prep.config import SOURCE_KEYS, DataConfig
from celltune.data_prep.errors import DataError
from celltune.data_prep.extensions import SOURCES
from celltune.data_prep.preparation.pipeline import prepare
from celltune.data_prep.sources.base import Source
from celltune.data_prep.sources.factory import open_source

Labelled = tuple[str, int]
"""A text and its label, an index into the source's classes."""

DOCUMENTS: tuple[Labelled, ...] = (
    ("a fine film , really", 1),
    ('it was dull ,\nand "long"', 0),
    ("gut gemacht: schön!\tüber 😀 \u2028", 1),
    ("not good at all", 0),
    ("never again <br />", 0),
    ("I laughed. I cried.", 1),
)


class SourceContract:
    """Tests of the contract that `celltune.data_prep.sources.base.Source` states."""

    def write(self, folder: Path, documents: Sequence[Labelled]) -> DataConfig:
        """Write documents of two classes in the source's format.

        Args:
            folder: existing folder; different calls get different folders.
            documents: texts and labels; a text may contain line breaks and any Unicode
                characters.

        Returns:
            A config that selects the source and these documents, its other keys at their defaults.
        """
        raise NotImplementedError

    def _open(self, folder: Path, documents: Sequence[Labelled] = DOCUMENTS) -> Source:
        folder.mkdir(exist_ok=True)
        return open_source(self.write(folder, documents), cache_dir=folder / "cache")

    def test_declares_only_known_config_keys(self, tmp_path: Path) -> None:
        """The declared keys are in `SOURCE_KEYS`, each in one of the two tuples."""
        source = SOURCES.load(self.write(tmp_path, DOCUMENTS).source)
        declared = [*source.required_keys, *source.optional_keys]
        assert set(declared) <= set(SOURCE_KEYS)
        assert len(set(declared)) == len(declared)

    def test_yields_texts_and_labels_unchanged(self, tmp_path: Path) -> None:
        """Every document is delivered once, with its text, its label and a unique id."""
        source = self._open(tmp_path)
        documents = list(source.documents())
        assert sorted((each.text, each.label) for each in documents) == sorted(DOCUMENTS)
        assert len({each.id for each in documents}) == len(documents)
        assert {each.split for each in documents} == {"train"}
        assert len(source.classes) == 2

    def test_is_reproducible(self, tmp_path: Path) -> None:
        """A second reading, and a second opening, give equal documents and digests."""
        config = self.write(tmp_path, DOCUMENTS)
        source, reopened = (open_source(config, cache_dir=tmp_path / "cache") for _ in range(2))
        documents = list(source.documents())
        assert list(source.documents()) == documents
        assert list(reopened.documents()) == documents
        assert source.digest() == reopened.digest()

    def test_digest_depends_on_content(self, tmp_path: Path) -> None:
        """Changed content has another digest."""
        original = self._open(tmp_path / "original").digest()
        changes = {
            "shorter": DOCUMENTS[1:],
            "relabelled": [(text, 1 - label) for text, label in DOCUMENTS],
            "edited": [(f"{text}!", label) for text, label in DOCUMENTS],
        }
        for name, documents in changes.items():
            assert self._open(tmp_path / name, documents).digest() != original

    def test_digest_does_not_depend_on_the_path(self, tmp_path: Path) -> None:
        """Moved data has the same digest."""
        config = self.write(tmp_path, DOCUMENTS)
        if not isinstance(config.path, Path):
            pytest.skip("the source reads no path")
        digest = open_source(config, cache_dir=tmp_path / "cache").digest()
        moved = config.path.rename(tmp_path / f"moved-{config.path.name}")
        config = config.model_copy(update={"path": moved})
        assert open_source(config, cache_dir=tmp_path / "cache").digest() == digest

    def test_yields_only_the_requested_split(self, tmp_path: Path) -> None:
        """The training split is read alone, and its labels are valid."""
        source = self._open(tmp_path)
        assert "train" in source.splits
        if "unlabelled" in source.splits:
            assert type(source).has_unlabelled
        for document in source.documents(["train"]):
            assert document.split == "train"
            assert 0 <= document.label < len(source.classes)

    def test_rejects_blank_text(self, tmp_path: Path) -> None:
        """A blank text raises a `DataError` that says where it is."""
        with pytest.raises(DataError, match="empty"):
            list(self._open(tmp_path, [*DOCUMENTS, (" \t ", 0)]).documents())

    def test_rejects_missing_path(self, tmp_path: Path) -> None:
        """A path that does not exist raises a `DataError` that names it."""
        config = self.write(tmp_path, DOCUMENTS)
        if not isinstance(config.path, Path):
            pytest.skip("the source reads no path")
        missing = config.model_copy(update={"path": tmp_path / "missing"})
        with pytest.raises(DataError, match="missing"):
            list(open_source(missing, cache_dir=tmp_path / "cache").documents())

    def test_states_provenance(self, tmp_path: Path) -> None:
        """Origin and terms are known without reading the data."""
        config = self.write(tmp_path, DOCUMENTS)
        provenance = SOURCES.load(config.source).provenance(config)
        assert provenance.description
        assert provenance.terms

    def test_can_be_prepared(self, tmp_path: Path) -> None:
        """The documents can be split, tokenized and indexed."""
        config = self.write(tmp_path, DOCUMENTS * 3).model_copy(update={"valid_size": 4})
        data = prepare(config, cache_dir=tmp_path / "cache")
        assert (len(data.train), len(data.valid)) == (14, 4)
