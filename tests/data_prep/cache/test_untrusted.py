"""Forged caches: every change with valid checksums is used as it is, or prepared again."""

from __future__ import annotations

import hashlib
import io
import json
import logging
import os
import pickle
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from celltune.data_prep.cache.disk import PREPARED, Codec, _digest, codec_of_test, load_or_build
from celltune.data_prep.cache.inventory import cached_datasets
from celltune.data_prep.config import DataConfig
from celltune.data_prep.dataset.tensorized import PreparedData, PreparedTest, TensorizedSplit
from celltune.data_prep.preparation.pipeline import prepare, prepare_test

CONFIG = DataConfig(source="synthetic", reviews=40, test_size=0.2, wide=True)
NAMES = ("train-ids", "train-offsets", "valid-labels", "valid-wide", "vectors", "wide-words_2")


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, PreparedData, PreparedTest]:
    """A cache with a data set, to which word vectors are added, and its test split."""
    cache = tmp_path_factory.mktemp("cache")
    data, test = prepare(CONFIG, cache_dir=cache), prepare_test(CONFIG, cache_dir=cache)
    folder = cache / data.fingerprint
    vectors = np.zeros((data.vocabulary_size, 2), np.float32)
    replace_file(folder, "vectors.npy", npy(vectors))
    return cache, data, test


@pytest.fixture
def cache(original: tuple[Path, PreparedData, PreparedTest], tmp_path: Path) -> Path:
    return shutil.copytree(original[0], tmp_path / "cache")


def npy(array: NDArray[Any]) -> bytes:
    file = io.BytesIO()
    np.save(file, array, allow_pickle=True)
    return file.getvalue()


