from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from celltune.data_prep.io.enclosed import EnclosedPath
from celltune.data_prep.io.regular import FileTooLargeError, NotRegularFileError


@pytest.fixture
def root(tmp_path: Path) -> EnclosedPath:
    """Return a root next to a folder that nothing may change."""
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "file").write_bytes(b"precious")
    (tmp_path / "root").mkdir()
    return EnclosedPath(tmp_path / "root")


def outside(root: EnclosedPath) -> Path:
    return root.root.parent / "outside"


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def real(path: EnclosedPath) -> Path:
    return Path(str(path))


def test_files_are_created_replaced_renamed_and_removed(root: EnclosedPath) -> None:
    folder = root / "folder"
    folder.mkdir()
    (folder / "a").create(b"1")
    with pytest.raises(FileExistsError, match="folder/a"):
        (folder / "a").create(b"2")
    (folder / "a").write_bytes(b"3")
    (folder / "a").rename("b")
    (folder / "c").write_bytes(b"")
    folder.sync()

    assert folder.names() == ["b", "c"]
    assert (folder / "b").read_text() == "3"
    assert [(folder / name).is_file() for name in "abc"] == [False, True, True]
    (folder / "c").unlink()
    folder.remove_all()
    assert not folder.exists()
    assert root.names() == []


def test_a_folder_is_created_once(root: EnclosedPath) -> None:
    folder = root / "folder"
    folder.mkdir(exist_ok=True)
    folder.mkdir(exist_ok=True)
    assert folder.is_folder()
    with pytest.raises(FileExistsError, match="root/folder"):
        folder.mkdir()
    (root / "file").create(b"")
    with pytest.raises(FileExistsError, match="root/file"):
        (root / "file").mkdir(exist_ok=True)


def test_a_missing_root_is_not_created(tmp_path: Path) -> None:
    path = EnclosedPath(tmp_path / "missing") / "folder"
    with pytest.raises(FileNotFoundError, match="missing/folder"):
        path.mkdir()
    with pytest.raises(FileNotFoundError, match="missing/folder"):
        path.create(b"")
    assert not path.exists()
    assert list(tmp_path.iterdir()) == []


ACCESSES: dict[str, Callable[[EnclosedPath], object]] = {
    "open": lambda path: path.open().close(),
    "open_for_writing": lambda path: os.close(path.open_for_writing()),
    "read": EnclosedPath.read_bytes,
    "create": lambda path: path.create(b"x"),
    "write": lambda path: path.write_bytes(b"x"),
    "names": EnclosedPath.names,
    "mkdir": EnclosedPath.mkdir,
    "sync": EnclosedPath.sync,
    "rename": lambda path: path.rename("other"),
    "unlink": EnclosedPath.unlink,
    "remove": EnclosedPath.remove_all,
}


@pytest.mark.parametrize("access", ACCESSES)
def test_a_link_on_the_path_is_not_followed(root: EnclosedPath, access: str) -> None:
    real(root / "link").symlink_to(outside(root))

    with pytest.raises(OSError, match="'link' is a symbolic link, which is not followed"):
        ACCESSES[access](root / "link" / "file")

    assert (outside(root) / "file").read_bytes() == b"precious"
    assert names_in(outside(root)) == ["file"]


@pytest.mark.parametrize("access", ACCESSES)
@pytest.mark.parametrize("name", ["..", ".", "", "/", "a/b", "../outside/file", "a\0b", "\ud800"])
def test_what_is_not_the_name_of_a_file_is_rejected(
    root: EnclosedPath, access: str, name: str
) -> None:
    with pytest.raises(OSError, match="is not the name of a file"):
        ACCESSES[access](root / name)
    assert names_in(outside(root)) == ["file"]
    assert root.names() == []


@pytest.mark.parametrize("name", ["..", "../outside/x", "/x", ""])
def test_a_new_name_is_checked_as_well(root: EnclosedPath, name: str) -> None:
    (root / "a").create(b"")
    with pytest.raises(OSError, match="is not the name of a file"):
        (root / "a").rename(name)
    assert root.names() == ["a"]


def test_a_link_itself_is_replaced_or_removed(root: EnclosedPath) -> None:
    for name in ("replaced", "unlinked", "removed"):
        real(root / name).symlink_to(outside(root) / "file")
    with pytest.raises(NotRegularFileError, match="replaced"):
        (root / "replaced").open_for_writing()
    with pytest.raises(NotRegularFileError, match="replaced"):
        (root / "replaced").read_bytes()
    (root / "replaced").write_bytes(b"new")
    (root / "unlinked").unlink()
    (root / "removed").remove_all()

    assert root.names() == ["replaced"]
    assert (root / "replaced").read_bytes() == b"new"
    assert (outside(root) / "file").read_bytes() == b"precious"


