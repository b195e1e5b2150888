"""Launch, resume, evaluate and open searches from Python: the public functions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from celltune.search.cluster.shared_ray import share_local_ray, stop_shared_ray
from celltune.search.config.schema import SearchConfig
from celltune.search.errors import OptionError
from celltune.search.interactive.showing import Shown, shown
from celltune.search.runs import launch as runs
from celltune.search.runs.stop_requests import interrupts_deferred
from celltune.search.runs.view import View
from celltune.search.storage.locate import find_experiment
from celltune.search.tuning.budget_changes import Changes

if TYPE_CHECKING:
    import pandas as pd

    from celltune.search.evaluation.evaluate import EvaluationSettings
    from celltune.search.interactive.own_data import Data
    from celltune.search.interactive.result import Result
    from celltune.search.ledger.state import ExperimentState

Config = SearchConfig | Mapping[str, Any] | Path | str
"""A config, its plain values, or the path of a YAML file."""


def launch(
    config: Config | pd.DataFrame,
    *,
    data: Data | None = None,
    test: Data | None = None,
    valid: Data | None = None,
    text: str | None = None,
    label: str | None = None,
    name: str | None = None,
    time: float | str | None = None,
    warm_start: str | None = None,
    storage: Path | str | None = None,
    address: str | None = None,
    overrides: Sequence[str] = (),
    view: Shown = "auto",
) -> Result:
    """Create an experiment and run its search until it is over, or until it is interrupted.

    Ctrl-C, or interrupting the cell of a notebook, ends the search cleanly: the result says so, and
    `resume` continues it. A local Ray cluster that is started here remains for the next search of
    this process (see `shutdown`).

    Args:
        config: a DataFrame or the path of a file with labelled texts, for which a config is
            proposed as by `celltune init`; or the path of a YAML file, its content as a dict, or a
            config.
        data: with a config: a DataFrame or the path of a file with labelled texts, instead of the
            files that the config names.
        test: more labelled texts, for the test split, which no search reads.
        valid: more labelled texts, for the validation split.
        text: name of the column that contains the texts; None: it is recognized.
        label: name of the column that contains the labels; None: it is recognized.
        name: name of the experiment; None: the config's name, or one after the file.
        time: stops the search cleanly after this time: seconds, or 90s, 30m or 2h.
        warm_start: name of an earlier experiment in the same storage, whose trials the sampler
            learns from before it proposes the first one.
        storage: folder or object store URI of experiments; None: $CELLTUNE_STORAGE, or
            ~/celltune_results if that is not set.
        address: address of a running Ray cluster; None: a local one.
        overrides: config values as `key.path=value`, or `~key.path` to remove a key.
        view: what is shown. `auto`: a live table in a notebook and on a terminal, nothing
            elsewhere; `lines`: a line per event; None: nothing.

    Raises:
        InputError: an argument or the data is invalid; no experiment was created.
    """
    with interrupts_deferred():
        from celltune.data_prep.io.files import default_cache_dir
        from celltune.search.interactive.data_frames import frames_named
        from celltune.search.interactive.own_data import OwnData, settled

    own = OwnData(data, test, valid, text, label)
    settings = [*overrides, *([] if time is None else [f"budget.time={time}"])]
    share_local_ray()
    with shown(view) as display, frames_named(default_cache_dir()):
        result = runs.launch(
            settled(config, own, settings, name=name, time=time, view=display),
            name=name,
            warm_start=warm_start,
            storage=storage,
            address=address,
            overrides=settings,
            view=display,
        )
        return _result_of(result, display)


def resume(
    name: str,
    *,
    trials: int | str | None = None,
    max_epochs: int | None = None,
    target: float | str | None = None,
    patience: int | str | None = None,
    repeat: bool = False,
    retry_failed: bool = False,
    changes: Changes | None = None,
    storage: Path | str | None = None,
    address: str | None = None,
    overrides: Sequence[str] = (),
    view: Shown = "auto",
) -> Result:
    """Continue a search from its ledger after it was stopped, killed, or over.

    Finished trials are not repeated; unfinished ones continue from their newest intact checkpoint.
    If the search is over and nothing extends it, nothing happens.

    Args:
        name: name of the experiment.
        trials: the new total number of trials (100), or an increment ("+4").
        max_epochs: the new maximum number of epochs of a trial; it can only grow.
        target: the value of the metric that ends the search, or "none".
        patience: number of trials without improvement that ends it, or "none".
        repeat: whether further trials may repeat configurations, with other seeds.
        retry_failed: whether failed trials are retried from their newest checkpoints.
        changes: all of these as one object, instead of the separate arguments.
        storage: see `launch`.
        address: see `launch`.
        overrides: config values as `key.path=value`, for this run only: keys of `data`,
            `resources`, and others that do not change what the metrics mean.
        view: see `launch`.

    Raises:
        InputError: the experiment does not exist, is damaged, or is running in another process; its
            data changed; or the changes are invalid.
    """
    separate = Changes(
        trials=trials,
        max_epochs=max_epochs,
        target=target,
        patience=patience,
        repeat=repeat,
        retry_failed=retry_failed,
    )
    if changes is not None and separate != Changes():
        raise OptionError(
            "`changes` is given together with `trials`, `max_epochs`, `target`, `patience`, "
            "`repeat` or `retry_failed`, which it contains. Omit one of them."
        )
    share_local_ray()
    with shown(view) as display:
        result = runs.resume(
            name,
            changes=changes or separate,
            storage=storage,
            address=address,
            overrides=overrides,
            view=display,
        )
        return _result_of(result, display)


def experiment(name: str, *, storage: Path | str | None = None) -> Result:
    """Return the result of a stored experiment as it is now, also while it is running.

    Args:
        name: name of the experiment.
        storage: see `launch`.

    Raises:
        InputError: the experiment does not exist or is damaged.
    """
    from celltune.search.interactive.result import read_result

    return read_result(find_experiment(name, storage))


def evaluate(
    name: str,
    settings: EvaluationSettings | None = None,
    *,
    storage: Path | str | None = None,
    address: str | None = None,
    overrides: Sequence[str] = (),
    view: Shown = "auto",
) -> ExperimentState:
    """Retrain the best trials with several seeds, and score them on the test split.

    Results are stored in the experiment's ledger: the same call continues an interrupted
    evaluation, and `experiment` returns a result that contains them.

    Args:
        name: name of the experiment.
        settings: the models to evaluate; None: the defaults of `EvaluationSettings`.
        storage: see `launch`.
        address: see `launch`.
        overrides: see `resume`.
        view: see `launch`.

    Raises:
        InputError: there is no such experiment, finished trial or test split, the experiment is
            running, or its data changed.
        KeyboardInterrupt: the evaluation was interrupted.
    """
    from celltune.search.evaluation import evaluate as evaluations

    share_local_ray()
    with shown(view) as display:
        return evaluations.evaluate(
            name,
            settings,
            storage=storage,
            address=address,
            overrides=overrides,
            view=display,
        )


def shutdown() -> None:
    """Stop the local Ray cluster that earlier searches of this process left for later ones.

    It uses some memory while it is idle. Without this call it is stopped when the process ends.
    Clusters that celltune did not start are not stopped.

    Raises:
        ResourceError: a search in another thread is using it.
    """
    stop_shared_ray()


def _result_of(run: runs.RunResult, view: View) -> Result:
    """Return the result of a run, and show in one line what it is."""
    from celltune.search.interactive.result import result_of

    result = result_of(run)
    hint = f" Continue it with celltune.resume({result.name!r})." if result.interrupted else ""
    view.message(f"{result.headline}.{hint}")
    return result
