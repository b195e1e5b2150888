"""Checkpoints with valid checksums that are not what the ledger says are never used."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from celltune.search.bundles.ensemble_export import export_ensemble
from celltune.search.bundles.export import export, load_model
from celltune.search.ensembles.ensemble import ensemble
from celltune.search.errors import ModelError
from celltune.search.storage.local import LocalExperiment
from celltune.search.tuning.valid_predictions import LOG_PROBABILITIES
from tests.search.ensembles.test_ensemble import best_checkpoint

Tensors = dict[str, torch.Tensor]
Forgery = Callable[[Tensors, dict[str, Any]], None]


def forge(experiment: LocalExperiment, change: Forgery, number: int = 0) -> None:
    checkpoints, name = best_checkpoint(experiment, number)
    tensors, meta = checkpoints.load(name)
    change(tensors, meta)
    checkpoints.save((tensors, meta), name)


def swap(tensors: Tensors, meta: dict[str, Any]) -> None:
    meta["model"] = {**meta["model"], "hidden_size": 4}


def grow(key: str, value: Any) -> Forgery:
    return lambda _, meta: meta.update({key: value})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (swap, r"its model is '\{'hidden_size': 4\}', but this trial's is '\{'hidden_size': 8\}'"),
        (grow("model", None), "another trial: its model is 'None'"),
        (grow("seed", 1), "another trial: its seed is '1'"),
        (grow("epoch", 9), "of epoch '9', but the checkpoint is epoch-"),
        (grow("vocabulary_size", 10**12), r"belong to another model \(embedding is float32"),
        (grow("vocabulary_size", "9"), "match its data or this version .*: its vocabulary_size is"),
        (grow("num_classes", 10**12), r"belong to another model \(output_bias is float32 \(1,\)"),
        (
            lambda tensors, _: tensors["model.output_bias"].fill_(np.nan),
            "a value of its tensor 'model.output_bias' is NaN",
        ),
    ],
)
def test_a_forged_checkpoint_is_not_exported(
    small: LocalExperiment, tmp_path: Path, change: Forgery, message: str
) -> None:
    forge(small, change)
    with pytest.raises(ModelError, match=message):
        export("small", tmp_path / "bundle", trial=0)
    assert not (tmp_path / "bundle").exists()
    assert load_model("small", trial=1).predict_one("the plot was great .").label


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (swap, "another trial: its model is"),
        (
            lambda tensors, _: tensors[LOG_PROBABILITIES].fill_(np.nan),
            "a value of its tensor 'valid.log_probabilities' is NaN",
        ),
        (
            lambda tensors, _: tensors[LOG_PROBABILITIES].fill_(0.0),
            "invalid: the probabilities of a document do not sum to 1",
        ),
        (
            lambda tensors, _: tensors.update({LOG_PROBABILITIES: torch.zeros(3)}),
            "invalid: they are float32 with 1 dimensions",
        ),
    ],
)
def test_a_forged_checkpoint_is_no_candidate(
    small: LocalExperiment, change: Forgery, message: str
) -> None:
    forge(small, change)
    result = ensemble("small")
    assert [member.number for member in result.selected.members] == [1]
    assert len(result.notes) == 1
    assert message in result.notes[0]


def test_a_forged_member_is_not_exported(small: LocalExperiment, tmp_path: Path) -> None:
    member = ensemble("small", trials_considered=1).selected.members[0]
    forge(small, swap, member.number)
    with pytest.raises(ModelError, match=r"cannot be used: The state belongs to another trial"):
        export_ensemble("small", tmp_path / "bundle")
    assert not (tmp_path / "bundle").exists()
