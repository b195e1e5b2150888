from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from celltune.data_prep.config import DataConfig
from celltune.data_prep.errors import DataError
from celltune.data_prep.io import download as io_download
from celltune.data_prep.io.download import fetch
from celltune.data_prep.sources import imdb
from celltune.data_prep.sources.factory import open_source
from celltune.data_prep.sources.imdb import _imdb_url
from celltune.data_prep.types import Progress

CONTENT = bytes(range(256)) * 64
MD5 = hashlib.md5(CONTENT, usedforsecurity=False).hexdigest()


class Handler(BaseHTTPRequestHandler):
    """Serves CONTENT at /whole (with ranges), /plain (without ranges) and /cut (only half)."""

    ranges: list[str | None]
    length = part = ""

    def do_GET(self) -> None:
        requested = self.headers.get("Range")
        self.ranges.append(requested)
        start = int(requested.removeprefix("bytes=").rstrip("-")) if requested else 0
        if self.path == "/plain":
            start = 0
        if self.path not in ("/whole", "/plain", "/cut"):
            self.send_error(404)
            return
        if start >= len(CONTENT):
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", self.length or str(len(CONTENT) - start))
        self.send_header("Content-Range", self.part or f"bytes {start}-{len(CONTENT)}/*")
        self.end_headers()
        self.wfile.write(CONTENT[start : len(CONTENT) // 2 if self.path == "/cut" else None])

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    Handler.ranges = []
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{running.server_address[1]}"
        running.shutdown()
        thread.join()


def download(url: str, target: Path, md5: str = MD5, progress: Progress | None = None) -> Path:
    return fetch(url, target, md5=md5, advice="Get the file by hand.", progress=progress)


def test_download_reports_progress_and_is_not_repeated(server: str, tmp_path: Path) -> None:
    calls: list[tuple[str, int, int | None]] = []
    target = tmp_path / "deep" / "file"
    download(f"{server}/whole", target, progress=lambda *call: calls.append(call))
    assert target.read_bytes() == CONTENT
    assert calls[-1] == ("download", len(CONTENT), len(CONTENT))
    download(f"{server}/whole", target)
    assert len(Handler.ranges) == 1


@pytest.mark.parametrize("path", ["whole", "plain"])
def test_interrupted_download_continues(server: str, tmp_path: Path, path: str) -> None:
    target = tmp_path / "file"
    with pytest.raises(DataError, match=r"cannot be downloaded .*Get the file by hand\."):
        download(f"{server}/cut", target)
    assert not target.exists()
    download(f"{server}/{path}", target)
    assert target.read_bytes() == CONTENT
    assert Handler.ranges[-1] == f"bytes={len(CONTENT) // 2}-"


@pytest.mark.parametrize("kind", ["link", "second name", "FIFO"])
def test_what_is_not_an_interrupted_download_is_not_written_to(
    server: str, tmp_path: Path, kind: str
) -> None:
    precious, partial = tmp_path / "precious", tmp_path / "file.part"
    precious.write_text("precious")
    if kind == "link":
        partial.symlink_to(precious)
    elif kind == "second name":
        partial.hardlink_to(precious)
    else:
        os.mkfifo(partial)
    assert download(f"{server}/whole", tmp_path / "file").read_bytes() == CONTENT
    assert precious.read_text() == "precious"


def test_complete_partial_file_is_used(server: str, tmp_path: Path) -> None:
    (tmp_path / "file.part").write_bytes(CONTENT)
    assert download(f"{server}/whole", tmp_path / "file").read_bytes() == CONTENT


def test_file_with_wrong_checksum_is_removed(server: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=f"checksum is {MD5} instead of beef. It was removed"):
        download(f"{server}/whole", tmp_path / "file", md5="beef")
    assert [file.name for file in tmp_path.iterdir()] == ["file.lock"]


def test_rejects_missing_file_on_the_server(server: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none cannot be downloaded \(Not Found\)"):
        download(f"{server}/none", tmp_path / "file")


def test_wrong_part_from_the_server_is_rejected(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Handler, "part", "bytes 3-99/100")
    (tmp_path / "file.part").write_bytes(CONTENT[:100])
    with pytest.raises(DataError, match="the server sent another part than the requested one"):
        download(f"{server}/whole", tmp_path / "file")
    assert (tmp_path / "file.part").read_bytes() == CONTENT[:100]


@pytest.mark.parametrize("length", ["9" * 5000, "-5", "x"])
def test_invalid_length_from_the_server_is_ignored(
    server: str, tmp_path: Path, length: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Handler, "length", length)
    calls: list[tuple[str, int, int | None]] = []
    download(f"{server}/plain", tmp_path / "file", progress=lambda *call: calls.append(call))
    assert calls[-1] == ("download", len(CONTENT), None)


def test_endless_download_ends_at_a_limit(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(io_download, "MAX_BYTES", len(CONTENT) - 1)
    with pytest.raises(DataError, match=r"cannot be downloaded \(it has more than 16,383 bytes\)"):
        download(f"{server}/whole", tmp_path / "file")
    assert [file.name for file in tmp_path.iterdir()] == ["file.lock"]


def test_disk_error_is_not_reported_as_network_error(server: str, tmp_path: Path) -> None:
    (tmp_path / "file.part").mkdir()
    with pytest.raises(DataError, match=r"The cache .* cannot be written .Is a directory"):
        download(f"{server}/plain", tmp_path / "file")


def test_error_of_unreachable_server_says_how_to_get_imdb_by_hand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Names under .invalid never resolve (RFC 2606).
    monkeypatch.setattr(imdb, "_imdb_url", lambda: "http://celltune.invalid/x")
    message = r"cannot be downloaded .*Get aclImdb_v1\.tar\.gz by hand and set data\.path to it"
    with pytest.raises(DataError, match=message):
        open_source(DataConfig(source="imdb"), cache_dir=tmp_path)


def test_imdb_without_path_is_downloaded_once(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(imdb, "_imdb_url", lambda: f"{server}/whole")
    monkeypatch.setattr(imdb, "IMDB_MD5", MD5)
    config = DataConfig(source="imdb")
    for is_first in (True, False):
        assert imdb.ImdbSource.needs_download(config, tmp_path) == is_first
        source = open_source(config, cache_dir=tmp_path)
        assert source.digest() == hashlib.sha256(CONTENT).hexdigest()
    assert len(Handler.ranges) == 1


def test_url_of_imdb_comes_from_torchtext() -> None:
    assert _imdb_url().endswith("/aclImdb_v1.tar.gz")
