"""A trial of a pack drops the values that its single run drops."""

from __future__ import annotations

import torch

from celltune.models.layers.dropout import dropout
from celltune.models.packed.dropout import PackedDropout

RATES = (0.5, 0.0, 0.25)
CPU = torch.device("cpu")


def generators() -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in range(3)]


def test_values_are_dropped_as_in_single_runs() -> None:
    shapes = [(5, 4, 3), (7, 4, 3), (6, 2, 3)]
    values = torch.randn(3, 7, 4, 3)
    packed = PackedDropout(RATES, generators(), CPU)
    results = [packed(values, shapes) for _ in range(2)]
    for trial, (shape, rate) in enumerate(zip(shapes, RATES, strict=True)):
        part, generator = (trial, *map(slice, shape)), generators()[trial]
        for result in results:
            assert torch.equal(result[part], dropout(values[part], rate, True, generator))


def test_trial_without_documents_draws_nothing() -> None:
    own = generators()
    before = [generator.get_state() for generator in own]
    PackedDropout(RATES, own, CPU)(torch.randn(3, 2, 3), [(0, 3), (2, 3), (2, 3)])
    changed = [
        not torch.equal(old, generator.get_state())
        for old, generator in zip(before, own, strict=True)
    ]
    assert changed == [False, False, True]


def test_nothing_is_drawn_without_a_rate() -> None:
    values = torch.randn(2, 3)
    packed = PackedDropout((0.0, 0.0), generators()[:2], CPU)
    assert packed(values, [(3,), (3,)]) is values
