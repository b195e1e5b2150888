from __future__ import annotations

import logging
import multiprocessing
import multiprocessing.synchronize
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import IO, Any, NoReturn

import numpy as np
import pytest

from celltune.data_prep.cache.disk import PREPARED, codec_of_test, find, load_or_build
from celltune.data_prep.dataset.tensorized import PreparedData, PreparedTest, TensorizedSplit
from celltune.data_prep.errors import DataError

NAME, TEST_NAME = "0123abcd", "0123abce"
TEST = codec_of_test(4, 2)


def built() -> PreparedData:
    split = TensorizedSplit(
        np.array([2, 3, 0], dtype=np.int32),
        np.array([0, 1, 3], dtype=np.int64),
        np.array([0, 1], dtype=np.int64),
    )
    words = ("<unk>", "<pad>", "schön", "a\u2028b")
    return PreparedData(NAME, split, split, ("neg", "pos"), words, {"reviews": 4})


def unexpected() -> PreparedData:
    pytest.fail("built again")


def test_loaded_data_equals_built_data(tmp_path: Path) -> None:
    first = load_or_build(tmp_path / "new" / "cache", NAME, built, PREPARED)
    second = load_or_build(tmp_path / "new" / "cache", NAME, unexpected, PREPARED)
    assert (second.fingerprint, second.classes) == (NAME, ("neg", "pos"))
    assert (second.words, second.info) == (first.words, first.info)
    for split in ("train", "valid"):
        for array in ("ids", "offsets", "labels"):
            stored, loaded = (getattr(getattr(data, split), array) for data in (first, second))
            assert stored.dtype == loaded.dtype
            assert stored.tolist() == loaded.tolist()


def test_outputs_of_the_wide_part_are_stored(tmp_path: Path) -> None:
    wide = np.array([[0.5], [-1]], dtype=np.float32)
    split = replace(built().train, wide=wide)
    data = replace(built(), train=split, valid=replace(split, wide=-wide))
    test = PreparedTest(TEST_NAME, split, wide_train_valid=2 * wide)
    load_or_build(tmp_path, NAME, lambda: data, PREPARED)
    loaded = load_or_build(tmp_path, NAME, unexpected, PREPARED)
    load_or_build(tmp_path, TEST_NAME, lambda: test, TEST)
    loaded_test = find(tmp_path, TEST_NAME, TEST)
    assert loaded_test is not None
    outputs = [
        loaded.train.wide,
        loaded.valid.wide,
        loaded_test.split.wide,
        loaded_test.wide_train_valid,
    ]
    for output, factor in zip(outputs, (1, -1, 1, 2), strict=True):
        assert output is not None
        assert output.dtype == np.float32
        assert output.tolist() == (factor * wide).tolist()


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 0xFF
    path.write_bytes(content)


def replace_text(path: Path, old: str, new: str) -> None:
    content = path.read_text()
    assert old in content
    path.write_text(content.replace(old, new))


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: flip(folder / "train-ids.npy"),
        lambda folder: flip(folder / "words.json"),
        lambda folder: (folder / "valid-labels.npy").unlink(),
        lambda folder: (folder / "manifest.json").unlink(),
        lambda folder: replace_text(folder / "manifest.json", '"neg"', '"pos"'),
        lambda folder: (folder / "manifest.json").write_text("[1]"),
        lambda folder: (folder / "manifest.json").write_text('{"format": 0, "fingerprint": "x"}'),
    ],
    ids=[
        "array",
        "words",
        "missing array",
        "missing manifest",
        "classes",
        "invalid manifest",
        "older format",
    ],
)
def test_damaged_folder_is_rebuilt_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: Callable[[Path], None]
) -> None:
    load_or_build(tmp_path, NAME, built, PREPARED)
    damage(tmp_path / NAME)
    with caplog.at_level(logging.WARNING, "data_prep"):
        load_or_build(tmp_path, NAME, built, PREPARED)
    assert "is damaged" in caplog.text
    assert load_or_build(tmp_path, NAME, unexpected, PREPARED).words == built().words


