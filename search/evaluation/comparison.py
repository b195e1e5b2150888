"""Published models, trained here as they were there, and measured beside what was reported.

Each is an experiment of one trial, in the folder `compared` of the storage; its name carries a
digest of config and scale, so that a changed config is trained anew. Ray and torch are imported
only once something is really trained.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
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
from celltune.search.ledger.state import ExperimentState
from celltune.search.runs.session import check_same_data, connected_cluster, resolve_for_run
from celltune.search.runs.stop_requests import StopRequests, stop_signals
from celltune.search.runs.view import SilentView, View
from celltune.search.storage.base import Experiment, Storage
from celltune.search.storage.locate import open_storage
from celltune.search.wording import percent_text
from celltune.spelling import closest_match

if TYPE_CHECKING:
    from celltune.data_prep.dataset.tensorized import PreparedData, PreparedTest
    from celltune.search.cluster.task_pool import Job

COMPARED = "compared"
_PAIRS = ("test_accuracy", "test_loss", "train_accuracy", "valid_accuracy", "parameters", "seconds")


@dataclass(frozen=True)
class Entry:
    """One published model, with the data that it is trained on here."""

    config: SearchConfig
    published: Published
    stands_in: bool
    """Whether other data than the source's are taken, because its files aren't there."""
    scale: float
    """The share of the reviews that is used."""
    folder: Experiment

    def state(self) -> ExperimentState:
        """What was done so far."""
        return self.folder.state() if self.folder.is_complete() else ExperimentState()

    def measured(self) -> EvaluationReported | EvaluationFailed | None:
        """What came of it; None where it wasn't trained to the end."""
        return next(iter(reversed(self.state().evaluations)), None)


def entries(
    path: Path,
    *,
    scale: float,
    only: Sequence[str] = (),
    overrides: Sequence[str] = (),
    storage: Path | str | None = None,
) -> list[Entry]:
    """Read the configs of published models.

    Args:
        path: a config, or a folder of configs.
        scale: the share of the reviews that is used.
        only: names; empty: all.
        overrides: `key.path=value` each, for every config.
        storage: the folder of experiments.

    Raises:
        OptionError: there is no config, or none of such a name.
        ConfigError: a mistake in a config, or one that isn't of a single published model.
    """
    files = sorted(path.glob("*.yaml")) if path.is_dir() else [path]
    if not files:
        raise OptionError(f"There is no .yaml file in {path}. Name a folder such as configs/seeds.")
    names = {file.stem: file for file in files}
    for name in only:
        if name not in names:
            raise OptionError(
                f"There is no config '{name}' in {path}. {closest_match(name, names)}"
            )
    root = open_storage(storage) / COMPARED
    chosen = [names[name] for name in dict.fromkeys(only)] or files
    return [_entry(file, scale, overrides, root) for file in chosen]


def _entry(file: Path, scale: float, overrides: Sequence[str], root: Storage) -> Entry:
    config = resolve_for_run(file, overrides)
    published = config.published
    if published is None:
        raise ConfigError(f"{file} has no section published, so there is nothing to compare with.")
    if config.space.searched:
        raise ConfigError(
            f"{file} searches {', '.join(config.space.searched)}; a published model is one model. "
            "Give each a single value, or search with celltune launch."
        )
    stand_in = published.stand_in
    stands_in = stand_in is not None and any(not each.exists() for each in _files(config.data))
    if stands_in and stand_in is not None:
        config = config.model_copy(update={"data": stand_in.anchored()})
    name = f"{config.name}-{_digest(config, scale)}"
    return Entry(config, published, stands_in, scale, root.experiment(name))


def _files(data: DataConfig) -> list[Path]:
    """The files that a config names."""
    vectors = data.vectors.path if data.vectors else None
    return [path for path in (data.path, data.test_path, vectors) if path is not None]


def _digest(config: SearchConfig, scale: float) -> str:
    # Only what shapes the training, and no defaults: a key of a later release changes nothing.
    shaping = config.model_dump_json(
        include={
            **dict.fromkeys(("name", "seed", "metric", "data", "space"), True),
            "budget": {"max_epochs"},
            "published": {"learned_from", "keep"},
        },
        exclude_defaults=True,
    )
    return hashlib.sha256(f"{scale!r} {shaping}".encode()).hexdigest()[:8]


