"""The figures of a result, for notebooks; the report shows the same ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from celltune.search.config.schema import SearchConfig
from celltune.search.errors import ExperimentError, OptionError
from celltune.search.interactive.showing import without_tqdm_warning
from celltune.search.ledger.state import ExperimentState
from celltune.search.storage.base import Experiment
from celltune.spelling import closest_match

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from plotly.graph_objects import Figure

SPLITS = ("valid", "test")


def curves(config: SearchConfig, state: ExperimentState) -> Figure:
    """Return the learning curves of all trials."""
    return _drawn(_figures().learning_curves, config, state)


def parallel(config: SearchConfig, state: ExperimentState) -> Figure:
    """Return parallel coordinates of the hyperparameters."""
    _check_searched(config)
    return _drawn(_figures().parallel_coordinates, config, state)


def slices(config: SearchConfig, state: ExperimentState) -> Figure:
    """Return the best value of each trial by hyperparameter."""
    _check_searched(config)
    return _drawn(_figures().slices, config, state)


def importance(config: SearchConfig, state: ExperimentState) -> Figure:
    """Return the importance of the hyperparameters.

    Raises:
        ExperimentError: there are too few trials to compare.
    """
    _check_searched(config)
    figures = _figures()
    found = figures.importances(config, state)
    if not found:
        raise ExperimentError(
            f"The importance of the hyperparameters of '{config.name}' cannot be computed: fewer "
            f"than {figures.MIN_RANKED} trials can be compared, or too many of them have the same "
            "value. Resume the search with more trials."
        )
    return _drawn(lambda *_: figures.importance_bars(found), config, state)


def confusion_figure(counts: NDArray[Any], classes: tuple[str, ...]) -> Figure:
    """Return a confusion matrix as a heatmap."""
    from celltune.search.report.confusion_figure import confusion_heatmap

    return _finished(confusion_heatmap(counts, classes))


def confusion(
    experiment: Experiment,
    config: SearchConfig,
    state: ExperimentState,
    trial: int | None,
    split: str,
) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Return the confusion matrix of a trial, (C, C) with one row per true class, and the classes.

    Args:
        experiment: the experiment.
        config: its config.
        state: its state.
        trial: number of the trial; None: the best trial.
        split: `valid`, predicted with the model of the trial's best epoch, or `test`, from an
            evaluation, summed over the seeds.

    Raises:
        InputError: there is no such trial, split or evaluation, or the model cannot be loaded.
    """
    if split not in SPLITS:
        raise OptionError(f"`split` is '{split}'. {closest_match(split, SPLITS)}")
    if split == "valid":
        return _valid_confusion(experiment, trial)
    import numpy as np

    from celltune.search.evaluation.summaries import summaries

    ranked = state.ranked(config.metric)
    number = ranked[0].number if trial is None and ranked else trial
    for record in summaries(state, config.metric):
        if record["kind"] == "trial" and record["trial"] == number:
            return np.array(record["test_confusion"]), tuple(map(str, record["classes"]))
    raise ExperimentError(
        f"'{config.name}' has no evaluation of "
        f"{'its best trial' if number is None else f'trial {number}'} on the test split. Evaluate "
        "the experiment first, or set `split` to 'valid'."
    )


def _valid_confusion(
    experiment: Experiment, trial: int | None
) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    import numpy as np

    from celltune.search.bundles.export import load_with_data
    from celltune.search.metrics import confusion_matrix, encode_outcomes

    model, data = load_with_data(experiment, trial)
    logs = model.decision.calibrated(model.network.log_probabilities(data.valid))
    predicted = model.decision.labels(np.exp(logs))
    classes = tuple(data.classes)
    outcomes = encode_outcomes(data.valid.labels, predicted, len(classes))
    return confusion_matrix(outcomes, len(classes)), classes


def _figures() -> Any:
    with without_tqdm_warning():
        from celltune.search.report import figures
    return figures


def _check_searched(config: SearchConfig) -> None:
    if not config.space.searched:
        raise ExperimentError(
            f"The search '{config.name}' had no hyperparameters to vary, so there is nothing to "
            "draw."
        )


def _drawn(
    draw: Callable[[SearchConfig, ExperimentState], Figure],
    config: SearchConfig,
    state: ExperimentState,
) -> Figure:
    if not state.ranked(config.metric):
        raise ExperimentError(
            f"No trial of '{config.name}' has finished an epoch yet, so there is nothing to draw. "
            "Wait for the search, or resume it."
        )
    return _finished(draw(config, state))


def _finished(figure: Figure) -> Figure:
    from plotly.graph_objects import Figure

    from celltune.search.report.finishing import finished

    return Figure(finished(figure))
