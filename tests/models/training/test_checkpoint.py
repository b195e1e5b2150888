"""Checkpoints survive a round trip, replace each other atomically, and detect damage."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from celltune.models.errors import CheckpointError
from celltune.models.training import checkpoint

STATE = ({"weight": torch.arange(6.0).reshape(2, 3), "step": torch.tensor(3.0)}, {"epoch": 2})
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
        (checkpoint.STATE, lambda p: p.write_text(p.read_text()[:20]), "not JSON"),
        (checkpoint.STATE, lambda p: p.write_text('{"format": 9}'), "its format is not 1"),
    ],
)
def test_damaged_checkpoint_is_rejected(tmp_path: Path, name: str, damage, message: str) -> None:
    folder = tmp_path / "epoch"
    checkpoint.save(STATE, folder)
    damage(folder / name)
    with pytest.raises(CheckpointError, match=message):
        checkpoint.load(folder)


def test_state_file_without_state_is_rejected(tmp_path: Path) -> None:
    folder = tmp_path / "epoch"
    checkpoint.save(STATE, folder)
    description = json.loads((folder / checkpoint.STATE).read_text())
    del description["state"]
    (folder / checkpoint.STATE).write_text(json.dumps(description))
    with pytest.raises(CheckpointError, match="'state' is missing"):
        checkpoint.load(folder)
