"""The comparison of packed trials runs on the CPU, too."""

from __future__ import annotations

import pytest

from benchmarks import _gpu_packed as measurement
from celltune.models.config import ModelConfig, TrainingConfig
from celltune.models.packed.trainer import PackedTrainer

MODEL = ModelConfig(cell="gru", hidden_size=4, embedding_size=4)
TRAINING = TrainingConfig(batch_size=16)


def test_data_have_the_lengths_of_imdb() -> None:
    data = measurement.imdb_like_data(2_000, longest=2_000)
    assert 230 < data.train.lengths.mean() < 265
    assert (len(data.train), len(data.valid)) == (2_000, 200)
    truncated = measurement.imdb_like_data(50, longest=100, vocabulary=30)
    assert truncated.train.lengths.max() == 100
    assert truncated.train.ids.max() < 30


def test_trials_have_one_shape() -> None:
    data = measurement.imdb_like_data(20, longest=10, vocabulary=30)
    pack = PackedTrainer(data)
    for model, training, seed in measurement.trials(MODEL, TRAINING, 3):
        pack.add(model, training, seed=seed)
    assert len({member.training.learning_rate for member in pack.members}) == 3


def test_figures_are_ratios_of_throughputs(monkeypatch: pytest.MonkeyPatch) -> None:
    data = measurement.imdb_like_data(20, longest=10, vocabulary=30)
    monkeypatch.setattr(measurement, "process_throughput", lambda *_: 10.0)
    found = measurement.measure_packed(
        data, model=MODEL, training=TRAINING, counts=(2, 3), seconds=0.01
    )
    single = found["documents_per_second_one_by_one"]
    assert single > 0
    for count in (2, 3):
        packed = found[f"documents_per_second_packed_{count}"]
        assert found[f"packed_{count}"] == packed / single
    assert found["packed_vs_processes"] == found["documents_per_second_packed_2"] / 10
    assert found["documents_per_second_processes_2"] == 10


def test_processes_train_at_the_same_time() -> None:
    data = measurement.imdb_like_data(20, longest=10, vocabulary=30)
    members = measurement.trials(MODEL, TRAINING, 1)
    assert measurement.process_throughput(data, members, "cpu", 0.01) > 0


def test_diverged_trial_ends_the_measurement() -> None:
    data = measurement.imdb_like_data(20, longest=10, vocabulary=30)
    training = TrainingConfig(learning_rate=3e38, gradient_clip=None)
    with pytest.raises(RuntimeError, match="A trial of the benchmark diverged"):
        measurement.packed_throughput(data, [(MODEL, training, 1)], "cpu", 0)
