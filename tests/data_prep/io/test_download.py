from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from celltune.data_prep.config import DataConfig
from celltune.data_prep.errors import DataError
from celltune.data_prep.io.download import fetch
from celltune.data_prep.sources import imdb
from celltune.data_prep.sources.imdb import _imdb_url
from celltune.data_prep.sources.registry import open_source

CONTENT = bytes(range(256)) * 64
MD5 = hashlib.md5(CONTENT, usedforsecurity=False).hexdigest()


class Handler(BaseHTTPRequestHandler):
    """Serves CONTENT at /whole (ranges allowed), /plain (never ranges) and /cut (half of it)."""

    ranges: list[str | None]

    def do_GET(self) -> None:
        wanted = self.headers.get("Range")
        self.ranges.append(wanted)
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted else 0
        if self.path == "/plain":
            start = 0
        if self.path not in ("/whole", "/plain", "/cut"):
            self.send_error(404)
            return
        if start >= len(CONTENT):
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(CONTENT) - start))
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


def test_a_download_is_verified_told_and_kept(server: str, tmp_path: Path) -> None:
    told: list[tuple[str, int, int | None]] = []
    target = tmp_path / "deep" / "file"
    fetch(f"{server}/whole", target, md5=MD5, progress=lambda *event: told.append(event))
    assert target.read_bytes() == CONTENT
    assert told[-1] == ("download", len(CONTENT), len(CONTENT))
    fetch(f"{server}/whole", target, md5=MD5)
    assert len(Handler.ranges) == 1


@pytest.mark.parametrize("path", ["whole", "plain"])
def test_a_cut_download_goes_on_where_it_stopped(server: str, tmp_path: Path, path: str) -> None:
    target = tmp_path / "file"
    with pytest.raises(DataError, match=r"can't be downloaded .*set data\.path to it"):
        fetch(f"{server}/cut", target, md5=MD5)
    assert not target.exists()
    fetch(f"{server}/{path}", target, md5=MD5)
    assert target.read_bytes() == CONTENT
    assert Handler.ranges[-1] == f"bytes={len(CONTENT) // 2}-"


def test_a_whole_download_that_was_never_renamed_is_taken(server: str, tmp_path: Path) -> None:
    (tmp_path / "file.part").write_bytes(CONTENT)
    assert fetch(f"{server}/whole", tmp_path / "file", md5=MD5).read_bytes() == CONTENT


def test_a_wrong_checksum_is_refused_and_nothing_stays(server: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=f"its md5 is {MD5}, not beef; it was removed"):
        fetch(f"{server}/whole", tmp_path / "file", md5="beef")
    assert [file.name for file in tmp_path.iterdir()] == ["file.lock"]


def test_what_the_server_does_not_have_is_refused(server: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none can't be downloaded \(Not Found\)"):
        fetch(f"{server}/none", tmp_path / "file", md5=MD5)


def test_without_a_network_the_way_by_hand_is_told(tmp_path: Path) -> None:
    # .invalid never resolves (RFC 2606).
    with pytest.raises(DataError, match=r"can't be downloaded .*get aclImdb_v1\.tar\.gz by hand"):
        fetch("http://celltune.invalid/x", tmp_path / "file", md5=MD5)


def test_a_disk_that_cannot_be_written_is_no_network_error(server: str, tmp_path: Path) -> None:
    (tmp_path / "file.part").mkdir()
    with pytest.raises(DataError, match=r"the cache .* can't be written .Is a directory"):
        fetch(f"{server}/plain", tmp_path / "file", md5=MD5)


def test_imdb_without_a_path_is_downloaded_once(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(imdb, "_imdb_url", lambda: f"{server}/whole")
    monkeypatch.setattr(imdb, "IMDB_MD5", MD5)
    for _ in range(2):
        source = open_source(DataConfig(source="imdb"), cache_dir=tmp_path)
        assert source.digest() == hashlib.sha256(CONTENT).hexdigest()
    assert len(Handler.ranges) == 1


def test_the_address_is_torchtexts() -> None:
    assert _imdb_url().endswith("/aclImdb_v1.tar.gz")
