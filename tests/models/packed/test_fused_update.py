"""The optimizer kernel in Triton's interpreter; on a machine with a GPU, see `tests/gpu`."""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING, Any

import pytest
import torch

from celltune.models.packed import epochs, updates
from tests.models.packed.runs import (
    LOSS_BOUND,
    SETTINGS,
    STATE_BOUND,
    TECHNIQUES,
    Setting,
    batched_on_the_cpu,
    configs,
    data,
    difference,
    make_pack,
    make_trainer,
    on_the_cpu_only,
    values,
)

pytest.importorskip("triton")

if TYPE_CHECKING or torch.cuda.is_available():
    from celltune.models.packed import fused_update
else:
    # Triton reads the variable when a kernel is defined.
    _before = os.environ.get("TRITON_INTERPRET")
    os.environ["TRITON_INTERPRET"] = "1"
    from celltune.models.packed import fused_update

    os.environ.pop("TRITON_INTERPRET")
    if _before is not None:
        os.environ["TRITON_INTERPRET"] = _before

pytestmark = [pytest.mark.usefixtures("_fused"), on_the_cpu_only]
NO_MOMENTUM = Setting(4, {}, {"momentum": 0.0, "weight_decay": 0.1})


@pytest.fixture
def _fused(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(epochs, "make_update", fused_update.FusedUpdate)
    with batched_on_the_cpu():
        yield


# The interpreter needs milliseconds for each program, so the epochs have few steps.
BATCH = {"batch_size": 22}


@pytest.mark.parametrize("shape", [{}, {"batch_tokens": 150}, {"optimizer": "sgd"}], ids=str)
def test_numbers_equal_those_of_single_runs(shape: dict[str, Any]) -> None:
    compare((*SETTINGS, NO_MOMENTUM), {**BATCH, **shape})


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd"])
def test_techniques(optimizer: str) -> None:
    compare(TECHNIQUES, {**BATCH, "optimizer": optimizer, "wide": "add"})


def compare(settings: tuple[Setting, ...], shape: dict[str, Any]) -> None:
    prepared = data(wide=True)
    pack = make_pack(prepared, settings, **shape)
    singles = [make_trainer(prepared, setting, **shape) for setting in settings]
    for _ in range(2):
        results = pack.run_epoch()
        for member, single in zip(pack.members, singles, strict=True):
            expected = values(single.run_epoch())
            assert values(results[member]) == pytest.approx(expected, rel=LOSS_BOUND)
    for member, single in zip(pack.members, singles, strict=True):
        assert difference(member.state()[0], single.state()[0]) < STATE_BOUND


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_states_are_adopted_and_handed_over(optimizer: str) -> None:
    prepared, shape, setting = data(), {**BATCH, "optimizer": optimizer}, SETTINGS[0]
    single = make_trainer(prepared, setting, **shape)
    single.run_epoch()
    pack = make_pack(prepared, **shape)
    fresh = pack.members[0].state()
    assert not any(name.startswith("optimizer.") for name in fresh[0])
    pack.run_epoch()
    pack.members[0].load_state(*single.state())
    other = pack.members[1].state()
    pack.run_epoch()
    single.load_state(*pack.members[0].state())
    pack.remove(pack.members[0])
    joined = pack.add(*configs(setting, shape), seed=setting.seed)
    pack.run_epoch()
    expected = make_trainer(prepared, setting, **shape)
    first = [expected.run_epoch() for _ in range(2)]
    assert single.epoch == first[-1].epoch
    assert difference(single.state()[0], expected.state()[0]) < STATE_BOUND
    single.run_epoch()
    expected.run_epoch()
    assert difference(single.state()[0], expected.state()[0]) < STATE_BOUND
    assert joined.epoch == 1

    again = make_trainer(prepared, SETTINGS[1], **shape)
    again.load_state(*other)
    for _ in range(2):
        again.run_epoch()
    assert difference(pack.members[0].state()[0], again.state()[0]) < STATE_BOUND
    pack.members[0].load_state(*make_trainer(prepared, SETTINGS[1], **shape).state())
    pack.run_epoch()
    restarted = make_trainer(prepared, SETTINGS[1], **shape)
    restarted.run_epoch()
    assert difference(pack.members[0].state()[0], restarted.state()[0]) < STATE_BOUND


@pytest.mark.filterwarnings("ignore:(invalid value|overflow) encountered:RuntimeWarning")
def test_diverged_trial_leaves_the_others() -> None:
    pack = make_pack(data(), (Setting(8, {}, {"learning_rate": 3e38}), *SETTINGS), **BATCH)
    others = pack.members[1:]
    pack.run_epoch()
    assert pack.members == others
    for member, setting in zip(others, SETTINGS, strict=True):
        single = make_trainer(data(), setting, **BATCH)
        single.run_epoch()
        assert difference(member.state()[0], single.state()[0]) < STATE_BOUND


def test_kernel_that_cannot_run_is_replaced(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(device: torch.device) -> None:
        raise RuntimeError("no compiler\nfor a GPU")

    run = updates.fused_updates_run.__wrapped__
    monkeypatch.setattr(fused_update, "try_update", fail)
    with caplog.at_level(logging.WARNING):
        assert not run(torch.device("cuda"))
    assert "each trial is updated on its own, which is slower: no compiler" in caplog.text
    monkeypatch.setattr(fused_update, "try_update", lambda device: None)
    assert run(torch.device("cuda"))
    monkeypatch.setattr(updates, "triton_works", lambda: False)
    assert not run(torch.device("cuda"))


def test_exhausted_memory_says_nothing_about_the_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(device: torch.device) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(fused_update, "try_update", fail)
    with pytest.raises(torch.OutOfMemoryError, match="CUDA out of memory"):
        updates.fused_updates_run.__wrapped__(torch.device("cuda"))