def test_another_name_of_a_replaced_file_keeps_its_content(root: EnclosedPath) -> None:
    real(root / "file").hardlink_to(outside(root) / "file")
    with pytest.raises(OSError, match="'file' is a hard link: a write would change another file"):
        (root / "file").open_for_writing()
    (root / "file").write_bytes(b"new")
    assert (outside(root) / "file").read_bytes() == b"precious"


def test_removal_does_not_enter_links(root: EnclosedPath) -> None:
    (root / "folder").mkdir()
    (root / "folder" / "inner").mkdir()
    real(root / "folder" / "inner" / "link").symlink_to(outside(root))
    os.mkfifo(real(root / "folder" / "fifo"))

    (root / "folder").remove_all()

    assert root.names() == []
    assert (outside(root) / "file").read_bytes() == b"precious"


def test_a_very_deep_folder_is_an_error(root: EnclosedPath) -> None:
    deep = root / "folder"
    deep.mkdir()
    for _ in range(101):
        deep = deep / "x"
        deep.mkdir()
    with pytest.raises(OSError, match="It contains folders more than 100 levels deep"):
        (root / "folder").remove_all()


def test_special_files_are_not_opened(root: EnclosedPath) -> None:
    os.mkfifo(real(root / "fifo"))
    (root / "folder").mkdir()
    for name in ("fifo", "folder"):
        with pytest.raises(NotRegularFileError, match=f"root/{name}"):
            (root / name).read_bytes()
        with pytest.raises(NotRegularFileError, match=f"root/{name}"):
            (root / name).open_for_writing()
    # A FIFO in place of a file is replaced without waiting for a reader.
    (root / "fifo").write_bytes(b"x")
    assert (root / "fifo").read_bytes() == b"x"


def test_a_failed_replacement_leaves_nothing(root: EnclosedPath) -> None:
    (root / "folder").mkdir()
    with pytest.raises(IsADirectoryError, match=r"root/\.folder.*new"):
        (root / "folder").write_bytes(b"x")
    assert root.names() == ["folder"]


def test_sizes_are_limited(root: EnclosedPath) -> None:
    (root / "file").create(b"12345")
    assert (root / "file").read_bytes(5) == b"12345"
    with pytest.raises(FileTooLargeError, match=r"Larger than 4 bytes: '.*/root/file'"):
        (root / "file").read_bytes(4)
    with pytest.raises(FileTooLargeError, match="Larger than 2 bytes"):
        (root / "file").read_text(limit=2)


def test_a_special_entry_is_found(root: EnclosedPath) -> None:
    assert (root / "missing").special_entry(depth=1) is None
    (root / "file").create(b"")
    assert (root / "file").special_entry(depth=1) is None
    (root / "folder").mkdir()
    (root / "folder" / "inner").mkdir()
    link = real(root / "folder" / "inner" / "link")
    link.symlink_to("anywhere")
    assert (root / "folder").special_entry(depth=0) is None
    assert (root / "folder").special_entry(depth=1) == str(link)
    assert (root / "folder" / "inner" / "link").special_entry(depth=0) == str(link)


def test_a_path_is_small_and_picklable(root: EnclosedPath) -> None:
    path = root / "a" / "b"
    assert pickle.loads(pickle.dumps(path)) == path  # noqa: S301
    assert (path.name, path.parent) == ("b", root / "a")
    assert EnclosedPath.of(real(path)) == EnclosedPath(real(root / "a"), ("b",))


NAMES = st.text(max_size=5) | st.sampled_from(["..", ".", "link", "/", "file"])


@given(names=st.lists(NAMES, min_size=1, max_size=4))
def test_no_path_leads_out(names: list[str], tmp_path_factory: pytest.TempPathFactory) -> None:
    base = tmp_path_factory.mktemp("base")
    (base / "file").write_bytes(b"precious")
    (base / "root").mkdir()
    (base / "root" / "link").symlink_to("..")
    path = EnclosedPath(base / "root", tuple(names))
    for access in ACCESSES.values():
        with suppress(OSError):
            access(path)
    assert names_in(base) == ["file", "root"]
    assert (base / "file").read_bytes() == b"precious"
