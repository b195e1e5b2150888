"""A package adds a metric as docs/extending/metric.md describes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from celltune.data_prep.preparation.pipeline import prepare
from celltune.models.errors import TrialError
from celltune.models.native import library as native
from celltune.search.bundles.export import export
from celltune.search.errors import ConfigError, OptionError
from celltune.search.leaderboard import leaderboard
from celltune.search.ledger.events import ExperimentCreated
from celltune.search.ledger.state import ExperimentState
from celltune.search.report.page import page
from celltune.search.results.formats import as_csv, as_table, readable_table
from celltune.search.results.optuna_study import mirror_study
from celltune.search.results.ranking import ranking_of
from celltune.search.storage.locate import find_experiment, new_experiment
from celltune.search.tuning.pack import Pack
from celltune.search.tuning.trial import TrialTask, run_trial
from celltune.search.types import EpochReport
from celltune.search.wording import percent_text
from tests.extensions.page import example
from tests.search.local_checkpoints import local_checkpoints
from tests.search.simulated_search import finished_search, make_config, make_controller

EXAMPLE = example("metric")

exec(EXAMPLE.suite)  # noqa: S102 - defines TestWorstRecall, the contract suite of the page's example


@pytest.fixture(autouse=True, scope="module")
def _worst_recall(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with EXAMPLE.installed(tmp_path_factory.mktemp("site")):
        yield


CHANGES = {
    "data": {"source": "synthetic", "reviews": 300, "label_noise": 0.0},
    "space": {
        "cell": "gru",
        "hidden_size": {"low": 4, "high": 8},
        "embedding_size": 8,
        "learning_rate": {"low": 1e-4, "high": 2e-2, "log": True},
    },
    "budget": {"trials": 5, "max_epochs": 2, "target": 1.0},
    "baselines": False,
    "metric": "valid_worst_recall",
    "early_stopping": {"by": "valid_worst_recall", "reduction_factor": 2},
}


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory, _worst_recall: None) -> Path:
    """A storage with a search whose trials were trained, in this process."""
    root = tmp_path_factory.mktemp("storage")
    config = make_config(**CHANGES)
    prepared = prepare(config.data, cache_dir=root / "cache")
    experiment = new_experiment(config.name, root)
    experiment.create(config, ExperimentCreated(at=0.0, fingerprint=prepared.fingerprint))
    with experiment.open_ledger() as ledger:
        controller = make_controller(config, ledger)
        while (assignment := controller.next()) is not None:
            number = assignment.number
            task = TrialTask(
                number,
                assignment.params,
                config.seed,
                experiment.checkpoints(number),
                metrics=config.reported_metrics,
            )
            for report in run_trial(task, prepared):
                if not controller.report(number, [report]):
                    break
    return root


def test_leaderboard_ranks_by_the_metric(storage: Path) -> None:
    frame = leaderboard("demo", storage=storage)
    values = list(frame["valid_worst_recall"])
    assert values == sorted(values, reverse=True)
    assert 0 <= values[-1] < values[0] <= 1
    assert {"last_valid_worst_recall", "valid_accuracy", "valid_loss"} <= set(frame.columns)


def test_metric_is_written_as_percent_everywhere(storage: Path, tmp_path: Path) -> None:
    best = percent_text(leaderboard("demo", storage=storage)["valid_worst_recall"][0])
    experiment = find_experiment("demo", storage)
    rows = ranking_of(experiment.config(), experiment.state())
    table = as_csv(rows), readable_table(rows).markdown(), as_table(rows)
    assert "valid_worst_recall" in table[0]
    assert best in table[1]
    assert "valid_worst_recall" in [column.title for column in table[2].columns]
    assert best in page(experiment.snapshot())


def test_best_trial_by_the_metric_is_exported(
    storage: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CELLTUNE_CACHE", str(storage / "cache"))
    best = leaderboard("demo", storage=storage).iloc[0]
    model = export("demo", tmp_path / "bundle", storage=storage)
    assert model.trial.number == best["trial"]
    card = (tmp_path / "bundle" / "README.md").read_text()
    assert f"| valid_worst_recall | {percent_text(best['valid_worst_recall'])} |" in card
    study = mirror_study(find_experiment("demo", storage).config(), read_subject_state(storage))
    assert study.best_value == best["valid_worst_recall"]


def read_subject_state(storage: Path) -> ExperimentState:
    return find_experiment("demo", storage).snapshot().state


def test_leaderboard_rejects_a_metric_that_was_not_recorded(tmp_path: Path) -> None:
    finished_search(tmp_path, make_config())
    with pytest.raises(
        OptionError, match=r"`metric` is 'valid_worst_recall', which the search 'demo'"
    ):
        leaderboard("demo", storage=tmp_path, metric="valid_worst_recall")


def test_metric_that_is_not_finite_fails_the_trial(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = make_config(**CHANGES)
    prepared = prepare(config.data, cache_dir=tmp_path / "cache")
    params = {"cell": "gru", "hidden_size": 4, "embedding_size": 4}
    task = TrialTask(0, params, 1, local_checkpoints(tmp_path), metrics=("valid_worst_recall",))
    monkeypatch.setattr("worst_recall.np.mean", lambda _: float("nan"))
    with pytest.raises(TrialError, match="The metric valid_worst_recall is nan after epoch 1"):
        next(run_trial(task, prepared))


def test_packed_trials_report_the_metric_that_they_have_alone(tmp_path: Path) -> None:
    config = make_config(**CHANGES)
    prepared = prepare(config.data, cache_dir=tmp_path / "cache")
    params = {"cell": "gru", "hidden_size": 4, "embedding_size": 4}
    wanted = ("valid_loss", "valid_worst_recall")
    tasks = [
        TrialTask(number, params, 1, local_checkpoints(tmp_path / f"{number}"), metrics=wanted)
        for number in range(2)
    ]
    with native.disabled():
        pack = Pack(prepared, device="cpu")
        for task in tasks:
            pack.add(task)
        reports = pack.run_epoch()
        for task in tasks:
            report, expected = reports[task.number], next(run_trial(task, prepared))
            assert isinstance(report, EpochReport)
            value = expected.metrics["valid_worst_recall"]
            assert report.metrics["valid_worst_recall"] == pytest.approx(value, abs=1e-6)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"metric": "valid_f1"}, "metric: 'valid_f1' is not a metric. Did you mean"),
        (
            {"metric": "valid_worst_recall", "budget": {"target": 90}},
            "budget.target is 90, but valid_worst_recall is between 0 and 1. Write 0.9 for 90 %.",
        ),
    ],
)
def test_invalid_configs_are_rejected(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make_config(**changes)
