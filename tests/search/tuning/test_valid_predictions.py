"""Checkpoints of trials contain predictions for the validation split, in the split's order."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from celltune.data_prep.config import DataConfig
from celltune.data_prep.dataset.tensorized import PreparedData, TensorizedSplit
from celltune.data_prep.preparation.pipeline import prepare
from celltune.models.network.predict import log_probabilities
from celltune.models.training.metrics import Predictions
from celltune.search.tuning.pack import Pack
from celltune.search.tuning.trial import TrialTask, make_trainer, run_trial, trial_seed
from celltune.search.tuning.valid_predictions import (
    LOG_PROBABILITIES,
    MOST_VALUES,
    add_predictions,
    find_predictions,
    in_document_order,
    remove_predictions,
    stored_documents,
)
from tests.models.packed.runs import batched_on_the_cpu
from tests.search.local_checkpoints import local_checkpoints

PARAMS: dict[str, Any] = {
    "cell": "gru",
    "hidden_size": 4,
    "embedding_size": 4,
    "dropout": 0.3,
    "batch_size": 16,
}


@pytest.fixture(scope="module", params=[2, 3], ids=["two classes", "three classes"])
def data(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> PreparedData:
    folder = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    rows = [
        f"{' '.join(rng.choice(list('abcdefgh'), rng.integers(1, 12)))} {row},{row % request.param}"
        for row in range(90)
    ]
    (folder / "texts.csv").write_text("\n".join(["text,label", *rows]))
    classes = tuple(map(str, range(request.param)))
    config = DataConfig(source="csv", path=str(folder / "texts.csv"), classes=classes)
    return prepare(config, cache_dir=folder / "cache")


def train_alone(task: TrialTask, data: PreparedData) -> None:
    list(islice(run_trial(task, data), 2))


def train_in_pack(task: TrialTask, data: PreparedData) -> None:
    pack = Pack(data, device="cpu")
    pack.add(task)
    neighbour = local_checkpoints(Path(task.checkpoints.location("")).parent / "neighbour")
    pack.add(TrialTask(task.number + 1, task.params, task.seed, neighbour))
    for _ in range(2):
        pack.run_epoch()


@pytest.mark.parametrize("batched", [True, False])
@pytest.mark.parametrize("train", [train_alone, train_in_pack])
def test_stored_predictions_are_those_of_the_stored_weights(
    train: Callable[[TrialTask, PreparedData], None],
    batched: bool,
    tmp_path: Path,
    data: PreparedData,
) -> None:
    checkpoints = local_checkpoints(tmp_path / "trial")
    with batched_on_the_cpu() if batched else nullcontext():
        train(TrialTask(5, PARAMS, 1, checkpoints), data)
    state = checkpoints.load("epoch-2")
    stored = find_predictions(state[0])
    trainer = make_trainer(PARAMS, data, seed=trial_seed(1, 5), device="cpu")
    trainer.load_state(*remove_predictions(state))
    expected = log_probabilities(trainer.model, data.valid, batch_size=7)
    assert stored is not None
    assert stored.dtype == np.float32
    assert len(set(np.diff(data.valid.offsets).tolist())) > 3, "the order must matter"
    np.testing.assert_allclose(stored, expected, atol=2e-5)


def test_a_checkpoint_without_predictions_can_be_continued(
    tmp_path: Path, data: PreparedData
) -> None:
    task = TrialTask(0, PARAMS, 1, local_checkpoints(tmp_path))
    uncut = list(islice(run_trial(task, data), 2))
    old = remove_predictions(task.checkpoints.load("epoch-1"))
    assert find_predictions(old[0]) is None
    task.checkpoints.save(old, "epoch-1")
    continued = next(run_trial(TrialTask(0, PARAMS, 1, task.checkpoints, ("epoch-1",)), data))
    assert continued.warnings == ()
    assert continued.metrics["valid_loss"] == uncut[1].metrics["valid_loss"]


def split_of(lengths: list[int], labels: list[int]) -> TensorizedSplit:
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    return TensorizedSplit(np.full(offsets[-1], 2, np.int32), offsets, np.array(labels, np.int64))


@given(st.lists(st.integers(1, 4), min_size=1, max_size=30))
def test_rows_return_to_their_documents(lengths: list[int]) -> None:
    documents = len(lengths)
    split = split_of(lengths, [index % 3 for index in range(documents)])
    order = np.argsort(lengths, kind="stable")
    logits = torch.tensor(order[:, None] * [0.1, 0.0, 0.0])
    predictions = Predictions([torch.from_numpy(split.labels[order])], [logits])
    found = in_document_order(predictions, split)
    # The difference of two log-probabilities is that of their logits: the document's own number.
    np.testing.assert_allclose(found[:, 0] - found[:, 1], 0.1 * np.arange(documents), atol=1e-5)


def test_predictions_in_another_order_are_rejected() -> None:
    split = split_of([2, 1], [0, 1])
    predictions = Predictions([torch.tensor([0, 1])], [torch.zeros(2)])
    with pytest.raises(ValueError, match="not those of the validation split in the order of eval"):
        in_document_order(predictions, split)


@given(st.integers(1, 10**7), st.integers(2, 200))
def test_stored_predictions_are_limited_and_evenly_spaced(documents: int, classes: int) -> None:
    kept = range(documents)[stored_documents(documents, classes)]
    assert kept.start == 0
    assert len(kept) * classes <= MOST_VALUES + classes
    assert kept.step == 1 or len(kept) * classes > MOST_VALUES // 3


def test_large_splits_store_the_predictions_of_every_second_document(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("celltune.search.tuning.valid_predictions.MOST_VALUES", 10)
    values = np.arange(20, dtype=np.float32).reshape(10, 2)
    tensors, _ = add_predictions(({}, {}), values)
    np.testing.assert_array_equal(tensors[LOG_PROBABILITIES].numpy(), values[::2])