def compare(
    chosen: Sequence[Entry],
    *,
    address: str | None = None,
    view: View | None = None,
    clock: Callable[[], float] = time.time,
) -> list[dict[str, Any]]:
    """Train what wasn't trained to the end, and give the table.

    Each is trained with its config's seed, and reads the test part once. A model whose data can't
    be read is told, and the others go on.

    Args:
        chosen: what to compare.
        address: of a running Ray cluster; None: a local one is started.
        view: shows what happens; None: nothing is shown.
        clock: seconds since 1970.

    Returns:
        A record for each: `name`, `source`, `scale`, `data`, `stands_in`, `epoch`,
        `vector_coverage` (the share of the tokens that the word vectors know), `error`, and
        `reported_X` and `measured_X`, where X is test_accuracy, test_loss, train_accuracy,
        valid_accuracy, parameters and seconds (of training).

    Raises:
        KeyboardInterrupt: it was asked to stop.
    """
    view = view or SilentView()
    todo = [each for each in chosen if not isinstance(each.measured(), EvaluationReported)]
    errors: dict[str, str] = {}
    if todo:
        from celltune.search.cluster.task_pool import run_jobs

        active: list[Experiment] = []
        resources, root = todo[0].config.resources, todo[0].folder.storage
        with (
            connected_cluster(resources, root, address, view) as slots,
            stop_signals() as signalled,
        ):
            jobs = (_job(each, active, errors, view, clock) for each in todo)
            run_jobs(jobs, slots, StopRequests(active, signalled, None, view))
    return [_record(each, errors.get(each.config.name)) for each in chosen]


def _job(
    entry: Entry,
    active: list[Experiment],
    errors: dict[str, str],
    view: View,
    clock: Callable[[], float],
) -> Job:
    try:
        yield from _training(entry, active, view, clock)
    except InputError as error:
        errors[entry.config.name] = str(error)
        view.message(f"{entry.config.name} can't be trained: {error}")


def _training(
    entry: Entry, active: list[Experiment], view: View, clock: Callable[[], float]
) -> Job:
    from celltune.search.evaluation.evaluator import Evaluator

    config = entry.config
    view.stage(f"Preparing {config.name}")
    data, test = _prepared(entry, view)
    if not entry.folder.is_complete():
        created = ExperimentCreated(at=clock(), fingerprint=data.fingerprint)
        entry.folder.create(config, created)
    with ExitStack() as stack:
        stack.enter_context(entry.folder.locked())
        entry.folder.clear_stop()
        active.append(entry.folder)
        stack.callback(active.remove, entry.folder)
        ledger = stack.enter_context(entry.folder.open_ledger())
        epochs = config.budget.max_epochs
        if not entry.state().trials:
            fixed = dict(config.space.fixed)
            ledger.append(TrialCreated(at=clock(), number=0, params=fixed, max_epochs=epochs))
        check_same_data(entry.folder, entry.state(), data)
        bench = Evaluator(entry.folder, config, ledger, data, test, clock=clock, tell=view.message)
        (trial,) = bench.state.trials
        yield from bench.retraining(
            trial,
            config.seed,
            entry.published.learned_from,
            epochs,
            keep=entry.published.keep,
            label=config.name,
        )


def _prepared(entry: Entry, view: View) -> tuple[PreparedData, PreparedTest]:
    from celltune.data_prep.dataset.subsets import stratified_subset
    from celltune.data_prep.preparation import pipeline

    config, scale = entry.config.data, entry.scale
    test = pipeline.prepare_test(config, progress=view.progress)
    data = pipeline.prepare(config, progress=view.progress)
    train, valid, tested = (
        stratified_subset(part, scale, config.seed) for part in (data.train, data.valid, test.split)
    )
    return replace(data, train=train, valid=valid), replace(test, split=tested)


def _record(entry: Entry, error: str | None) -> dict[str, Any]:
    event = entry.measured()
    found = event if isinstance(event, EvaluationReported) else None
    if isinstance(event, EvaluationFailed):
        error = error or event.error
    metrics: Mapping[str, float] = found.metrics if found else {}
    reported = entry.published.reported.model_dump()
    data = entry.config.data
    record: dict[str, Any] = {
        "name": entry.config.name,
        "source": entry.published.source,
        "scale": entry.scale,
        "data": data.path.name if data.path else data.source,
        "stands_in": entry.stands_in,
        "epoch": found.epoch if found else None,
        "vector_coverage": metrics.get("vector_coverage"),
        "error": error,
    }
    for name in _PAIRS:
        record[f"reported_{name}"] = reported[name]
        value = metrics.get(name)
        record[f"measured_{name}"] = int(value) if name == "parameters" and value else value
    return record


def notes(records: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Say what must be known to read a comparison."""
    yield "Each cell is reported / measured; measured with one seed, the test part read once."
    scales = sorted({each["scale"] for each in records})
    if scales != [1.0]:
        shares = " or ".join(percent_text(scale, digits=None) for scale in scales)
        yield (
            f"Trained and tested on {shares} of the reviews, so this doesn't say that a reported "
            "figure is met or missed. The vocabulary is that of all."
        )
    for data in sorted({each["data"] for each in records if each["stands_in"]}):
        names = ", ".join(e["name"] for e in records if e["stands_in"] and e["data"] == data)
        yield f"{names}: not the source's data but {data}, so the figures can't be compared."
    known = sorted({e["vector_coverage"] for e in records if e["vector_coverage"] is not None})
    if known:
        ends = " to ".join(
            percent_text(share, digits=1) for share in dict.fromkeys((known[0], known[-1]))
        )
        yield f"The word vectors that were at hand know {ends} of the training part's tokens."
    for each in records:
        if each["error"]:
            yield f"{each['name']} failed: {each['error']}"
