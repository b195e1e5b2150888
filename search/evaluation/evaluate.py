"""Evaluation of a search: its best trials, retrained from scratch and scored on the test split.

Ray, torch and scikit-learn are imported only if there is a model to evaluate.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from celltune.search.baselines.linear import BASELINES, labelled_texts
from celltune.search.config.schema import SearchConfig
from celltune.search.errors import ExperimentError, OptionError
from celltune.search.evaluation.checkpoints import remove_used_checkpoints
from celltune.search.evaluation.summaries import best_ended_trials
from celltune.search.ledger.evaluations import EvaluationReported
from celltune.search.ledger.events import EnsembleSelected
from celltune.search.ledger.state import ExperimentState, TrialRecord
from celltune.search.runs.session import (
    check_same_data,
    config_for_run,
    connected_cluster,
    usable_gpus,
)
from celltune.search.runs.stop_requests import StopRequests, stop_signals
from celltune.search.runs.view import SilentView, View
from celltune.search.storage.base import Experiment
from celltune.search.storage.locate import find_experiment
from celltune.search.types import TRAINING_SPLITS, TrainingSplits
from celltune.search.wording import counted
from celltune.spelling import closest_match

if TYPE_CHECKING:
    from celltune.data_prep.dataset.tensorized import PreparedData, PreparedTest
    from celltune.search.cluster.task_pool import Job
    from celltune.search.evaluation.evaluator import Evaluator


@dataclass(frozen=True)
class EvaluationSettings:
    """The models to evaluate."""

    top: int = 3
    """Number of best trials to retrain."""
    seeds: int = 5
    """Number of retrainings of each trial; their seeds are 1, 2, ..."""
    on: TrainingSplits = "train"
    """Splits to train on.

    With train, a model trains for as many epochs as its trial could have had, and validation
    chooses the epoch. With train+valid, it trains up to the epoch that was the trial's best."""
    baselines: bool = True
    """True to evaluate the linear baselines as well."""
    ensemble: bool = False
    """True to evaluate the experiment's ensemble instead of retraining trials."""

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            OptionError: a value is not allowed.
        """
        for name in ("top", "seeds"):
            if getattr(self, name) < 1:
                raise OptionError(f"`{name}` is {getattr(self, name)}; it must be at least 1.")
        if self.on not in TRAINING_SPLITS:
            raise OptionError(f"`on` is '{self.on}'. {closest_match(self.on, TRAINING_SPLITS)}")
        if self.ensemble and self.on != "train":
            raise OptionError(
                f"`on` is '{self.on}', but the models of an ensemble are stored, and were trained "
                "on train. Omit `on`."
            )


@dataclass(frozen=True)
class EvaluationPlan:
    """The models of an evaluation that are not in the ledger yet."""

    on: TrainingSplits
    retrainings: Sequence[tuple[TrialRecord, int]]
    """Trials, each with a seed."""
    baselines: Sequence[str]
    ensemble: EnsembleSelected | None = None

    def __len__(self) -> int:
        """Return the number of models; an ensemble counts as one."""
        return len(self.retrainings) + len(self.baselines) + (self.ensemble is not None)


def plan_evaluation(
    state: ExperimentState, config: SearchConfig, settings: EvaluationSettings
) -> EvaluationPlan:
    """Return the models that are to be evaluated and are not in the ledger yet.

    Raises:
        ExperimentError: no trial has finished, or there is no ensemble.
    """
    on = settings.on
    fitted = {event.name for event in state.baselines if event.on == on}
    baselines = [name for name in BASELINES if settings.baselines and name not in fitted]
    if settings.ensemble:
        if state.ensemble is None:
            raise ExperimentError(
                f"The experiment '{config.name}' has no ensemble. Select one, then evaluate it."
            )
        return EvaluationPlan(on, [], baselines, None if state.ensemble_scores else state.ensemble)
    evaluated = {
        (event.number, event.seed)
        for event in state.evaluations
        if isinstance(event, EvaluationReported) and event.on == on
    }
    return EvaluationPlan(
        on,
        [
            (trial, seed)
            for trial in best_ended_trials(state, config.metric, settings.top)
            for seed in range(1, settings.seeds + 1)
            if (trial.number, seed) not in evaluated
        ],
        baselines,
    )


def evaluate(
    name: str,
    settings: EvaluationSettings | None = None,
    *,
    storage: Path | str | None = None,
    address: str | None = None,
    overrides: Sequence[str] = (),
    view: View | None = None,
) -> ExperimentState:
    """Retrain the best trials of a search with several seeds, and score them on the test split.

    With `EvaluationSettings(ensemble=True)`, score the experiment's ensemble instead, from the
    stored checkpoints of its members.

    Results are stored in the experiment's ledger. Models whose results are there are not evaluated
    again, so the same call continues an interrupted evaluation.

    Args:
        name: name of the experiment.
        settings: the models to evaluate; None: the defaults of `EvaluationSettings`.
        storage: folder or URI of the experiments; None: $CELLTUNE_STORAGE or ~/celltune_results.
        address: address of a running Ray cluster; None: a local one is started.
        overrides: changes of the config for this run, each `key.path=value` or `~key.path`; as for
            `resume`, only keys that do not affect the results, such as data.test_path.
        view: shows the progress; None: nothing is shown.

    Returns:
        State of the experiment; `celltune.search.evaluation.summaries` summarizes it.

    Raises:
        InputError: there is no such experiment, finished trial or test split, the experiment is
            running, or its data changed.
        KeyboardInterrupt: the evaluation was stopped by a signal or a stop request.
    """
    settings, view = settings or EvaluationSettings(), view or SilentView()
    experiment = find_experiment(name, storage)
    with experiment.locked():
        experiment.clear_stop()
        config, state = config_for_run(experiment, overrides), experiment.state()
        plan = plan_evaluation(state, config, settings)
        remove_used_checkpoints(experiment, state)
        if not len(plan):
            return state
        data, test = _prepare_data(experiment, config, state, view)
        with (
            connected_cluster(config.resources, experiment.storage, address, view) as slots,
            experiment.open_ledger() as ledger,
            stop_signals() as signalled,
        ):
            from celltune.search.cluster.task_pool import run_jobs
            from celltune.search.evaluation.evaluator import Evaluator

            _check_gpus(plan, config, data, view)
            view.stage(
                f"Evaluating {counted(len(plan), 'model')} on "
                f"{counted(len(test.split), 'test document')}"
            )
            evaluator = Evaluator(experiment, config, ledger, data, test, view.message)
            with closing(_counted(_jobs(plan, evaluator, config, view), len(plan), view)) as jobs:
                run_jobs(jobs, slots, StopRequests([experiment], signalled, None, view))
            return evaluator.state


def _prepare_data(
    experiment: Experiment, config: SearchConfig, state: ExperimentState, view: View
) -> tuple[PreparedData, PreparedTest]:
    from celltune.data_prep.preparation import pipeline

    test = pipeline.prepare_test(config.data, progress=view.progress)
    data = pipeline.prepare(config.data, progress=view.progress)
    check_same_data(experiment, state, data)
    return data, test


def _check_gpus(plan: EvaluationPlan, config: SearchConfig, data: PreparedData, view: View) -> None:
    from celltune.search.cluster.gpu_checks import check_gpu_memory

    models = [trial.params for trial, _ in plan.retrainings]
    models += [member.params for member in (plan.ensemble.members if plan.ensemble else ())]
    precisions = {params.get("precision", "float32") for params in models}
    gpus = usable_gpus(config.resources, precisions, view)
    check_gpu_memory(gpus, config.resources, models, data)


def _counted(jobs: Iterator[Job], total: int, view: View) -> Generator[Job, None, None]:
    """Yield jobs that also show in the view how many of them are done."""
    done = 0

    def counted(job: Job) -> Job:
        nonlocal done
        yield from job
        done += 1
        view.progress("Evaluating models", done, total)

    view.progress("Evaluating models", done, total)
    yield from map(counted, jobs)


def _jobs(
    plan: EvaluationPlan, evaluator: Evaluator, config: SearchConfig, view: View
) -> Iterator[Job]:
    """Yield the jobs of all models, the baselines first because they take little time."""
    if plan.baselines:
        yield from _baseline_jobs(plan, evaluator, config, view)
    if plan.ensemble is not None:
        yield evaluator.ensemble(plan.ensemble)
    for trial, seed in plan.retrainings:
        best = trial.best(config.metric)
        if plan.on == "train+valid" and best is not None:
            yield evaluator.retraining(trial, seed, plan.on, best.epoch, keep="last")
        else:
            yield evaluator.retraining(trial, seed, plan.on, trial.max_epochs, keep="best")


def _baseline_jobs(
    plan: EvaluationPlan, evaluator: Evaluator, config: SearchConfig, view: View
) -> Iterator[Job]:
    from celltune.data_prep.preparation.pipeline import read_documents
    from celltune.search.cluster.task_pool import put

    splits = read_documents(config.data, progress=view.progress)
    documents = [*splits.train, *(splits.valid if plan.on == "train+valid" else ())]
    train, test = put(labelled_texts(documents)), put(labelled_texts(splits.test))
    for name in plan.baselines:
        yield evaluator.baseline(name, plan.on, train, test)
