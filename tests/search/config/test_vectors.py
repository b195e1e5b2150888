"""Word vectors from a config to a trial."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from celltune.data_prep.config import DataConfig
from celltune.data_prep.dataset.tensorized import PreparedData
from celltune.data_prep.preparation.pipeline import prepare
from celltune.search.config.loading import parse_config
from celltune.search.config.schema import SearchConfig
from celltune.search.errors import ConfigError
from celltune.search.runs.launch import _check_prepared
from celltune.search.runs.session import checked_config
from celltune.search.tuning.trial import TrialTask, run_trial
from tests.search.local_checkpoints import local_checkpoints


@pytest.fixture
def data(tmp_path: Path) -> PreparedData:
    plain = prepare(DataConfig(source="synthetic", reviews=40), cache_dir=tmp_path / "cache")
    vectors = np.ones((plain.vocabulary_size, 7), np.float32)
    vectors[1] = 0
    return replace(plain, vectors=vectors, vectors_tuned=False)


def config(**space: Any) -> SearchConfig:
    raw = {"name": "x", "data": {"source": "synthetic"}, "space": {"cell": "gru", **space}}
    return parse_config(raw)


@pytest.mark.parametrize(
    ("size", "shown"),
    [(8, "is 8"), ([7, 8], "is searched"), ({"low": 4, "high": 9}, "is searched")],
)
def test_an_embedding_size_that_differs_from_the_vectors_is_rejected(
    data: PreparedData, size: Any, shown: str
) -> None:
    with pytest.raises(ConfigError, match=f"embedding_size {shown}.* 7 dimensions. Remove"):
        _check_prepared(config(embedding_size=size), data)
    for fits in ({}, {"embedding_size": 7}):
        _check_prepared(config(**fits), data)


@pytest.mark.parametrize(
    ("vectors", "length"),
    [({"train": "word2vec", "size": 50}, 50), ({"name": "glove.twitter.27B.25d"}, 25)],
)
def test_a_known_size_of_the_vectors_is_checked_with_the_config(
    vectors: dict[str, Any], length: int
) -> None:
    raw = {"name": "x", "data": {"source": "synthetic", "vectors": vectors}}
    with pytest.raises(ConfigError, match=f"space.embedding_size is 100, .* have {length} dimen"):
        checked_config({**raw, "space": {"cell": "gru", "embedding_size": 100}})
    with pytest.raises(ConfigError, match=r"first_trials\.0\.embedding_size is 100, but the word"):
        checked_config({**raw, "space": {"cell": "gru"}, "first_trials": [{"embedding_size": 100}]})
    checked_config({**raw, "space": {"cell": "gru", "embedding_size": length}})


def test_the_size_of_vectors_in_a_file_is_unknown_before_they_are_read() -> None:
    vectors = {"path": "vectors.100d.txt"}
    raw = {"name": "x", "data": {"source": "synthetic", "vectors": vectors}}
    checked_config({**raw, "space": {"cell": "gru", "embedding_size": 50}})


def test_a_trial_uses_the_vectors_and_their_size(data: PreparedData, tmp_path: Path) -> None:
    params = {"cell": "gru", "hidden_size": 3}
    task = TrialTask(
        number=0, params=params, seed=1, checkpoints=local_checkpoints(tmp_path / "trial")
    )
    result = next(run_trial(task, data))
    words = data.vocabulary_size
    recurrent = 3 * 3 * (7 + 3) + 2 * 3 * 3
    assert result.metrics["parameters"] == words * 7 + recurrent + 3 + 1
