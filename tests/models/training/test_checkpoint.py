"""Checkpoints survive a round trip, replace each other atomically, and detect damage."""

from __future__ import annotations

import hashlib
import json
import tempfile
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save

from celltune.data_prep.io import enclosed
from celltune.models.errors import CheckpointError
from celltune.models.training import checkpoint

STATE = ({"weight": torch.arange(6.0).reshape(2, 3), "step": torch.tensor(3.0)}, {"epoch": 2})
PACKED = checkpoint.pack(STATE)
NEWER = ({"weight": torch.ones(2, 3), "step": torch.tensor(4.0)}, {"epoch": 3})


def same(left: tuple, right: tuple) -> bool:
    return left[1] == right[1] and all(torch.equal(left[0][k], right[0][k]) for k in right[0])


def test_state_survives_a_round_trip_and_is_replaced(tmp_path: Path) -> None:
    folder = tmp_path / "epoch"
    checkpoint.save(STATE, folder)
    assert same(checkpoint.load(folder), STATE)
    checkpoint.save(NEWER, folder)
    assert same(checkpoint.load(folder), NEWER)
    assert [path.name for path in tmp_path.iterdir()] == ["epoch"]


def test_leftovers_of_the_same_checkpoint_are_removed(tmp_path: Path) -> None:
    (tmp_path / ".epoch-1.abc.new").mkdir()
    (tmp_path / ".epoch-10.abc.new").mkdir()
    checkpoint.save(STATE, tmp_path / "epoch-1")
    assert sorted(path.name for path in tmp_path.iterdir()) == [".epoch-10.abc.new", "epoch-1"]


def _flip_last_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(bytes(content))


@pytest.mark.parametrize(
    ("name", "damage", "message"),
    [
        (checkpoint.TENSORS, Path.unlink, r"tensors.safetensors cannot be used: it cannot be read"),
        (checkpoint.STATE, Path.unlink, r"state.json cannot be used: it cannot be read \(No such"),
        (checkpoint.TENSORS, lambda p: p.write_bytes(p.read_bytes()[:-4]), "truncated or altered"),
        (checkpoint.TENSORS, _flip_last_byte, "it is altered: its sha256"),
        (checkpoint.STATE, lambda p: p.write_text(p.read_text()[:20]), "not valid JSON"),
        (checkpoint.STATE, lambda p: p.write_text('{"format": 9}'), "its format is not 1"),
    ],
)
def test_damaged_checkpoint_is_rejected(tmp_path: Path, name: str, damage, message: str) -> None:
    folder = tmp_path / "epoch"
    checkpoint.save(STATE, folder)
    damage(folder / name)
    with pytest.raises(CheckpointError, match=message):
        checkpoint.load(folder)


def test_a_removed_checkpoint_is_named(tmp_path: Path) -> None:
    message = r"The checkpoint .*/epoch-1 does not exist: it was removed, such as by pruning\."
    with pytest.raises(CheckpointError, match=message):
        checkpoint.load(tmp_path / "epoch-1")


def rewrite(folder: Path, **values: Any) -> None:
    """Change values in state.json, with a valid checksum of its state."""
    description = json.loads((folder / checkpoint.STATE).read_text())
    description.update(values)
    description["state_sha256"] = checkpoint._digest(description["state"])
    (folder / checkpoint.STATE).write_text(json.dumps(description))


def replace_tensors(folder: Path, content: bytes) -> None:
    (folder / checkpoint.TENSORS).write_bytes(content)
    rewrite(folder, bytes=len(content), sha256=hashlib.sha256(content).hexdigest())


def loaded_or_rejected(folder: Path) -> bool:
    """Load a state: True if its weights are numbers, False after an error of one line."""
    tracemalloc.start()
    problem = ""
    try:
        tensors, values = checkpoint.load(folder)
        assert isinstance(values, dict)
        assert all(torch.isfinite(tensors[name]).all() for name in tensors if "model." in name)
    except CheckpointError as error:
        problem = str(error)
        assert problem.startswith("The checkpoint file ")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 22
    assert problem.isprintable()
    assert len(problem) < 600
    return not problem


HOSTILE = st.sampled_from(
    [None, True, -1, 0, 2**63, 10**30, 0.5, "", "x", "\x1b", "../x", "/etc/passwd", [], {}]
)


