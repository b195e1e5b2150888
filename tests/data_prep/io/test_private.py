"""Folders whose files are executed: who may change them, and what is read from them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from celltune.data_prep.io.private import NotPrivateError, private_folder


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "libraries"


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_only_the_user_can_enter_a_new_folder(place: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        with private_folder(place) as folder:
            folder.write("a", b"content")
    finally:
        os.umask(before)
    assert place.stat().st_mode & 0o777 == 0o700
    assert (place / "a").stat().st_mode & 0o777 == 0o600


def test_what_is_written_is_read_and_replaced(place: Path) -> None:
    with private_folder(place) as folder:
        folder.write("a", b"first")
        folder.write("a", b"second")
        assert folder.read("a", 100) == b"second"
    assert [path.name for path in place.iterdir()] == ["a"]


def test_a_large_file_is_read_up_to_the_limit(place: Path) -> None:
    with private_folder(place) as folder:
        folder.write("a", bytes(100))
        assert len(folder.read("a", 10)) == 11


@pytest.mark.parametrize("mode", [0o770, 0o707, 0o777, 0o1777])
def test_a_folder_that_others_can_write_is_rejected(place: Path, mode: int) -> None:
    place.mkdir(parents=True)
    place.chmod(mode)
    message = rf"libraries has mode {mode:04o}: other users could have planted code in it. Delete"
    with pytest.raises(NotPrivateError, match=message), private_folder(place):
        pass


def test_a_folder_of_another_user_is_rejected(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place.mkdir(parents=True, mode=0o700)
    owner = place.stat().st_uid
    monkeypatch.setattr(os, "geteuid", lambda: owner + 1)
    message = rf"libraries belongs to the user with id {owner}, .* \(id {owner + 1}\)\. Delete it"
    with pytest.raises(NotPrivateError, match=message), private_folder(place):
        pass


def test_a_link_to_a_folder_and_a_file_are_rejected(place: Path, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir(mode=0o700)
    place.parent.mkdir()
    place.symlink_to(tmp_path / "other")
    message = r"libraries is a symbolic link or a file\. Delete it\."
    with pytest.raises(NotPrivateError, match=message), private_folder(place):
        pass
    place.unlink()
    place.touch()
    with pytest.raises(NotPrivateError, match=message), private_folder(place):
        pass


def test_a_file_that_others_can_write_is_rejected(place: Path) -> None:
    with private_folder(place) as folder:
        folder.write("a", b"content")
        (place / "a").chmod(0o666)
        with pytest.raises(NotPrivateError, match="a has mode 0666: other users could have"):
            folder.read("a", 100)


def test_special_files_are_rejected_without_waiting(place: Path, tmp_path: Path) -> None:
    with private_folder(place) as folder:
        os.mkfifo(place / "fifo")
        (tmp_path / "target").write_bytes(b"content")
        (place / "link").symlink_to(tmp_path / "target")
        with pytest.raises(NotPrivateError, match=r"fifo is not a regular file\. Delete it\."):
            folder.read("fifo", 100)
        with pytest.raises(OSError, match="symbolic links"):
            folder.read("link", 100)


def test_replacing_a_parent_does_not_redirect_an_open_folder(place: Path) -> None:
    with private_folder(place) as folder:
        folder.write("a", b"ours")
        place.rename(place.with_name("moved"))
        place.mkdir()
        (place / "a").write_bytes(b"planted")
        assert folder.read("a", 100) == b"ours"
        folder.write("b", b"ours")
    assert [path.name for path in place.iterdir()] == ["a"]


def test_a_failed_write_leaves_no_file(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    with private_folder(place) as folder:
        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space left"):
            folder.write("a", b"content")
    assert list(place.iterdir()) == []
