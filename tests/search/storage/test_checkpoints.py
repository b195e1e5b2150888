from __future__ import annotations

import errno
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from celltune.models.training import checkpoint
from celltune.search.storage.checkpoints import LocalCheckpoints

STATE: checkpoint.State = ({"w": torch.arange(4.0)}, {"epoch": 3})


@pytest.mark.parametrize("number", [errno.ENOENT, errno.ENOTEMPTY])
def test_save_succeeds_while_a_replaced_worker_writes_the_same_checkpoint(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = checkpoint.write_durably, []

    def write(path: Path, content: bytes) -> None:
        calls.append(path)
        if len(calls) == 1:
            real(tmp_path / "trial" / "epoch-3-of-the-other", content)
            shutil.rmtree(path.parent)
            raise OSError(number, "replaced by the other worker")
        real(path, content)

    monkeypatch.setattr(checkpoint, "write_durably", write)
    LocalCheckpoints(tmp_path / "trial").save(STATE, "epoch-3")
    tensors, rest = LocalCheckpoints(tmp_path / "trial").load("epoch-3")
    assert torch.equal(tensors["w"], STATE[0]["w"])
    assert rest == {"epoch": 3}


def test_other_disk_errors_are_raised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Any] = []

    def write(path: Path, content: bytes) -> None:
        calls.append(path)
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(checkpoint, "write_durably", write)
    with pytest.raises(OSError, match="No space left"):
        LocalCheckpoints(tmp_path / "trial").save(STATE, "epoch-3")
    assert len(calls) == 1
