"""The built-in sources fulfil the contract of data sources."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from celltune.data_prep.config import DataConfig
from celltune.data_prep.errors import DataError
from celltune.data_prep.sources.factory import open_source
from celltune.testing.source import DOCUMENTS, Labelled, SourceContract
from tests.data_prep.formats import FORMATS, Write


class TestBuiltInSources(SourceContract):
    _write: Write

    @pytest.fixture(autouse=True, params=FORMATS.values(), ids=FORMATS.keys())
    def _select_format(self, request: pytest.FixtureRequest) -> None:
        self._write = request.param

    def write(self, folder: Path, documents: Sequence[Labelled]) -> DataConfig:
        return self._write(folder, documents)

    def test_error_of_blank_text_names_the_document(self, tmp_path: Path) -> None:
        config = self.write(tmp_path, [*DOCUMENTS, (" \t ", 0)])
        message = r"(row 7|6_5\.txt|neg/books/\d).*: the (review|text) .*is empty"
        with pytest.raises(DataError, match=message):
            list(open_source(config, cache_dir=tmp_path).documents())

    def test_error_of_missing_path_names_the_key(self, tmp_path: Path) -> None:
        missing = {"path": tmp_path / "none"}
        config = self.write(tmp_path, DOCUMENTS).model_copy(update=missing)
        with pytest.raises(
            DataError, match=r"none does not exist .* Set data\.path to an existing"
        ):
            open_source(config, cache_dir=tmp_path)

    def test_rejects_empty_file(self, tmp_path: Path) -> None:
        config = self.write(tmp_path, DOCUMENTS)
        if (path := config.path) is None or path.is_dir():
            return
        path.write_bytes(b"")
        with pytest.raises(DataError, match=r"is empty\. .*needs|is damaged or truncated"):
            list(open_source(config, cache_dir=tmp_path).documents())

    def test_rejects_truncated_file(self, tmp_path: Path) -> None:
        config = self.write(tmp_path, DOCUMENTS * 50)
        path = config.path or tmp_path
        if path.suffix not in (".gz", ".parquet"):
            return
        path.write_bytes(path.read_bytes()[:-60])
        with pytest.raises(DataError, match=r"damaged or truncated|not a complete Parquet file"):
            list(open_source(config, cache_dir=tmp_path).documents())
