"""Every trial of a pack has the numbers and the checkpoints of its single run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from celltune.models.config import ModelConfig
from celltune.models.errors import DivergedError, TrialError
from celltune.models.extensions import CELLS, READOUTS
from celltune.models.layers import loop_layer
from celltune.models.layers.base import Cell, State
from celltune.models.network.readout import FinalReadout
from celltune.models.packed import epochs
from celltune.models.packed.trainer import PackedMember, PackedTrainer
from celltune.models.training import trainer
from celltune.models.training.metrics import Predictions
from tests.models.packed.runs import (
    LOSS_BOUND,
    SETTINGS,
    STATE_BOUND,
    TECHNIQUES,
    Setting,
    assert_equal_states,
    batched_on_the_cpu,
    configs,
    data,
    difference,
    make_pack,
    make_trainer,
    values,
)

CALM = Setting(9)
DIVERGING = Setting(9, {}, {"learning_rate": 3e38, "gradient_clip": None})


@pytest.fixture(params=["batched", "one_by_one"])
def _mode(request: pytest.FixtureRequest) -> Iterator[None]:
    with batched_on_the_cpu() if request.param == "batched" else nullcontext():
        yield


@pytest.fixture
def _batched() -> Iterator[None]:
    with batched_on_the_cpu():
        yield


def compare(
    prepared: Any, epochs: int = 2, settings: Sequence[Setting] = SETTINGS, **shape: Any
) -> None:
    """Run a pack and the single runs of its trials; compare all their numbers."""
    pack = make_pack(prepared, settings, **shape)
    singles = [make_trainer(prepared, setting, **shape) for setting in settings]
    for _ in range(epochs):
        results = pack.run_epoch()
        for member, single in zip(pack.members, singles, strict=True):
            expected = values(single.run_epoch())
            assert values(results[member])[:3] == expected[:3]
            assert values(results[member]) == pytest.approx(expected, rel=LOSS_BOUND)
    for member, single in zip(pack.members, singles, strict=True):
        (tensors, meta), (expected_tensors, expected_meta) = member.state(), single.state()
        assert meta == expected_meta
        assert difference(tensors, expected_tensors) < STATE_BOUND
        assert member.parameters == single.parameters


@pytest.mark.usefixtures("_batched")
@pytest.mark.parametrize("classes", [2, 3])
def test_wide_part(classes: int) -> None:
    prepared = data(classes, wide=True)
    compare(prepared, wide="add")
    (metrics, *_) = make_pack(prepared, wide="add").run_epoch().values()
    assert len(values(metrics)) == 7  # The gains were compared, too.


@pytest.mark.usefixtures("_batched")
@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd"])
def test_techniques(optimizer: str, classes: int) -> None:
    compare(data(classes), settings=TECHNIQUES, optimizer=optimizer)


@pytest.mark.usefixtures("_mode")
def test_average_of_a_trial_that_leaves_a_pack_continues_in_another_one() -> None:
    prepared, alone = data(), make_trainer(data(), TECHNIQUES[0])
    expected = [values(alone.run_epoch()) for _ in range(3)]
    pack = make_pack(prepared, TECHNIQUES)
    member = pack.members[0]
    seen = [values(pack.run_epoch()[member])]
    pack.remove(pack.members[2])
    seen.append(values(pack.run_epoch()[member]))
    pack.remove(member)
    other = make_pack(prepared, TECHNIQUES[1:])
    joined = other.add(*configs(TECHNIQUES[0], {}), seed=TECHNIQUES[0].seed)
    joined.load_state(*member.state())
    seen.append(values(other.run_epoch()[joined]))
    for own, wanted in zip(seen, expected, strict=True):
        assert own == pytest.approx(wanted, rel=LOSS_BOUND)


@pytest.mark.usefixtures("_batched")
def test_trials_without_a_network_can_share_a_pack() -> None:
    prepared = data(wide=True)
    pack = make_pack(prepared, [Setting(1), Setting(2)], wide="only", cell=None)
    first, second = pack.run_epoch().values()
    assert values(first) == values(second)
    pack.remove(pack.members[0])
    (again,) = pack.run_epoch().values()
    assert values(again) == [2.0, *values(first)[1:]]


@pytest.mark.usefixtures("_batched")
@pytest.mark.parametrize(("layers", "both"), [(1, False), (1, True), (2, False), (2, True)])
@pytest.mark.parametrize("cell", CELLS.names())
def test_cells(cell: str, layers: int, both: bool) -> None:
    compare(data(), cell=cell, num_layers=layers, bidirectional=both)


@pytest.mark.usefixtures("_batched")
@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("readout", READOUTS.names())
def test_readouts(readout: str, classes: int) -> None:
    shape = {"num_layers": 2, "bidirectional": True, "output_relu": classes == 3}
    compare(data(classes), readout=readout, **shape)


@pytest.mark.usefixtures("_batched")
@pytest.mark.parametrize(
    "shape",
    [
        {"optimizer": "sgd"},
        {"batch_tokens": 50},
        {"nonlinearity": "relu", "cell": "rnn", "bidirectional": True},
        {"batch_size": 100},
    ],
    ids=lambda shape: next(iter(shape)),
)
def test_settings_of_all_trials(shape: dict[str, Any]) -> None:
    compare(data(), **shape)


@pytest.mark.usefixtures("_batched")
@pytest.mark.parametrize("tuned", [True, False])
def test_word_vectors(tuned: bool) -> None:
    vectors = np.random.default_rng(1).normal(size=(30, 4)).astype(np.float32)
    vectors[1] = 0
    compare(data(vectors=vectors, vectors_tuned=tuned))


@pytest.mark.usefixtures("_batched")
@pytest.mark.parametrize("both", [True, False])
def test_products_of_a_gpu(both: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop_layer, "one_product_is_faster", lambda _: True)
    compare(data(), num_layers=2, bidirectional=both)


@pytest.mark.parametrize("cell", CELLS.names())
def test_a_cpu_gives_exactly_the_numbers_of_single_runs(cell: str) -> None:
    prepared = data()
    pack = make_pack(prepared, cell=cell)
    results = [pack.run_epoch() for _ in range(2)]
    for member, setting in zip(pack.members, SETTINGS, strict=True):
        single = make_trainer(prepared, setting, cell=cell)
        assert [values(result[member]) for result in results] == [
            values(single.run_epoch()) for _ in range(2)
        ]
        assert_equal_states(member.state()[0], single.state()[0])


@pytest.mark.usefixtures("_mode")
@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_checkpoints_of_pack_and_trainer_are_interchangeable(optimizer: str) -> None:
    prepared, shape = data(), {"optimizer": optimizer}
    pack = make_pack(prepared, **shape)
    pack.run_epoch()
    setting = SETTINGS[0]
    single = make_trainer(prepared, setting, **shape)
    single.load_state(*pack.members[0].state())
    assert_equal_states(single.state()[0], pack.members[0].state()[0])
    single.run_epoch()

    pack.remove(pack.members[0])
    resumed = pack.add(*configs(setting, shape), seed=setting.seed)
    resumed.load_state(*single.state())
    assert (resumed.epoch, [member.epoch for member in pack.members]) == (2, [1, 1, 2])
    result = pack.run_epoch()[resumed]
    whole = make_trainer(prepared, setting, **shape)
    expected = [values(whole.run_epoch()) for _ in range(3)][-1]
    assert values(result) == pytest.approx(expected, rel=LOSS_BOUND)
    assert difference(resumed.state()[0], whole.state()[0]) < STATE_BOUND


@pytest.mark.usefixtures("_mode")
def test_state_can_be_loaded_while_the_pack_stays_the_same() -> None:
    pack = make_pack(data())
    before = pack.members[1].state()
    first = [values(metrics) for metrics in pack.run_epoch().values()]
    for _ in range(2):
        pack.members[1].load_state(*before)
        results = [values(metrics) for metrics in pack.run_epoch().values()]
        assert results[1] == first[1]
        assert results[0] != first[0]


@pytest.mark.usefixtures("_mode")
def test_trials_that_join_and_leave_keep_their_numbers() -> None:
    prepared = data()
    pack = PackedTrainer(prepared)
    assert pack.run_epoch() == {}
    first, second, third = SETTINGS
    kept: dict[PackedMember, Setting] = {}

    def join(setting: Setting) -> PackedMember:
        member = pack.add(*configs(setting, {}), seed=setting.seed)
        kept[member] = setting
        return member

    leaving = join(first)
    join(second)
    pack.run_epoch()
    join(third)
    pack.run_epoch()
    pack.remove(leaving)
    assert leaving.epoch == 2
    last = pack.run_epoch()
    assert set(last) == set(pack.members)
    assert [member.epoch for member in kept] == [2, 3, 2]
    for member, setting in kept.items():
        single = make_trainer(prepared, setting)
        for _ in range(member.epoch):
            metrics = single.run_epoch()
        assert difference(member.state()[0], single.state()[0]) < STATE_BOUND
        if member in last:
            assert values(last[member]) == pytest.approx(values(metrics), rel=LOSS_BOUND)


@pytest.mark.usefixtures("_mode")
@pytest.mark.parametrize("cell", ["rnn", "lstm"])
def test_trial_that_diverges_does_not_change_its_neighbours(cell: str) -> None:
    prepared, shape = data(), {"cell": cell, "bidirectional": True, "nonlinearity": "relu"}
    disturbed, undisturbed = (
        make_pack(prepared, (SETTINGS[0], own, *SETTINGS[1:]), **shape) for own in (DIVERGING, CALM)
    )
    diverging, calm = disturbed.members[1], undisturbed.members[1]
    results = disturbed.run_epoch()
    undisturbed.run_epoch()
    undisturbed.remove(calm)
    assert list(results)[1] is diverging
    error = results[diverging]
    assert isinstance(error, DivergedError)
    with pytest.raises(DivergedError) as single:
        make_trainer(prepared, DIVERGING, **shape).run_epoch()
    assert str(single.value) == str(error)
    assert diverging not in disturbed.members
    for _ in range(2):
        for member, other in zip(disturbed.members, undisturbed.members, strict=True):
            assert_equal_states(member.state()[0], other.state()[0])
        left, right = disturbed.run_epoch().values(), undisturbed.run_epoch().values()
        assert list(map(values, left)) == list(map(values, right))


@pytest.mark.usefixtures("_mode")
def test_predictions_are_those_of_single_runs() -> None:
    prepared = data(3)
    pack = make_pack(prepared)
    collected = {pack.members[0]: Predictions(), pack.members[2]: Predictions()}
    pack.run_epoch(collected)
    for member, setting in ((pack.members[0], SETTINGS[0]), (pack.members[2], SETTINGS[2])):
        own = Predictions()
        make_trainer(prepared, setting).run_epoch(own)
        (labels, logs), (expected_labels, expected_logs) = collected[member].arrays(), own.arrays()
        assert (labels == expected_labels).all()
        np.testing.assert_allclose(logs, expected_logs, rtol=1e-5)


class Weighted(FinalReadout):
    """A readout with a parameter, which also reads the first states."""

    def __init__(self, config: ModelConfig, generator: torch.Generator) -> None:
        super().__init__(config, generator)
        self.weight = nn.Parameter(torch.ones(self.features))

    def forward(self, layers: Any, lengths: Tensor, mask: Tensor | None) -> Tensor:
        return super().forward(layers, lengths, mask) * self.weight + layers[-1][0].t()


class OnlyStep(Cell):
    """A cell without a loop."""

    gates = ("h",)

    def step(
        self, projected: Tensor, state: State, weight_hh: Tensor, bias_hh: Tensor | None
    ) -> State:
        return ((projected + state[0] @ weight_hh.t()).sigmoid(),)


@pytest.mark.usefixtures("_batched")
def test_extensions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(READOUTS, "load", lambda name: Weighted)
    compare(data(), readout="final")
    monkeypatch.setattr(CELLS, "load", lambda name: OnlyStep)
    compare(data(), readout="final")


def test_trial_of_another_shape_is_rejected() -> None:
    pack = make_pack(data())
    model, training = configs(SETTINGS[0], {"hidden_size": 6})
    with pytest.raises(TrialError, match=r"hidden_size is 6, but the members of the pack have 5"):
        pack.add(model, training, seed=1)
    assert len(pack.members) == 3


def test_only_members_can_be_removed() -> None:
    pack = make_pack(data())
    member = pack.members[0]
    pack.remove(member)
    with pytest.raises(ValueError, match="not a member of this pack"):
        pack.remove(member)


@pytest.mark.usefixtures("_batched")
@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_products_in_16_bits(precision: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """float16 scales the loss of each trial by its own factor."""
    for module in (epochs, trainer):
        monkeypatch.setattr(module, "effective_precision", lambda device, requested: requested)
    prepared, shape = data(), {"precision": precision}
    pack = make_pack(prepared, **shape)
    # The second scale overflows, so the first steps of this trial are skipped.
    scales = (2.0**16, 2.0**30, 2.0**10)
    for member, scale in zip(pack.members, scales, strict=True):
        tensors, meta = member.state()
        if precision == "float16":
            meta["loss_scale"] = {"scale": scale, "held": 0}
        member.load_state(tensors, meta)
    singles = [make_trainer(prepared, setting, **shape) for setting in SETTINGS]
    for single, member in zip(singles, pack.members, strict=True):
        single.load_state(*member.state())
    for _ in range(2):
        results = pack.run_epoch()
        for member, single in zip(pack.members, singles, strict=True):
            expected = values(single.run_epoch())
            assert values(results[member])[3:] == pytest.approx(expected[3:], rel=1e-3)
            assert member.state()[1] == single.state()[1]
