"""What a run of an existing experiment rejects."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from celltune.data_prep.dataset.tensorized import PreparedData, TensorizedSplit
from celltune.search.cluster import gpu_checks
from celltune.search.config.overrides import CHANGEABLE_KEYS
from celltune.search.config.schema import Resources
from celltune.search.errors import ConfigError, ExperimentError
from celltune.search.ledger.events import ExperimentCreated
from celltune.search.runs.session import (
    check_same_data,
    checked_config,
    config_for_run,
    resolve_for_run,
    usable_gpus,
)
from celltune.search.runs.view import SilentView
from celltune.search.storage.base import Experiment
from celltune.search.storage.locate import new_experiment
from celltune.search.tuning.base import Sampler
from celltune.search.tuning.tpe import TPESampler
from tests.search.simulated_search import make_config

CREATED = ExperimentCreated(at=1.0, fingerprint="f" * 64, valid_reviews=5)
KEYS = f"Keys that can: {', '.join(CHANGEABLE_KEYS)}."


@pytest.fixture
def experiment(tmp_path: Path) -> Experiment:
    experiment = new_experiment("demo", tmp_path)
    experiment.create(make_config(), CREATED)
    return experiment


@pytest.mark.parametrize("key", ["name", "tracking.mlflow", "space.cell", "rescources.x", "dat"])
def test_keys_that_cannot_be_changed_are_rejected(key: str, experiment: Experiment) -> None:
    with pytest.raises(ConfigError) as raised:
        config_for_run(experiment, ["retries=3", f"{key}=x"])
    assert str(raised.value) == (
        f"`overrides` sets {key}, which cannot be changed after the launch. {KEYS}"
    )


@pytest.mark.parametrize("key", ["budget.trials", "budget.max_epochs", "budget"])
def test_the_budget_is_changed_by_the_arguments_of_a_resume(
    key: str, experiment: Experiment
) -> None:
    with pytest.raises(ConfigError) as raised:
        config_for_run(experiment, [f"{key}=9"])
    assert str(raised.value) == (
        f"`overrides` sets {key}, which cannot be changed after the launch. {KEYS} A resume has "
        "its own arguments for trials, max_epochs, target, patience and repeat."
    )


def test_the_other_overrides_are_applied(experiment: Experiment) -> None:
    config = config_for_run(experiment, ["retries=3", "budget.time=2h"])
    assert (config.retries, config.budget.time) == (3, 7200)
    assert config_for_run(experiment, []) == experiment.config()


def test_packed_trials_need_a_sampler_that_proposes_them(
    experiment: Experiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = ["resources.trials_per_worker=2"]
    assert config_for_run(experiment, changes).resources.trials_per_worker == 2
    monkeypatch.setattr(TPESampler, "propose_given", Sampler.propose_given)
    with pytest.raises(ConfigError, match=r"sampler.name is 'tpe', a sampler that cannot propose"):
        config_for_run(experiment, changes)
    with pytest.raises(ConfigError, match=r"Set resources.trials_per_worker to 1, or use"):
        checked_config(experiment.config(), changes)


def test_a_fraction_that_does_not_divide_a_gpu_is_rejected_in_given_configs_only(
    tmp_path: Path, experiment: Experiment
) -> None:
    changes = ["resources.gpus_per_trial=0.3"]
    for resolve in (
        lambda: checked_config(experiment.config(), changes),
        lambda: config_for_run(experiment, changes),
    ):
        with pytest.raises(ConfigError, match="which leaves 10 % of each GPU unused"):
            resolve()
    stored = new_experiment("stored", tmp_path)
    stored.create(make_config(resources={"gpus_per_trial": 0.3}), CREATED)
    assert config_for_run(stored, []).resources.gpus_per_trial == 0.3


def test_a_precision_has_no_effect_on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_checks, "unused_gpus", lambda resources: None)
    monkeypatch.setattr(gpu_checks, "find_gpu_nodes", lambda resources: [])
    view = Messages()
    usable_gpus(Resources(), ["float32"], view)
    assert view.messages == []
    usable_gpus(Resources(), ["float32", "bfloat16"], view)
    assert view.messages == [
        "Trials run on the CPU, which computes in float32, so space.precision has no effect."
    ]


class Messages(SilentView):
    """A view that keeps its messages."""

    def __init__(self) -> None:
        self.messages: list[str] = []

    def message(self, text: str) -> None:
        self.messages.append(text)


@pytest.mark.parametrize("learned", [False, True])
def test_changed_data_is_rejected_with_its_fingerprints(tmp_path: Path, learned: bool) -> None:
    data = {"source": "synthetic", "vectors": {"train": "word2vec"} if learned else None}
    experiment = new_experiment("old", tmp_path)
    experiment.create(make_config(data=data), CREATED)
    ids = TensorizedSplit(np.zeros(1, np.int32), np.array([0, 1]), np.zeros(1, np.int64))
    changed = PreparedData("e" * 64, ids, ids, ("neg", "pos"), ("<unk>", "<pad>"))
    with pytest.raises(
        ExperimentError, match=r"fingerprint f{12}, and the data now has e{12}\."
    ) as raised:
        check_same_data(experiment, experiment.state(), changed)
    assert ("an earlier release learned with gensim" in str(raised.value)) == learned


def test_an_objective_for_other_classes_is_rejected_before_anything_starts(tmp_path: Path) -> None:
    data = {"source": "csv", "path": str(tmp_path / "x.csv"), "classes": ["a", "b", "c"]}
    base = make_config(data=data).model_dump(mode="json")
    cases = {
        "metric=valid_auroc": "metric is valid_auroc, which needs 2 classes, but the data has 3.",
        "early_stopping.by=valid_auroc": "early_stopping.by is valid_auroc, which needs 2 classes",
        "threshold=valid_macro_f1": "threshold is valid_macro_f1, but the data has 3 classes.",
        "space.class_weights=[1, 9]": "space.class_weights has 2 weights, but the data has 3",
        "first_trials=[{cell: gru, class_weights: {d: 2}}]": (
            "first_trials.0.class_weights contains 'd', which is not a class of the data."
        ),
    }
    for override, message in cases.items():
        with pytest.raises(ConfigError) as raised:
            checked_config(base, [override])
        assert message in str(raised.value)
    rows = "\n".join(f"word{number},{'abc'[number % 3]}" for number in range(30))
    (tmp_path / "x.csv").write_text(f"text,label\n{rows}\n")
    assert checked_config(base, ["metric=valid_macro_f1", "space.class_weights={a: 3}"])
    # The classes are inferred.
    base["data"].pop("classes")
    with pytest.raises(ConfigError, match="metric is valid_auroc, which needs 2 classes"):
        resolve_for_run(base, ["metric=valid_auroc"], view=Messages())


def test_what_a_config_omits_is_inferred_shown_and_recorded(tmp_path: Path) -> None:
    rows = [f"review number {number},{('neg', 'pos')[number % 2]}\n" for number in range(600)]
    (path := tmp_path / "r.csv").write_text("".join(["review,sentiment\n", *rows]))
    raw = {"name": "x", "data": {"path": str(path)}, "space": {"cell": "gru"}}
    view = Messages()
    config = resolve_for_run(raw, view=view)
    assert view.messages == [
        f"Inferred from {path} (set a key of data to override it):",
        "  format        csv  (its name)",
        "  text_column   review  (its name)",
        "  label_column  sentiment  (its name)",
        "  classes       neg: 300, pos: 300  (in their usual order)",
    ]
    stored = new_experiment("stored", tmp_path)
    stored.create(config, CREATED)
    path.unlink()
    resumed = config_for_run(stored, [])
    assert resumed.data == config.data
    assert resumed.data.classes == ("neg", "pos")
