from __future__ import annotations

import pytest
from pydantic import ValidationError

from celltune.search.ledger.codec import checksum, decode, encode
from celltune.search.ledger.ensembles import EnsembleMember, Gain, total_parameters
from celltune.search.ledger.events import CheckpointsKept, EpochReported, TrialCreated
from celltune.search.ledger.state import ExperimentState
from tests.search.ensemble_events import member, scored, selected

TRIAL = [
    TrialCreated(at=0.0, number=0, params={"cell": "gru"}, max_epochs=2),
    EpochReported(at=0.0, number=0, epoch=1, metrics={}, checkpoint="epoch-1"),
]


def test_the_latest_ensemble_counts_and_keeps_its_checkpoints() -> None:
    own, foreign = member(weight=0.5), member(weight=0.5, experiment="b", checkpoint="epoch-9")
    state = ExperimentState([*TRIAL, selected(own, foreign)])
    assert state.members_of_ensembles(0) == {"epoch-1"}
    assert state.members_of_ensembles(1) == set()
    state.apply(CheckpointsKept(at=0.0, owner="b", checkpoints={0: ["epoch-7"]}))
    state.apply(CheckpointsKept(at=0.0, owner="c", checkpoints={0: ["epoch-8"]}))
    state.apply(selected(member(experiment="b")))
    assert state.members_of_ensembles(0) == {"epoch-7", "epoch-8"}
    state.apply(CheckpointsKept(at=0.0, owner="b", checkpoints={}))
    assert state.members_of_ensembles(0) == {"epoch-8"}


def test_the_weights_of_the_wide_part_count_once() -> None:
    own = member()
    both = member(1, parameters=130, wide_parameters=100)
    alone = member(2, parameters=100, wide_parameters=100)
    assert total_parameters([own]) == 10
    assert total_parameters([own, both, alone, both]) == 10 + 30 + 30 + 100
    assert total_parameters([]) == 0


def test_scores_belong_to_the_ensemble_with_the_same_members() -> None:
    state = ExperimentState([*TRIAL, selected(member()), scored(member())])
    assert state.ensemble_scores is not None
    state.apply(selected(member(), at=1.0))
    assert state.ensemble_scores is not None
    with pytest.raises(ValueError, match="not those of the ensemble that was selected last"):
        state.apply(scored(member(experiment="b")))
    state.apply(selected(member(experiment="b")))
    assert state.ensemble_scores is None


@pytest.mark.parametrize(
    ("one", "message"),
    [
        (member(number=1), "trial 1 was never created"),
        (member(epoch=2), "epoch 2 of trial 0, which has 1"),
        (member(checkpoint="epoch-7"), "has another checkpoint or other hyperparameters than"),
        (member(params={"cell": "lstm"}), "other hyperparameters than epoch 1 of trial 0"),
    ],
)
def test_an_ensemble_of_unknown_models_is_rejected(one: EnsembleMember, message: str) -> None:
    state = ExperimentState(TRIAL)
    with pytest.raises(ValueError, match=message):
        state.apply(selected(one))
    assert state.ensemble is None


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ((), "at least 1 item"),
        ((member(weight=0.5),), "the weights of the members sum to 0.5 instead of 1"),
        ((member(weight=0.5), member(weight=0.5)), "a model is a member twice"),
    ],
)
def test_an_invalid_ensemble_is_no_event(members: tuple[EnsembleMember, ...], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        selected(*members)


@pytest.mark.parametrize(("mean", "is_clear"), [(0.041, True), (0.039, False), (-0.9, False)])
def test_a_gain_is_clear_above_two_standard_errors(mean: float, is_clear: bool) -> None:
    assert Gain(mean=mean, error=0.02).is_clear == is_clear


def test_events_of_ensembles_are_decoded_as_they_were_encoded() -> None:
    for event in (
        selected(member(weight=0.25, experiment="b"), member(weight=0.75)),
        CheckpointsKept(at=0.0, owner="b", checkpoints={3: ["epoch-1"]}),
        scored(member()),
    ):
        assert decode(1, encode(1, event)[:-1]) == event


def test_a_recorded_ensemble_with_wrong_weights_is_damage() -> None:
    line = encode(1, selected(member())).replace(b'"weight":1.0', b'"weight":0.4')
    data = line[line.index(b'"data": ') + 8 : -2]
    forged = b'{"n": 1, "crc": "%b", "data": %b}' % (checksum(1, data), data)
    with pytest.raises(ValueError, match=r"not a valid event \(.*members: .* 0.4 inst"):
        decode(1, forged)
