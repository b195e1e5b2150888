"""Packed trials on the persistent kernels, which skip padding after the longest document."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from celltune.models.layers.base import Cell
from celltune.models.packed import network
from tests.models.layers.test_persistent import launch
from tests.models.packed.runs import (
    LOSS_BOUND,
    SETTINGS,
    STATE_BOUND,
    batched_on_the_cpu,
    difference,
    make_pack,
    make_trainer,
    on_the_cpu_only,
    values,
)
from tests.models.random_data import make_data, make_split

pytestmark = [
    on_the_cpu_only,
    # The interpreter converts arrays of one element to bounds of loops.
    pytest.mark.filterwarnings(
        "ignore:Conversion of an array with ndim > 0 to a scalar:DeprecationWarning"
    ),
]


def test_spans_do_not_change_the_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    spans: list[Any] = []

    class Recording(launch.PersistentLoop):
        def forward(self, *arguments: Any) -> tuple[torch.Tensor, ...]:
            spans.append(arguments[-1])
            return super().forward(*arguments)

    def loop(
        cell: Cell, size: int, dtype: torch.dtype, device: torch.device, *, spans: bool
    ) -> Recording:
        assert spans
        return Recording(cell.loop, launch.KERNELS[cell.persistent])

    monkeypatch.setattr(network, "persistent_loop", loop)
    # The interpreter needs milliseconds for each step of a program.
    prepared = make_data(make_split(6, 1, longest=4), make_split(3, 2, longest=3))
    shape = {"bidirectional": True, "batch_size": 4}
    with batched_on_the_cpu():
        pack = make_pack(prepared, SETTINGS[:2], **shape)
        results = pack.run_epoch()
        for member, setting in zip(pack.members, SETTINGS, strict=False):
            single = make_trainer(prepared, setting, **shape)
            expected = values(single.run_epoch())
            assert values(results[member]) == pytest.approx(expected, rel=LOSS_BOUND)
            assert difference(member.state()[0], single.state()[0]) < STATE_BOUND
    assert len({tuple(own.flatten().tolist()) for own in spans}) > 1
    assert all(own.shape == (4, 2) and own.dtype == torch.int32 for own in spans)