def change_manifest(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    del manifest["manifest_sha256"]
    change(manifest)
    manifest["manifest_sha256"] = _digest(manifest)
    path.write_text(json.dumps(manifest))


def replace_file(folder: Path, name: str, content: bytes) -> None:
    (folder / name).write_bytes(content)
    digest = hashlib.sha256(content).hexdigest()
    change_manifest(folder, lambda manifest: manifest["sha256"].update({name: digest}))


def assert_valid(split: TensorizedSplit, words: int, classes: int) -> None:
    """Check what C++ and PyTorch rely on, document by document."""
    assert split.offsets[0] == 0
    assert split.offsets[-1] == len(split.ids)
    assert len(split) == len(split.offsets) - 1 == len(split.labels)
    assert all(length > 0 for length in split.lengths)
    assert set(split.ids.tolist()) <= set(range(words))
    assert set(split.labels.tolist()) <= set(range(classes))
    assert [split.ids.dtype, split.offsets.dtype, split.labels.dtype] == [
        np.int32,
        np.int64,
        np.int64,
    ]
    if split.wide is not None:
        assert split.wide.shape == (len(split), 1)
        assert np.isfinite(split.wide).all()


def load(
    cache: Path, data: Any, codec: Codec[Any], caplog: pytest.LogCaptureFixture
) -> tuple[Any, str]:
    """Load data, or build them again; return them, and the warning about the damage."""
    caplog.clear()
    with caplog.at_level(logging.WARNING, "celltune.data_prep"):
        loaded = load_or_build(cache, data.fingerprint, lambda: data, codec)
    messages = [record.getMessage() for record in caplog.records]
    assert (loaded is data) == bool(messages)
    assert len(messages) <= 1
    assert all(message.isprintable() and len(message) < 700 for message in messages)
    return loaded, "".join(messages)


VALUES = [-1, -(2**31), 0, 1, 2, 10**6, 2**31 - 1, np.nan, np.inf, 1e30]


def changed(array: NDArray[Any], data: st.DataObject) -> NDArray[Any]:
    kind = data.draw(st.sampled_from(["value", "type", "cut", "shape", "empty"]))
    if kind == "type":
        types = [np.int8, np.int32, np.int64, np.float32, np.float64, ">i4", object]
        return array.astype(data.draw(st.sampled_from(types)))
    if kind == "value" and array.size:
        values = VALUES if array.dtype.kind == "f" else VALUES[:7]
        copy = array.copy()
        value = data.draw(st.sampled_from(values))
        if array.dtype.kind == "f" or abs(value) <= np.iinfo(array.dtype).max:
            copy.reshape(-1)[data.draw(st.integers(0, array.size - 1))] = value
        return copy
    return {"cut": array[:-1], "shape": array[None], "empty": array[:0], "value": array}[kind]


@pytest.mark.parametrize("name", NAMES)
def test_changed_arrays(
    name: str,
    original: tuple[Path, PreparedData, PreparedTest],
    cache: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    _, data, _ = original
    folder = cache / data.fingerprint
    file = f"{name}.npy"
    array = np.load(original[0] / data.fingerprint / file)

    @settings(max_examples=15, derandomize=True, deadline=None)
    @given(draw=st.data())
    def check(draw: st.DataObject) -> None:
        shutil.rmtree(folder)
        shutil.copytree(original[0] / data.fingerprint, folder)
        with np.errstate(all="ignore"):
            replace_file(folder, file, npy(changed(array, draw)))
        loaded, _ = load(cache, data, PREPARED, caplog)
        for split in (loaded.train, loaded.valid):
            assert_valid(split, len(loaded.words), len(loaded.classes))
        if loaded.vectors is not None:
            assert loaded.vectors.shape == (len(loaded.words), 2)
            assert np.isfinite(loaded.vectors).all()

    check()


class _Executed:
    """Creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def header(text: str, version: bytes = b"\x01\x00") -> bytes:
    return b"\x93NUMPY" + version + len(text).to_bytes(2, "little") + text.encode()


HUGE = "{'descr': '<i4', 'fortran_order': False, 'shape': (1000000000000,), }\n"
RECORDS = "{'descr': [('a', '<i4')], 'fortran_order': False, 'shape': (1,), }\n"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "train-ids.npy",
            header(HUGE),
            "train-ids.npy has 80 bytes, which do not match",
        ),
        ("train-ids.npy", header(RECORDS) + bytes(4), "train-ids.npy is not an array of numbers"),
        ("train-ids.npy", header("(" * 9_000), "train-ids.npy is not an array of numbers"),
        ("train-ids.npy", header(HUGE, b"\x02\x00"), "train-ids.npy is not an array of numbers"),
        ("train-ids.npy", b"", "train-ids.npy is not an array of numbers"),
        ("words.json", b'["<unk>", "<pad>"]', "contains no known word"),
        ("words.json", b'["<unk>", "<pad>", "a", "a"]', "contains the word 'a' twice"),
        ("words.json", b"[" * 10**5, "words.json cannot be used: it is nested too deeply"),
        ("words.json", b'["<unk>", "<pad>", "a"]', "the ids of train are not all from 0 to 2"),
        ("../x.npy", b"", "manifest.json lists '../x.npy', which is not the name of an array"),
    ],
)
def test_changed_files_are_prepared_again(
    name: str,
    content: bytes,
    message: str,
    original: tuple[Path, PreparedData, PreparedTest],
    cache: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    replace_file(cache / original[1].fingerprint, name, content)
    assert message in load(cache, original[1], PREPARED, caplog)[1]


def test_a_file_that_shrinks_while_it_is_read_is_prepared_again(
    original: tuple[Path, PreparedData, PreparedTest],
    cache: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(np, "fromfile", lambda *_: np.zeros(1, np.uint8))
    assert "was truncated while it was read" in load(cache, original[1], PREPARED, caplog)[1]


def test_pickles_are_not_executed(
    original: tuple[Path, PreparedData, PreparedTest],
    cache: Path,
    caplog: pytest.LogCaptureFixture,
    tmp_path: Path,
) -> None:
    bomb = _Executed(tmp_path / "executed")
    for content in (npy(np.array([bomb], object)), pickle.dumps(bomb)):
        replace_file(cache / original[1].fingerprint, "train-labels.npy", content)
        assert "train-labels.npy is not an array" in load(cache, original[1], PREPARED, caplog)[1]
    assert not bomb.path.exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m.update(classes=["a", "a"]), "contains the class 'a' twice"),
        (lambda m: m.update(classes=["a"]), "has 1 names, but a classifier needs"),
        (lambda m: m.update(info=[]), "its description is invalid"),
        (lambda m: m["info"]["train"].update(reviews=7), "description of train differs from"),
        (
            lambda m: m["info"]["train"].update(tokens="\x1b"),
            "invalid (train.tokens: Input shou",
        ),
        (lambda m: m["info"].pop("wide"), "its description and its arrays differ in the wide part"),
        (lambda m: m["info"]["wide"].pop("penalty"), "invalid (wide.penalty: Field required)"),
        (lambda m: m.update(vectors_tuned=2), "vectors_tuned is neither true nor false"),
        (lambda m: m.update(format=2), "its format and fingerprint are '(2, "),
        (lambda m: m.update(sha256=None), "train-ids.npy is missing"),
        (lambda m: m["sha256"].update({"train-ids.npy": 1}), "the checksum of train-ids.npy is wr"),
    ],
)
def test_changed_manifests_are_prepared_again(
    change: Callable[[dict[str, Any]], Any],
    message: str,
    original: tuple[Path, PreparedData, PreparedTest],
    cache: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    change_manifest(cache / original[1].fingerprint, change)
    assert message in load(cache, original[1], PREPARED, caplog)[1]


@pytest.mark.parametrize("name", ["manifest.json", "words.json", "train-ids.npy"])
@pytest.mark.parametrize("kind", ["fifo", "folder", "link", "device"])
def test_special_files_are_prepared_again(
    name: str,
    kind: str,
    original: tuple[Path, PreparedData, PreparedTest],
    cache: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    path = cache / original[1].fingerprint / name
    path.rename(cache / "moved")
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to("/dev/zero" if kind == "device" else cache / "moved")
    assert len(cached_datasets(cache)) == 2
    assert "Not a regular file" in load(cache, original[1], PREPARED, caplog)[1]
    assert load(cache, original[1], PREPARED, caplog)[1] == ""


@pytest.mark.parametrize("kind", ["fifo", "file", "link", "dangling"])
def test_what_has_the_place_of_a_folder_is_replaced(
    kind: str,
    original: tuple[Path, PreparedData, PreparedTest],
    cache: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    folder = cache / original[1].fingerprint
    folder.rename(cache / "moved")
    if kind == "fifo":
        os.mkfifo(folder)
        os.mkfifo(cache / f".{folder.name}-leftover")
    elif kind == "file":
        folder.write_text("content")
    elif kind == "dangling":
        folder.symlink_to(cache / "missing")
    else:
        (cache / "moved" / "manifest.json").unlink()
        folder.symlink_to(cache / "moved")
    data = replace(original[1])
    assert load_or_build(cache, data.fingerprint, lambda: data, PREPARED) is data
    assert load(cache, data, PREPARED, caplog)[1] == ""
    assert (cache / "moved" / "words.json").is_file()


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("test-ids", lambda a: a + 10**6, "the ids of test are not all from 0 to"),
        ("test-labels", lambda a: a + 1, "the labels of test are not all from 0 to 1"),
        ("test-offsets", lambda a: a[::-1].copy(), "the offsets of test do not ascend"),
        ("test-wide", lambda a: a[:, :0], "the outputs of the wide part for test is float32"),
        ("test-wide", lambda a: a * np.nan, "an output of the wide part for test is no number"),
        ("test-wide-train-valid", lambda a: a[1:], "the outputs of the wide part for test is flo"),
    ],
)
def test_changed_test_splits_are_prepared_again(
    name: str,
    change: Callable[[NDArray[Any]], NDArray[Any]],
    message: str,
    original: tuple[Path, PreparedData, PreparedTest],
    cache: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    _, data, test = original
    folder = cache / test.fingerprint
    replace_file(folder, f"{name}.npy", npy(change(np.load(folder / f"{name}.npy"))))
    codec = codec_of_test(data.vocabulary_size, data.num_classes)
    assert message in load(cache, test, codec, caplog)[1]
    assert load(cache, test, codec, caplog)[1] == ""
