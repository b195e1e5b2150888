import copy
import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from celltune.data_prep.io import regular
from celltune.data_prep.io.regular import (
    FileTooLargeError,
    NotRegularFileError,
    open_regular,
    read_regular,
)

DESCRIPTORS = Path("/proc/self/fd")


def _socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))


SPECIAL: dict[str, Callable[[Path], object]] = {
    "folder": lambda path: path.mkdir(),
    "FIFO": os.mkfifo,
    "socket": _socket,
    "endless device": lambda path: path.symlink_to("/dev/zero"),
    "terminal": lambda path: path.symlink_to("/dev/ptmx"),
}


@pytest.mark.parametrize("kind", SPECIAL)
@pytest.mark.parametrize("follow", [True, False])
def test_special_files_are_rejected_without_waiting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, follow: bool
) -> None:
    monkeypatch.chdir(tmp_path)  # the path of a socket is short
    path = Path("it")
    SPECIAL[kind](path)
    opened = len(list(DESCRIPTORS.iterdir()))

    with pytest.raises(NotRegularFileError, match="Not a regular file: 'it'"):
        read_regular(path, limit=10, follow=follow)

    assert len(list(DESCRIPTORS.iterdir())) == opened


def test_a_link_is_followed_only_on_request(tmp_path: Path) -> None:
    (tmp_path / "target").write_bytes(b"content")
    link = tmp_path / "link"
    link.symlink_to("target")

    with open_regular(link) as file:
        assert file.read() == b"content"
    with pytest.raises(NotRegularFileError, match="Not a regular file"):
        open_regular(link, follow=False)


def test_a_missing_file_is_missing(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="absent"):
        open_regular(tmp_path / "absent", follow=False)


def test_the_limit_is_the_largest_size(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"12345")

    assert read_regular(path, limit=5) == b"12345"
    with pytest.raises(FileTooLargeError, match="Larger than 4 bytes"):
        read_regular(path, limit=4)


@pytest.fixture
def growing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file of 5 bytes that has 3 more after each look at its size."""
    path = tmp_path / "file"
    path.write_bytes(b"12345")
    fstat = os.fstat

    def grow(descriptor: int) -> os.stat_result:
        before = fstat(descriptor)
        with path.open("ab") as file:
            file.write(b"678")
        return before

    monkeypatch.setattr(regular.os, "fstat", grow)
    return path


def test_a_file_that_grows_while_it_is_read_is_too_large(growing: Path) -> None:
    with pytest.raises(FileTooLargeError, match="Larger than 6 bytes"):
        read_regular(growing, limit=6)


def test_what_a_file_grows_by_is_read_up_to_the_limit(growing: Path) -> None:
    assert read_regular(growing, limit=2**60).startswith(b"12345678")


def test_the_error_can_be_copied_to_another_process(tmp_path: Path) -> None:
    with pytest.raises(NotRegularFileError, match="Not a regular file") as raised:
        open_regular(tmp_path)

    duplicate = copy.deepcopy(raised.value)
    assert type(duplicate) is NotRegularFileError
    assert str(duplicate) == str(raised.value)
