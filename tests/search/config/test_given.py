"""Limits of the configs that users give."""

from __future__ import annotations

from typing import Any

import pytest

from celltune.search.config.given import check_given
from celltune.search.config.loading import resolve
from celltune.search.errors import ConfigError
from celltune.search.ledger.events import ExperimentCreated
from celltune.search.runs.session import checked_config, config_for_run
from celltune.search.storage.locate import new_experiment
from tests.search.simulated_search import RAW, make_config

WIDE = {"cell": "gru", "wide": "add"}


def problems_of(**changes: Any) -> list[str]:
    with pytest.raises(ConfigError, match="The config has") as caught:
        check_given(make_config(**changes))
    return [line.strip() for line in str(caught.value).splitlines()[1:]]


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"budget": {"trials": 10**12}}, "budget.trials is 1e+12. It must be at most 1,000,000."),
        ({"budget": {"patience": 10**400}}, "budget.patience is 0x"),
        ({"budget": {"time": "1" + 30 * "0"}}, "budget.time is 1e+30 seconds. It must be at most"),
        ({"trial_timeout": 1e12}, "trial_timeout is 1e+12 seconds. It must be at most 36500d;"),
        (
            {"resources": {"memory_per_trial_gb": 1e305}},
            "resources.memory_per_trial_gb is 1e+305. It must be at most 1,000,000.",
        ),
        ({"data": {**RAW["data"], "seed": 10**60}}, "data.seed is 1e+60. It must be at most 9,223"),
        (
            {"data": {**RAW["data"], "vectors": {"train": "word2vec", "size": 10**9}}},
            "data.vectors.size is 1e+09. It must be at most 10,000.",
        ),
        (
            {"data": {**RAW["data"], "wide": {"penalties": [1e-300]}}, "space": WIDE},
            "data.wide.penalties must be between 1e-12 and 1e+12.",
        ),
        (
            {"tracking": {"mlflow": "postgresql://u:pw@h/x"}},
            "tracking.mlflow must not contain a user name or password, but it contains a password",
        ),
        (
            {"tracking": {"mlflow": "https://h?token=abc"}},
            "tracking.mlflow must not contain a user name or password, but it contains the param",
        ),
        (
            {"first_trials": [{"hidden_size": 10**9}]},
            "first_trials.0.hidden_size is 1e+09. It must be at most 65,536.",
        ),
    ],
)
def test_absurd_values_are_rejected(changes: dict[str, Any], problem: str) -> None:
    (line,) = problems_of(**changes)
    assert line.startswith(problem)


@pytest.mark.parametrize(
    ("space", "problem"),
    [
        ({"hidden_size": 10**9}, "space.hidden_size is 1e+09. It must be at most 65,536."),
        ({"num_layers": [1, 10**6]}, "space.num_layers is 1e+06. It must be at most 1,000."),
        (
            {"batch_size": {"low": 1, "high": 10**9}},
            "space.batch_size.high is 1e+09. It must be at most 1,000,000.",
        ),
        (
            {"hidden_size": list(range(1, 1002))},
            "space.hidden_size is a choice of 1,001 values. Give at most 1,000; for numbers, use",
        ),
        (
            {"learning_rate": {"low": 5e-324, "high": 1.0, "log": True}},
            "space.learning_rate.low is 4.94066e-324. With log, it must be at least 1e-30.",
        ),
        ({"embedding_std": 1e308}, "space.embedding_std is 1e+308. It must be at most 1e+30."),
        (
            {"dropout": {"low": 0.0, "high": 0.5, "step": 1e-300}},
            "space.dropout.step is 1e-300, so that the range has more than 1,000,000 values.",
        ),
        (
            {"hidden_size": 65_536},
            "space allows a model with more than 4.3e+09 recurrent weights (hidden_size 65536, "
            "embedding_size 100, num_layers 1). At most 1e+09 are possible. Lower hidden_size or",
        ),
    ],
)
def test_absurd_spaces_are_rejected(space: dict[str, Any], problem: str) -> None:
    (line,) = problems_of(space={"cell": "gru", **space})
    assert line.startswith(problem)


def test_all_absurd_values_are_listed() -> None:
    assert len(problems_of(retries=10**9, budget={"trials": 10**9, "max_epochs": 10**9})) == 3
    with pytest.raises(ConfigError, match=r"budget\.trials is 1e\+12"):
        checked_config(RAW, ["budget.trials=1000000000000"])


def test_a_stored_config_has_no_limits_but_its_overrides_do(tmp_path: Any) -> None:
    experiment = new_experiment("demo", tmp_path)
    config = resolve(RAW, ["budget.trials=1000000000000"])
    experiment.create(config, ExperimentCreated(at=1.0, fingerprint="f"))
    assert config_for_run(experiment, ["retries=3"]).budget.trials == 10**12
    with pytest.raises(ConfigError, match=r"retries is 1e\+12. It must be at most") as caught:
        config_for_run(experiment, ["retries=1000000000000"])
    assert len(str(caught.value).splitlines()) == 2


@pytest.mark.parametrize("key", ["path", "test_path", "groups"])
@pytest.mark.parametrize(
    ("path", "problem"),
    [
        ("s3://key:secret@bucket/x", "is a URI (s3://...). It must be the path of a local file"),
        ("~no-such-user/x", "is '~no-such-user/x', but there is no such user. Write a path."),
        ("", "is ''. It must be the path of a file or folder."),
        ("x" * 5000, "It must be the path of a file or folder."),
    ],
)
def test_paths_of_data_are_local(key: str, path: str, problem: str) -> None:
    data = {"source": "csv", "path": "a.csv", key: path}
    with pytest.raises(ConfigError, match=f"data.{key} is ") as caught:
        make_config(data=data)
    assert problem in str(caught.value)
    assert "secret" not in str(caught.value)


def test_a_tensorboard_folder_is_a_local_path() -> None:
    for folder in ("gs://bucket/x", "~no-such-user/x"):
        with pytest.raises(ConfigError, match=r"tracking\.tensorboard is "):
            make_config(tracking={"tensorboard": folder})
