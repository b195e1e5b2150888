from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import pytest
import torch

from celltune.data_prep.io.enclosed import EnclosedPath
from celltune.models.training import checkpoint
from tests.search.local_checkpoints import local_checkpoints

STATE: checkpoint.State = ({"w": torch.arange(4.0)}, {"epoch": 3})


@pytest.mark.parametrize("number", [errno.ENOENT, errno.ENOTEMPTY])
def test_save_succeeds_while_a_replaced_worker_writes_the_same_checkpoint(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = EnclosedPath.create, []

    def create(path: EnclosedPath, content: bytes) -> None:
        calls.append(path)
        if len(calls) == 1:
            path.parent.remove_all()
            raise OSError(number, "replaced by the other worker")
        real(path, content)

    monkeypatch.setattr(EnclosedPath, "create", create)
    local_checkpoints(tmp_path / "trial").save(STATE, "epoch-3")
    tensors, rest = local_checkpoints(tmp_path / "trial").load("epoch-3")
    assert torch.equal(tensors["w"], STATE[0]["w"])
    assert rest == {"epoch": 3}


def test_other_disk_errors_are_raised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Any] = []

    def create(path: EnclosedPath, content: bytes) -> None:
        calls.append(path)
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(EnclosedPath, "create", create)
    with pytest.raises(OSError, match="No space left"):
        local_checkpoints(tmp_path / "trial").save(STATE, "epoch-3")
    assert len(calls) == 1
