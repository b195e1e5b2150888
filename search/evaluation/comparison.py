"""Comparison of published models with their sources: training, and the table of results.

A comparison has no state of its own. What is trained is in the experiments of the models
(`published_models`), so a call continues where an earlier one ended, however it ended. Ray and
torch are imported only if there is a model to train.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from celltune.errors import InputError
from celltune.search.errors import OptionError
from celltune.search.evaluation.checkpoints import remove_used_checkpoints
from celltune.search.evaluation.published_models import PublishedModel, Training
from celltune.search.ledger.events import TrialCreated
from celltune.search.runs.session import check_same_data, connected_cluster, usable_gpus
from celltune.search.runs.stop_requests import StopRequests, stop_signals
from celltune.search.runs.view import SilentView, View
from celltune.search.storage.base import Experiment
from celltune.search.storage.launched import created_event
from celltune.search.wording import listed, percent_text

if TYPE_CHECKING:
    from celltune.data_prep.dataset.tensorized import PreparedData, PreparedTest
    from celltune.search.cluster.gpu_checks import GpuNode
    from celltune.search.cluster.task_pool import Job
    from celltune.search.evaluation.evaluator import Evaluator

_COMPARED_METRICS = (
    "test_accuracy",
    "test_loss",
    "train_accuracy",
    "valid_accuracy",
    "parameters",
    "seconds",
)

StopReason = Literal["interrupted", "time"]
"""Why a comparison ended early: a signal or a stop request, or the time limit."""


@dataclass(frozen=True)
class Comparison:
    """Result of a comparison, complete or not."""

    records: Sequence[dict[str, Any]]
    """One record per model; see `compare`."""
    left: Sequence[Training]
    """Trainings without a result, round by round. Those that failed are among them."""
    reason: StopReason | None = None
    """None if every training was tried."""


def compare(
    models: Sequence[PublishedModel],
    *,
    seeds: int = 1,
    time_limit: float | None = None,
    address: str | None = None,
    view: View | None = None,
) -> Comparison:
    """Train published models that were not trained before, and compare all with their sources.

    Every model is trained with the seed of its config before any is trained with the next seed,
    and cheap models are trained before expensive ones. A training that was interrupted continues
    after its last complete epoch. Each training reads the test split once, at its end. If the data
    of a model cannot be read, its record contains the error, and the other models are trained.

    Args:
        models: the models to compare.
        seeds: number of trainings of each model; their seeds are that of the config and the next.
        time_limit: maximum duration in seconds; None: no limit.
        address: address of a running Ray cluster; None: a local one is started.
        view: shows the progress; None: nothing is shown.

    Returns:
        The trainings that are left, and one record per model with `name`, `source`, `scale`,
        `data`, `stands_in` (whether other data replace the source's), `seeds` (with a result),
        `seeds_left` (without one), `epochs` (that were scored, one per seed), `vector_coverage`
        (share of the tokens that the word vectors contain), `error`, for each X of test_accuracy,
        test_loss, train_accuracy, valid_accuracy, parameters and seconds (of training)
        `reported_X`, `measured_X` (mean over seeds) and `spread_X` (their standard deviation; None
        for a single seed), `measured_cpu_seconds`, and `difference_test_accuracy` (measured minus
        reported).

    Raises:
        OptionError: `seeds` is below 1.
    """
    if seeds < 1:
        raise OptionError(f"`seeds` is {seeds}; it must be at least 1.")
    view = view or SilentView()
    left = _left(models, seeds)
    errors: dict[str, str] = {}
    reason = _train(left, errors, time_limit, address, view) if left else None
    return Comparison(summarize(models, seeds, errors), _left(models, seeds), reason)


def summarize(
    models: Sequence[PublishedModel], seeds: int, errors: Mapping[str, str] | None = None
) -> list[dict[str, Any]]:
    """Return the records of `compare` from the results that are stored, without training.

    Args:
        models: the models.
        seeds: number of seeds of each model.
        errors: why models could not be trained, by config name.
    """
    return [_record(model, seeds, (errors or {}).get(model.config.name)) for model in models]


def _left(models: Sequence[PublishedModel], seeds: int) -> list[Training]:
    """Return the trainings without a result: the first seeds of all models, the second ones, ..."""
    done = {model.experiment.name: model.results() for model in models}
    rounds = zip(*(model.seeds(seeds) for model in models), strict=True)
    return [
        Training(model, seed)
        for round_seeds in rounds
        for model, seed in zip(models, round_seeds, strict=True)
        if seed not in done[model.experiment.name]
    ]


def _train(
    left: Sequence[Training],
    errors: dict[str, str],
    time_limit: float | None,
    address: str | None,
    view: View,
) -> StopReason | None:
    """Train models, as many side by side as the cluster can.

    Args:
        left: the trainings, round by round.
        errors: receives invalid input, such as missing data, by config name.
        time_limit: maximum duration in seconds; None: no limit.
        address: address of a running Ray cluster; None: a local one is started.
        view: shows the progress.

    Returns:
        Why the training ended early; None if it did not.
    """
    models = [training.model for training in left]
    precisions = {value for model in models for value in model.config.space.values("precision")}
    resources, storage = models[0].config.resources, models[0].experiment.storage
    reason: StopReason = "interrupted"
    try:
        with (
            connected_cluster(resources, storage, address, view) as slots,
            stop_signals() as signalled,
        ):
            from celltune.search.cluster.task_pool import run_jobs

            gpus = usable_gpus(resources, precisions, view)
            trainer = _ModelTrainer(gpus, errors, view)
            stop = StopRequests(trainer.active, signalled, time_limit, view)
            try:
                run_jobs(map(trainer.job, _in_order(left, view)), slots, stop)
            finally:
                reason = stop.reason or reason
    except KeyboardInterrupt:
        return reason
    return None


def _in_order(left: Sequence[Training], view: View) -> Iterator[Training]:
    """Yield the cheapest trainings of each round first."""
    from celltune.search.evaluation.training_order import Costs

    costs = Costs(view.progress)
    rounds: dict[int, list[Training]] = {}
    for training in left:
        rounds.setdefault(training.seed - training.model.config.seed, []).append(training)
    for trainings in rounds.values():
        # Sorted when its turn comes, because costs are known from the results of earlier rounds.
        yield from costs.cheapest_first(trainings)


@dataclass
class _OpenModel:
    """A model whose experiment is locked, while trainings of it run."""

    evaluator: Evaluator
    resources: ExitStack
    users: int = 0
    """Number of its trainings that run."""


class _ModelTrainer:
    """Trains models; the trainings of one model share its experiment and its data."""

    def __init__(self, gpus: Sequence[GpuNode], errors: dict[str, str], view: View) -> None:
        """Open no experiment yet.

        Args:
            gpus: the nodes whose GPUs train.
            errors: receives invalid input by config name.
            view: shows the progress.
        """
        self.active: list[Experiment] = []
        """Experiments that are locked."""
        self._gpus, self._errors, self._view = gpus, errors, view
        self._open: dict[str, _OpenModel] = {}

    def job(self, training: Training) -> Job:
        """Prepare the data, and train and score a model."""
        model, seed = training.model, training.seed
        name = model.config.name
        if name in self._errors:
            return
        try:
            with self._evaluator(model) as evaluator:
                (trial,) = evaluator.state.trials
                yield from evaluator.retraining(
                    trial,
                    seed,
                    model.published.learned_from,
                    model.config.budget.max_epochs,
                    keep=model.published.keep,
                    label=f"{name}, seed {seed}",
                )
        except InputError as error:
            self._errors[name] = str(error)
            self._view.message(f"{name} cannot be trained: {error}")

    @contextmanager
    def _evaluator(self, model: PublishedModel) -> Iterator[Evaluator]:
        name = model.experiment.name
        if name not in self._open:
            with ExitStack() as stack:
                evaluator = self._make_evaluator(model, stack)
                self._open[name] = _OpenModel(evaluator, stack.pop_all())
        opened = self._open[name]
        opened.users += 1
        try:
            yield opened.evaluator
        finally:
            opened.users -= 1
            if not opened.users:
                del self._open[name]
                opened.resources.close()

    def _make_evaluator(self, model: PublishedModel, stack: ExitStack) -> Evaluator:
        from celltune.search.cluster.gpu_checks import check_gpu_memory
        from celltune.search.evaluation.evaluator import Evaluator

        config, experiment = model.config, model.experiment
        params = dict(config.space.fixed)
        self._view.stage(f"Preparing {config.name}")
        data, test = _prepare_data(model, self._view)
        check_gpu_memory(self._gpus, config.resources, [params], data)
        if not experiment.is_complete():
            created = created_event(config, at=time.time(), fingerprint=data.fingerprint)
            experiment.create(config, created)
        stack.enter_context(experiment.locked())
        ledger = stack.enter_context(experiment.open_ledger())
        experiment.clear_stop()
        self.active.append(experiment)
        stack.callback(self.active.remove, experiment)
        state = model.state()
        check_same_data(experiment, state, data)
        remove_used_checkpoints(experiment, state)
        if not state.trials:
            epochs = config.budget.max_epochs
            ledger.append(TrialCreated(at=time.time(), number=0, params=params, max_epochs=epochs))
        return Evaluator(experiment, config, ledger, data, test, self._view.message)


def _prepare_data(model: PublishedModel, view: View) -> tuple[PreparedData, PreparedTest]:
    from celltune.data_prep.dataset.subsets import stratified_subset
    from celltune.data_prep.preparation import pipeline

    config = model.config.data
    test = pipeline.prepare_test(config, progress=view.progress)
    data = pipeline.prepare(config, progress=view.progress)
    train_subset, valid_subset, test_subset = (
        stratified_subset(split, model.scale, config.seed)
        for split in (data.train, data.valid, test.split)
    )
    return replace(data, train=train_subset, valid=valid_subset), replace(test, split=test_subset)


def _record(model: PublishedModel, seeds: int, error: str | None) -> dict[str, Any]:
    wanted, data = model.seeds(seeds), model.config.data
    results = {seed: result for seed, result in model.results().items() if seed in wanted}
    failures = [failure.error for seed, failure in model.failures().items() if seed in wanted]
    reported = model.published.reported.model_dump()
    record: dict[str, Any] = {
        "name": model.config.name,
        "source": model.published.source,
        "scale": model.scale,
        "data": Path(data.location).name,
        "stands_in": model.uses_stand_in,
        "seeds": sorted(results),
        "seeds_left": [seed for seed in wanted if seed not in results],
        "epochs": [results[seed].epoch for seed in sorted(results)],
        "vector_coverage": None,
        "error": error or next(iter(failures), None),
    }
    metrics = [result.metrics for result in results.values()]
    for name in _COMPARED_METRICS:
        mean, spread = _mean_and_spread(metrics, name)
        record[f"reported_{name}"] = reported[name]
        record[f"measured_{name}"] = int(mean) if name == "parameters" and mean else mean
        record[f"spread_{name}"] = spread
    record["vector_coverage"], _ = _mean_and_spread(metrics, "vector_coverage")
    record["measured_cpu_seconds"], _ = _mean_and_spread(metrics, "cpu_seconds")
    pair = record["measured_test_accuracy"], record["reported_test_accuracy"]
    record["difference_test_accuracy"] = None if None in pair else pair[0] - pair[1]
    return record


def _mean_and_spread(
    metrics: Sequence[Mapping[str, float]], name: str
) -> tuple[float | None, float | None]:
    """Return the mean over seeds, and the standard deviation with n - 1 in the denominator."""
    values = [each[name] for each in metrics if name in each]
    mean = float(np.mean(values)) if values else None
    return mean, float(np.std(values, ddof=1)) if len(values) > 1 else None


def notes(records: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Yield sentences that are needed to interpret a comparison."""
    yield (
        "Pairs are reported / measured. Measured values are means over the seeds, ± the standard "
        "deviation; the test split is read once per seed, after the training."
    )
    unfinished = [record["name"] for record in records if record["seeds_left"]]
    if unfinished:
        yield f"Not finished: {listed(unfinished)}."
    scales = sorted({record["scale"] for record in records})
    if scales != [1.0]:
        shares = " or ".join(percent_text(scale, digits=None) for scale in scales)
        yield (
            f"The models were trained and tested on {shares} of the documents, so the measured "
            "values neither confirm nor refute the reported ones. The vocabulary is that of all "
            "documents."
        )
    with_stand_in = [record for record in records if record["stands_in"]]
    for data in sorted({record["data"] for record in with_stand_in}):
        names = ", ".join(record["name"] for record in with_stand_in if record["data"] == data)
        yield f"{names}: trained on {data} instead of the source's data, so not comparable."
    coverages = [record["vector_coverage"] for record in records if record["vector_coverage"]]
    if coverages:
        bounds = dict.fromkeys((min(coverages), max(coverages)))
        shares = " to ".join(percent_text(share, digits=1) for share in bounds)
        yield f"The available word vectors cover {shares} of the tokens of the training split."
    for record in records:
        if record["error"]:
            yield f"{record['name']} failed: {record['error']}"
