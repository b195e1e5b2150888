"""The comparison of packed trials runs on the CPU, too."""

from __future__ import annotations

import multiprocessing
import threading
from types import SimpleNamespace

import pytest
import torch

from benchmarks import _gpu_packed as measurement
from celltune.data_prep.dataset.tensorized import PreparedData
from celltune.models.config import ModelConfig, TrainingConfig
from celltune.models.layers.persistent import selection
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


def small_data() -> PreparedData:
    return measurement.imdb_like_data(20, longest=10, vocabulary=30)


def test_figures_are_ratios_of_throughputs(monkeypatch: pytest.MonkeyPatch) -> None:
    rates = {True: 10.0, False: 20.0}  # with and without persistent kernels

    def single(*_: object) -> float:
        return rates[selection._enabled.get()]

    monkeypatch.setattr(measurement, "single_throughput", single)
    monkeypatch.setattr(measurement, "packed_throughput", lambda _, members, *__: len(members))
    published: list[dict[str, float]] = []
    side = measurement.Measurement(
        small_data(), MODEL, TRAINING, 0.01, lambda results: published.append(dict(results))
    )
    side.measure_packs((2, 3))
    assert (side.results["packed_2"], side.results["packed_3"]) == (2 / 20, 3 / 20)
    assert side.results["packed_3_vs_single"] == 3 / 10
    assert side.results["documents_per_second_one_by_one"] == 20
    assert published[0] == {"documents_per_second_packed_2": 2}
    monkeypatch.setattr(measurement, "process_throughput", lambda *_: 8.0)
    side.measure_processes(2, 1)
    assert side.results["packed_vs_processes"] == 2 / 8
    assert published[-1] == side.results


def test_pack_that_does_not_fit_is_left_out(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def too_large(*_: object) -> float:
        raise torch.OutOfMemoryError

    monkeypatch.setattr(measurement, "packed_throughput", too_large)
    side = measurement.Measurement(small_data(), MODEL, TRAINING, 0)
    side.measure_packs((2,))
    assert "packed_2 does not fit into the memory of the GPU" in capsys.readouterr().out
    assert set(side.results) == {"documents_per_second_one_by_one", "documents_per_second_single"}


def test_share_of_the_documents_has_both_splits() -> None:
    data = measurement.first_documents(measurement.imdb_like_data(40, longest=10), 0.5)
    assert (len(data.train), len(data.valid)) == (20, 2)
    assert len(data.train.ids) == data.train.offsets[-1]


class Processes:
    """Records what a training process sends."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, float]] = []

    def send(self, result: tuple[str, float]) -> None:
        self.sent.append(result)


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (None, ""),
        (threading.BrokenBarrierError(), "not all processes started within 5 s"),
        (ValueError("no\nmemory"), "ValueError: no\nmemory"),
    ],
)
def test_process_sends_its_rate_or_its_error(error: Exception | None, message: str) -> None:
    def wait(_: float) -> None:
        if error is not None:
            raise error

    threads = torch.get_num_threads()
    sender, trial = Processes(), measurement.trials(MODEL, TRAINING, 1)[0]
    barrier = SimpleNamespace(wait=wait)
    measurement._train_in_process(small_data(), trial, "cpu", (0.01, 5), barrier, sender)
    torch.set_num_threads(threads)
    ((sent, rate),) = sender.sent
    assert sent == message
    assert (rate > 0) == (error is None)


def test_failures_of_processes_are_one_sentence() -> None:
    receiver, sender = multiprocessing.Pipe(duplex=False)
    with pytest.raises(TimeoutError, match=r"A training process did not finish within 0 s\."):
        list(measurement._received([receiver], 0))
    sender.send(("OSError: no device", 0.0))
    with pytest.raises(RuntimeError, match="A training process failed: OSError: no device"):
        list(measurement._received([receiver], 1))
    sender.send(("", 2.5))
    assert list(measurement._received([receiver], 1)) == [2.5]
    sender.close()
    with pytest.raises(RuntimeError, match=r"A training process was killed\."):
        list(measurement._received([receiver], 1))


def test_diverged_trial_ends_the_measurement() -> None:
    data = measurement.imdb_like_data(20, longest=10, vocabulary=30)
    training = TrainingConfig(learning_rate=3e38, gradient_clip=None)
    with pytest.raises(RuntimeError, match="A trial of the benchmark diverged"):
        measurement.packed_throughput(data, [(MODEL, training, 1)], "cpu", 0)