def test_a_link_in_place_of_a_folder_is_replaced_without_its_target(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file").write_text("precious")
    for target in (outside, tmp_path / "missing"):
        cache = tmp_path / f"cache-{target.name}"
        cache.mkdir()
        (cache / NAME).symlink_to(target)
        load_or_build(cache, NAME, built, PREPARED)
        assert not (cache / NAME).is_symlink()
        load_or_build(cache, NAME, unexpected, PREPARED)
    assert (outside / "file").read_text() == "precious"


def test_failed_build_leaves_the_cache_unchanged(tmp_path: Path) -> None:
    def fails() -> PreparedData:
        raise DataError("row 7 is empty")

    with pytest.raises(DataError, match="row 7 is empty"):
        load_or_build(tmp_path, NAME, fails, PREPARED)
    assert [file.name for file in tmp_path.iterdir()] == [f"{NAME}.lock"]


def test_error_of_a_source_is_not_reported_as_an_error_of_the_cache(tmp_path: Path) -> None:
    def fails() -> PreparedData:
        raise FileNotFoundError("reviews.csv")

    with pytest.raises(FileNotFoundError, match=r"reviews\.csv"):
        load_or_build(tmp_path, NAME, fails, PREPARED)
    assert len(load_or_build(tmp_path, NAME, built, PREPARED).train) == 2


def with_vectors() -> PreparedData:
    return replace(built(), vectors=np.zeros((4, 2), np.float32))


TEST_NAME = "4567cdef"
FILES = (
    *(
        f"{split}-{array}.npy"
        for split in ("train", "valid")
        for array in ("ids", "offsets", "labels")
    ),
    "vectors.npy",
    "words.json",
    "manifest.json",
)
TEST_FILES = ("test-ids.npy", "test-offsets.npy", "test-labels.npy", "manifest.json")


def load_all(cache: Path) -> None:
    load_or_build(cache, NAME, with_vectors, PREPARED)
    load_or_build(cache, TEST_NAME, lambda: PreparedTest(TEST_NAME, built().train), TEST)


def fill_disk(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Simulate a disk that is full after half of the file with this name."""

    def opened(self: Path, mode: str = "r", *arguments: Any, **options: Any) -> IO[Any]:
        file = open_path(self, mode, *arguments, **options)
        return HalfWritten(file) if "w" in mode and self.name == name else file

    class HalfWritten:
        def __init__(self, file: IO[Any]) -> None:
            self.file = file

        def __getattr__(self, attribute: str) -> Any:
            return getattr(self.file, attribute)

        def __enter__(self) -> HalfWritten:
            return self

        def __exit__(self, *_: object) -> None:
            self.file.close()

        def write(self, content: Any) -> NoReturn:
            self.file.write(content[: len(content) // 2])
            self.file.flush()
            raise OSError(28, "No space left on device")

    open_path = Path.open
    monkeypatch.setattr(Path, "open", opened)


def files_of(cache: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(cache)): path.read_bytes()
        for path in cache.rglob("*")
        if path.is_file() and path.suffix != ".lock"
    }


def test_folders_contain_exactly_these_files(tmp_path: Path) -> None:
    load_all(tmp_path)
    assert {path.name for path in (tmp_path / NAME).iterdir()} == set(FILES)
    assert {path.name for path in (tmp_path / TEST_NAME).iterdir()} == set(TEST_FILES)


@pytest.mark.parametrize("name", [*FILES, *TEST_FILES[:-1]])
def test_full_disk_leaves_the_cache_unchanged(tmp_path: Path, name: str) -> None:
    load_or_build(tmp_path, "other", lambda: replace(built(), fingerprint="other"), PREPARED)
    if name in TEST_FILES[:-1]:
        load_or_build(tmp_path, NAME, with_vectors, PREPARED)
    before = files_of(tmp_path)
    with pytest.MonkeyPatch.context() as patch:
        fill_disk(patch, name)
        with pytest.raises(
            DataError, match=r"cannot be written .No space left on device.*Free some space"
        ):
            load_all(tmp_path)
    assert files_of(tmp_path) == before
    load_all(tmp_path)
    assert len(load_or_build(tmp_path, NAME, unexpected, PREPARED).train) == 2


def test_full_disk_leaves_a_damaged_folder_in_place(tmp_path: Path) -> None:
    load_all(tmp_path)
    flip(tmp_path / NAME / "words.json")
    before = files_of(tmp_path)
    with pytest.MonkeyPatch.context() as patch:
        fill_disk(patch, "manifest.json")
        with pytest.raises(DataError, match="No space left on device"):
            load_all(tmp_path)
    assert files_of(tmp_path) == before


@pytest.mark.parametrize("target", ["tempfile.mkdtemp", "pathlib.Path.rename"])
def test_full_disk_when_creating_or_renaming_a_folder(tmp_path: Path, target: str) -> None:
    def full(*_: object, **__: object) -> NoReturn:
        raise OSError(28, "No space left on device")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(target, full)
        with pytest.raises(DataError, match="No space left on device"):
            load_all(tmp_path)
    assert files_of(tmp_path) == {}
    load_all(tmp_path)


def test_cache_that_is_a_file_is_rejected(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("content")
    with pytest.raises(DataError, match=r"cache cannot be written .*set CELLTUNE_CACHE"):
        load_or_build(tmp_path / "cache", NAME, built, PREPARED)
    assert (tmp_path / "cache").read_text() == "content"


def test_read_only_cache_loads_data_but_cannot_store_new_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load_or_build(tmp_path, NAME, built, PREPARED)

    def read_only(_: Path) -> NoReturn:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr("celltune.data_prep.cache.disk.locked", read_only)
    assert len(load_or_build(tmp_path, NAME, unexpected, PREPARED).train) == 2
    with pytest.raises(DataError, match=r"cannot be written .Read-only file system"):
        load_or_build(tmp_path, "other", built, PREPARED)


def test_temporary_folders_of_killed_processes_are_removed(tmp_path: Path) -> None:
    leftover = tmp_path / f".{NAME}-abc"
    leftover.mkdir(parents=True)
    (leftover / "train-ids.npy").write_text("half")
    load_or_build(tmp_path, NAME, built, PREPARED)
    assert not leftover.exists()


def _load_and_count_builds(
    cache: Path, builds: Path, ready: multiprocessing.synchronize.Barrier
) -> None:
    def counted() -> PreparedData:
        with builds.open("a") as file:
            file.write("built\n")
        return built()

    ready.wait()
    load_or_build(cache, NAME, counted, PREPARED)


def test_two_processes_build_the_data_once(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    ready = context.Barrier(2)
    builds = tmp_path / "builds"
    arguments = (tmp_path / "cache", builds, ready)
    processes = [context.Process(target=_load_and_count_builds, args=arguments) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0]
    assert builds.read_text() == "built\n"