@settings(max_examples=40, derandomize=True, deadline=None)
@given(
    key=st.sampled_from(["format", "tensors", "bytes", "sha256", "state", "other"]), value=HOSTILE
)
def test_changed_descriptions_are_rejected(key: str, value: Any) -> None:
    with tempfile.TemporaryDirectory() as root:
        folder = Path(root)
        for file, content in zip((checkpoint.TENSORS, checkpoint.STATE), PACKED, strict=True):
            (folder / file).write_bytes(content)
        rewrite(folder, **{key: value})
        unchanged = key == "other" or (key, value) == ("state", {})
        assert loaded_or_rejected(folder) == unchanged


@settings(max_examples=40, derandomize=True, deadline=None)
@given(
    name=st.sampled_from(["model.w", "optimizer.w.exp_avg", "optimizer.w.weights"]),
    value=st.sampled_from([np.nan, np.inf, -np.inf, 3e38, 1e18, 0.0]),
    dtype=st.sampled_from([np.float32, np.float64, np.float16]),
)
def test_weights_that_are_no_numbers_are_rejected(
    name: str, value: float, dtype: type[np.floating[Any]]
) -> None:
    with tempfile.TemporaryDirectory() as root:
        folder = Path(root)
        for file, content in zip((checkpoint.TENSORS, checkpoint.STATE), PACKED, strict=True):
            (folder / file).write_bytes(content)
        with np.errstate(over="ignore"):
            array = np.array([[0, value]], dtype)
        replace_tensors(folder, save({name: array}))
        is_weight = name != "optimizer.w.exp_avg"
        valid = not np.isnan(value) and (not is_weight or abs(float(array[0, 1])) <= 1.001e18)
        assert loaded_or_rejected(folder) == valid


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: replace_tensors(f, b"x"), "it has 1 bytes, fewer than the size of its header"),
        (lambda f: replace_tensors(f, b"\xff" * 9), "its header would have 18,446,744,073,709,5"),
        (lambda f: rewrite(f, bytes=10**15), "is truncated or altered: 72 bytes instead of 10000"),
        (lambda f: rewrite(f, bytes=10), "is truncated or altered: 72 bytes instead of 10"),
        (lambda f: rewrite(f, bytes="1"), "the size in state.json is '1'"),
        (lambda f: rewrite(f, tensors="../x"), "'tensors' is not a file name: '../x'"),
        (
            lambda f: (f / checkpoint.STATE).write_text('{"state":' + "[" * 10**5),
            "it is truncated or altered: it is nested too deeply",
        ),
        (
            lambda f: (f / checkpoint.STATE).write_text('{"format": 1, "format": 1}'),
            "it is truncated or altered: the key 'format' is there twice",
        ),
    ],
)
def test_forged_checkpoint_is_rejected(
    tmp_path: Path, change: Callable[[Path], Any], message: str
) -> None:
    folder = tmp_path / "epoch"
    checkpoint.save(({}, {"epoch": 2}), folder)
    replace_tensors(folder, save({"x": np.zeros(2, np.float32)}))
    change(folder)
    with pytest.raises(CheckpointError, match=message):
        checkpoint.load(folder)


def test_a_sparse_file_of_any_size_is_not_read(tmp_path: Path) -> None:
    checkpoint.save(STATE, tmp_path)
    rewrite(tmp_path, bytes=1 << 42)
    with (tmp_path / checkpoint.TENSORS).open("r+b") as file:
        file.truncate(1 << 42)
    assert not loaded_or_rejected(tmp_path)


def test_a_checkpoint_that_does_not_fit_into_memory_is_not_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def exhaust(*_: object) -> bytes:
        raise MemoryError

    checkpoint.save(STATE, tmp_path)
    monkeypatch.setattr(enclosed, "read_limited", exhaust)
    with pytest.raises(OSError, match="Cannot allocate memory"):
        checkpoint.load(tmp_path)


def test_a_description_of_any_size_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoint, "_STATE_BYTES", 10)
    checkpoint.save(STATE, tmp_path / "epoch")
    with pytest.raises(CheckpointError, match=r"state\.json .*: it is larger than 10 b"):
        checkpoint.load(tmp_path / "epoch")


def test_state_file_without_state_is_rejected(tmp_path: Path) -> None:
    folder = tmp_path / "epoch"
    checkpoint.save(STATE, folder)
    description = json.loads((folder / checkpoint.STATE).read_text())
    del description["state"]
    (folder / checkpoint.STATE).write_text(json.dumps(description))
    with pytest.raises(CheckpointError, match="'state' is missing"):
        checkpoint.load(folder)
