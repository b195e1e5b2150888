from __future__ import annotations

from datetime import datetime
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState

from celltune.search.errors import OptionError
from celltune.search.ledger.events import ExperimentCreated, TrialCreated, TrialFailed
from celltune.search.ledger.state import ExperimentState
from celltune.search.results.optuna_study import copy_to_storage
from tests.search.simulated_search import make_config, make_controller, start_ledger, steps

CONFIG = make_config(budget={"trials": 6, "max_epochs": 4})


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> ExperimentState:
    with start_ledger(tmp_path_factory.mktemp("study") / "ledger.jsonl") as ledger:
        conductor = make_controller(CONFIG, ledger)
        list(steps(conductor))
    state = conductor.state
    params = {"cell": "gru", "hidden_size": 8, "num_layers": 1, "learning_rate": 0.1}
    for number in (6, 7):
        state.apply(TrialCreated(at=50.0, number=number, params=params, max_epochs=4))
    state.apply(TrialFailed(at=60.0, number=6, error="it broke"))
    return state


@pytest.fixture(scope="module")
def storage(state: ExperimentState, tmp_path_factory: pytest.TempPathFactory) -> str:
    url = f"sqlite:///{tmp_path_factory.mktemp('db') / 'study.db'}"
    copy_to_storage(CONFIG, state, url, "demo")
    return url


def test_study_equals_the_ledger(storage: str, state: ExperimentState) -> None:
    study = optuna.load_study(study_name="demo", storage=storage)
    assert study.direction == optuna.study.StudyDirection.MAXIMIZE
    assert study.metric_names == ["valid_accuracy"]
    assert study.user_attrs["fixed"] == {"embedding_size": 8}
    kinds = {
        "completed": TrialState.COMPLETE,
        "pruned": TrialState.PRUNED,
        "failed": TrialState.FAIL,
        "unfinished": TrialState.RUNNING,
    }
    assert len(study.trials) == len(state.trials)
    for trial, record in zip(study.trials, state.trials, strict=True):
        assert trial.state == kinds[record.status]
        assert trial.params == {k: v for k, v in record.params.items() if k != "embedding_size"}
        values = [epoch.metrics["valid_accuracy"] for epoch in record.epochs]
        assert list(trial.intermediate_values.values()) == values
        assert trial.datetime_start == datetime.fromtimestamp(record.created_at)
        assert trial.user_attrs["epochs"] == len(values)
    best = state.ranked("valid_accuracy")[0]
    assert study.best_trial.number == best.number
    assert study.best_value == best.best_value("valid_accuracy")
    assert study.trials[6].user_attrs["error"] == "it broke"


def test_existing_study_is_not_changed(storage: str, state: ExperimentState) -> None:
    with pytest.raises(
        OptionError, match=r"already contains a study 'demo', which was not changed.*`study_name`"
    ):
        copy_to_storage(CONFIG, state, storage, "demo")
    assert len(optuna.load_study(study_name="demo", storage=storage).trials) == len(state.trials)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("{0.x}", r"storage .\{0.x\}. cannot be used: "),
        ("study.db", "storage 'study.db' cannot be used: .*a URL that Optuna supports"),
        ("sqlite:////none/of/this.db", "cannot be used: .*unable to open database file"),
        ("redis://me:secret@host", r"'redis://\.\.\.' cannot be used"),
    ],
)
def test_unusable_storage_is_rejected(url: str, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        copy_to_storage(CONFIG, ExperimentState(), url, "demo")


def test_interrupted_copy_leaves_no_study(state: ExperimentState, tmp_path: Path) -> None:
    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    url = f"sqlite:///{tmp_path / 'study.db'}"
    with pytest.raises(KeyboardInterrupt):
        copy_to_storage(CONFIG, state, url, "demo", interrupt)
    assert optuna.get_all_study_names(url) == []


def test_search_without_trials_becomes_an_empty_study(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'study.db'}"
    state = ExperimentState([ExperimentCreated(at=0.0, fingerprint="f")])
    assert copy_to_storage(CONFIG, state, url, "demo").trials == []
