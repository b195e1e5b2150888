"""Published models, trained as they were published, next to the reported results.

Each model is an experiment with one trial in the folder `compared` of the storage. The experiment's
name contains a digest of its config and scale, so a model whose config changed is trained again.
Ray and torch are imported only if there is a model to train.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from celltune.data_prep.config import DataConfig
from celltune.errors import InputError
from celltune.search.config.published import Published
from celltune.search.config.schema import SearchConfig
from celltune.search.errors import ConfigError, OptionError
from celltune.search.ledger.events import (
    EvaluationFailed,
    EvaluationReported,
    ExperimentCreated,
    TrialCreated,
)
from celltune.search.ledger.ledger import Ledger
from celltune.search.ledger.state import ExperimentState
from celltune.search.runs.session import (
    check_same_data,
    connected_cluster,
    resolve_for_run,
    usable_gpus,
)
from celltune.search.runs.stop_requests import StopRequests, stop_signals
from celltune.search.runs.view import SilentView, View
from celltune.search.storage.base import Experiment, Storage
from celltune.search.storage.locate import open_storage
from celltune.search.wording import percent_text
from celltune.spelling import closest_match

if TYPE_CHECKING:
    from celltune.data_prep.dataset.tensorized import PreparedData, PreparedTest
    from celltune.search.cluster.gpu_checks import GpuNode
    from celltune.search.cluster.task_pool import Job

COMPARED = "compared"
_COMPARED_METRICS = (
    "test_accuracy",
    "test_loss",
    "train_accuracy",
    "valid_accuracy",
    "parameters",
    "seconds",
)


@dataclass(frozen=True)
class PublishedModel:
    """A published model, and the experiment that trains it here."""

    config: SearchConfig
    published: Published
    uses_stand_in: bool
    """True if other data replaces that of the source because its files are missing."""
    scale: float
    """Share of the documents that is used."""
    experiment: Experiment

    def state(self) -> ExperimentState:
        """Return the state of the experiment; an empty one if it was not created yet."""
        experiment = self.experiment
        return experiment.state() if experiment.is_complete() else ExperimentState()

    def last_result(self) -> EvaluationReported | EvaluationFailed | None:
        """Return the result of the last training; None if none was completed."""
        return next(iter(reversed(self.state().evaluations)), None)


def load_published_models(
    path: Path,
    *,
    scale: float,
    only: Sequence[str] = (),
    overrides: Sequence[str] = (),
    storage: Path | str | None = None,
) -> list[PublishedModel]:
    """Load the configs of published models.

    Args:
        path: a config, or a folder of configs.
        scale: share of the documents that is used, above 0 and at most 1.
        only: names of the configs to load; empty: all of the folder.
        overrides: changes of every config, each `key.path=value`.
        storage: folder or URI of the experiments; None: $CELLTUNE_STORAGE or ~/celltune_results.

    Raises:
        OptionError: there is no config, or none with one of the names.
        ConfigError: a config is invalid, or does not describe a single published model.
    """
    files = sorted(path.glob("*.yaml")) if path.is_dir() else [path]
    if not files:
        raise OptionError(
            f"The folder {path} contains no .yaml file. Name a folder of configs, such as "
            "configs/seeds."
        )
    by_name = {file.stem: file for file in files}
    for name in only:
        if name not in by_name:
            raise OptionError(
                f"`only` is '{name}', which is no config in '{path}'. "
                f"{closest_match(name, by_name)}"
            )
    compared = open_storage(storage) / COMPARED
    selected = [by_name[name] for name in dict.fromkeys(only)] or files
    return [_load_published_model(file, scale, overrides, compared) for file in selected]


def _load_published_model(
    file: Path, scale: float, overrides: Sequence[str], storage: Storage
) -> PublishedModel:
    config = resolve_for_run(file, overrides)
    published = config.published
    if published is None:
        raise ConfigError(
            f"The config {file} has no section 'published', so there are no reported results to "
            "compare with. Add one."
        )
    if config.space.searched:
        raise ConfigError(
            f"The config {file} searches {', '.join(config.space.searched)}, but a published model "
            "has a single value for each hyperparameter. Fix these values, or launch a search."
        )
    stand_in = published.stand_in
    uses_stand_in = False
    if stand_in is not None and not all(file.exists() for file in _data_files(config.data)):
        uses_stand_in = True
        config = config.model_copy(update={"data": stand_in.anchored()})
    name = f"{config.name}-{_digest(config, scale)}"
    return PublishedModel(config, published, uses_stand_in, scale, storage.experiment(name))


def _data_files(data: DataConfig) -> list[Path]:
    """Return the files that a config names."""
    vectors = data.vectors.path if data.vectors else None
    return [path for path in (data.path, data.test_path, vectors) if path is not None]


def _digest(config: SearchConfig, scale: float) -> str:
    # Only keys that affect the training, and no defaults, so that a new key changes no digest.
    relevant = config.model_dump_json(
        include={
            **dict.fromkeys(("name", "seed", "metric", "data", "space"), True),
            "budget": {"max_epochs"},
            "published": {"learned_from", "keep"},
        },
        exclude_defaults=True,
    )
    return hashlib.sha256(f"{scale!r} {relevant}".encode()).hexdigest()[:8]


def compare(
    models: Sequence[PublishedModel], *, address: str | None = None, view: View | None = None
) -> list[dict[str, Any]]:
    """Train published models that were not trained before, and compare all with their sources.

    Each model is trained with the seed of its config, and reads the test split once. If the data of
    a model cannot be read, its record contains the error, and the other models are trained.

    Args:
        models: the models to compare.
        address: address of a running Ray cluster; None: a local one is started.
        view: shows the progress; None: nothing is shown.

    Returns:
        One record per model, with `name`, `source`, `scale`, `data`, `stands_in` (whether other
        data replace the source's), `epoch`, `vector_coverage` (share of the tokens that the word
        vectors contain), `error`, and `reported_X` and `measured_X` for each X of test_accuracy,
        test_loss, train_accuracy, valid_accuracy, parameters and seconds (of training).

    Raises:
        KeyboardInterrupt: the comparison was stopped by a signal or a stop request.
    """
    view = view or SilentView()
    unfinished = [m for m in models if not isinstance(m.last_result(), EvaluationReported)]
    errors = _train(unfinished, address, view) if unfinished else {}
    return [_record(model, errors.get(model.config.name)) for model in models]


def _train(models: Sequence[PublishedModel], address: str | None, view: View) -> dict[str, str]:
    """Train models side by side; return invalid input, such as missing data, by config name."""
    from celltune.search.cluster.task_pool import run_jobs

    active: list[Experiment] = []
    errors: dict[str, str] = {}

    def job(model: PublishedModel) -> Job:
        name = model.config.name
        try:
            yield from _training(model, active, gpus, view)
        except InputError as error:
            errors[name] = str(error)
            view.message(f"{name} cannot be trained: {error}")

    precisions = {value for model in models for value in model.config.space.values("precision")}
    resources, storage = models[0].config.resources, models[0].experiment.storage
    with (
        connected_cluster(resources, storage, address, view) as slots,
        stop_signals() as signalled,
    ):
        gpus = usable_gpus(resources, precisions, view)
        run_jobs(map(job, models), slots, StopRequests(active, signalled, None, view))
    return errors


def _training(
    model: PublishedModel, active: list[Experiment], gpus: Sequence[GpuNode], view: View
) -> Job:
    """Prepare the data and train a model.

    Args:
        model: the model.
        active: experiments that are locked; contains the model's while it is trained.
        gpus: the nodes whose GPUs train.
        view: shows the progress.
    """
    from celltune.search.cluster.gpu_checks import check_gpu_memory

    view.stage(f"Preparing {model.config.name}")
    data, test = _prepare_data(model, view)
    check_gpu_memory(gpus, model.config.resources, [model.config.space.fixed], data)
    experiment = model.experiment
    if not experiment.is_complete():
        created = ExperimentCreated(at=time.time(), fingerprint=data.fingerprint)
        experiment.create(model.config, created)
    with experiment.locked(), experiment.open_ledger() as ledger:
        experiment.clear_stop()
        active.append(experiment)
        try:
            check_same_data(experiment, model.state(), data)
            yield from _retraining(model, ledger, data, test, view)
        finally:
            active.remove(experiment)


def _retraining(
    model: PublishedModel, ledger: Ledger, data: PreparedData, test: PreparedTest, view: View
) -> Job:
    from celltune.search.evaluation.evaluator import Evaluator

    config, epochs = model.config, model.config.budget.max_epochs
    if not model.state().trials:
        params = dict(config.space.fixed)
        ledger.append(TrialCreated(at=time.time(), number=0, params=params, max_epochs=epochs))
    evaluator = Evaluator(model.experiment, config, ledger, data, test, view.message)
    (trial,) = evaluator.state.trials
    yield from evaluator.retraining(
        trial,
        config.seed,
        model.published.learned_from,
        epochs,
        keep=model.published.keep,
        label=config.name,
    )


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


def _record(model: PublishedModel, error: str | None) -> dict[str, Any]:
    result = model.last_result()
    if isinstance(result, EvaluationFailed):
        error = error or result.error
    scores = result if isinstance(result, EvaluationReported) else None
    metrics: Mapping[str, float] = scores.metrics if scores else {}
    reported = model.published.reported.model_dump()
    data = model.config.data
    record: dict[str, Any] = {
        "name": model.config.name,
        "source": model.published.source,
        "scale": model.scale,
        "data": data.path.name if data.path else data.source,
        "stands_in": model.uses_stand_in,
        "epoch": scores.epoch if scores else None,
        "vector_coverage": metrics.get("vector_coverage"),
        "error": error,
    }
    for name in _COMPARED_METRICS:
        value = metrics.get(name)
        record[f"reported_{name}"] = reported[name]
        record[f"measured_{name}"] = int(value) if name == "parameters" and value else value
    return record


def notes(records: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Yield sentences that are needed to interpret a comparison."""
    yield (
        "Each cell is reported / measured. Measured values are those of one seed; the test split "
        "was read once."
    )
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
