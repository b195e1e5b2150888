from __future__ import annotations

import os
from pathlib import Path

import pytest

from celltune.data_prep.config import DataConfig
from celltune.data_prep.errors import DataError
from celltune.data_prep.io import files
from celltune.data_prep.sources.factory import check_files_exist, open_source


@pytest.mark.parametrize(
    ("source", "kind"), [("imdb", "file or folder"), ("csv", "file"), ("amazon", "file")]
)
def test_missing_path_is_rejected_with_what_the_source_reads(
    tmp_path: Path, source: str, kind: str
) -> None:
    config = DataConfig(source=source, path=tmp_path / "none")
    message = rf"none does not exist .* Set data\.path to an existing {kind}\.$"
    with pytest.raises(DataError, match=message):
        open_source(config, cache_dir=tmp_path)
    with pytest.raises(DataError, match=r"none does not exist .* Set data\.path to an existing"):
        check_files_exist(config)


def test_folder_is_rejected_if_the_source_reads_a_file(tmp_path: Path) -> None:
    config = DataConfig(source="csv", path=tmp_path)
    with pytest.raises(DataError, match=r"is a folder, but data\.path must be a file\.$"):
        open_source(config, cache_dir=tmp_path)


@pytest.mark.parametrize("key", ["path", "test_path", "unlabelled", "groups"])
def test_pipe_is_rejected_before_anything_is_read(tmp_path: Path, key: str) -> None:
    pipe, file = tmp_path / "pipe.csv", tmp_path / "file.csv"
    os.mkfifo(pipe)
    file.touch()
    vectors = {"vectors": {"train": "word2vec"}} if key == "unlabelled" else {}
    config = DataConfig.model_validate({"source": "csv", "path": file, **vectors, key: pipe})
    message = r"pipe\.csv is not a regular file, but .* Write its content to a file first"
    with pytest.raises(DataError, match=message):
        open_source(config, cache_dir=tmp_path)
    if key != "groups":
        with pytest.raises(DataError, match=message):
            check_files_exist(config)


@pytest.mark.parametrize("source", ["csv", "amazon", "imdb"])
def test_digest_of_a_large_file_reports_progress(
    tmp_path: Path, source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "CHUNK_BYTES", 4)
    monkeypatch.setattr(files, "REPORTED_BYTES", 8)
    (path := tmp_path / "file").write_bytes(b"x" * 20)
    calls: list[tuple[str, int, int | None]] = []
    config = DataConfig(source=source, path=path)
    opened = open_source(config, cache_dir=tmp_path, progress=lambda *call: calls.append(call))
    opened.digest()
    assert calls == [("check", 8, 20), ("check", 16, 20)]
