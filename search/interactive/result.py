"""The result of a search: its best trial, tables, figures and models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from celltune.search.config.schema import SearchConfig
from celltune.search.errors import ExperimentError
from celltune.search.escaping import html_text
from celltune.search.interactive import plots
from celltune.search.ledger.events import EndReason
from celltune.search.ledger.state import ExperimentState
from celltune.search.runs import launch as runs
from celltune.search.runs.status import Status, summarize
from celltune.search.storage.base import Experiment
from celltune.search.tuning.untried import planned_trials
from celltune.search.types import Metric, ParameterValue
from celltune.search.wording import (
    counted,
    describe_params,
    distinguishing_params,
    metric_text,
)

if TYPE_CHECKING:
    import pandas as pd
    from plotly.graph_objects import Figure

    from celltune.search.bundles.predictor import TrainedModel
    from celltune.search.bundles.trial_model import TrialModel
    from celltune.search.evaluation.evaluate import EvaluationSettings

_HTML_ROWS = 5


@dataclass(frozen=True)
class BestTrial:
    """The trial that ranks first, and its best epoch."""

    number: int
    metric: Metric
    """The metric that ranks the trials."""
    value: float
    """The metric after the best epoch."""
    epoch: int
    """The best epoch; the first one is 1."""
    status: str
    """unfinished, completed, pruned or failed."""
    params: Mapping[str, ParameterValue]
    """All hyperparameters."""
    metrics: Mapping[str, float] = field(repr=False)
    """All metrics after the best epoch."""


@dataclass(frozen=True, eq=False, repr=False)
class Result:
    """A search at one moment: of its launch or resume, or as it was read by `experiment`.

    It does not change while the search goes on: `experiment` reads the current one.
    """

    experiment: Experiment
    config: SearchConfig
    """With the budget in force."""
    state: ExperimentState
    status: Status
    """finished: the search is over. stopped: it can be resumed. killed: its process died, and it
    can be resumed, too. running: a process is working on it."""
    reason: EndReason | None
    """Why the last run ended; None if it was killed or is running."""

    @property
    def name(self) -> str:
        """Name of the experiment."""
        return self.experiment.name

    @property
    def interrupted(self) -> bool:
        """True if the last run was stopped before the search was over, so that it can resume."""
        return self.reason in ("interrupted", "time")

    # -----------------------------------------------------------------------------------------
    # Values and tables

    @property
    def best(self) -> BestTrial:
        """The best trial.

        Raises:
            ExperimentError: no trial has finished an epoch.
        """
        metric = self.config.metric
        trial = next(iter(self.state.ranked(metric)), None)
        epoch = None if trial is None else trial.best(metric)
        if trial is None or epoch is None:
            raise ExperimentError(
                f"No trial of '{self.name}' has finished an epoch yet, so there is no best one. "
                "Wait for the search, or resume it."
            )
        return BestTrial(
            number=trial.number,
            metric=metric,
            value=epoch.metrics[metric],
            epoch=epoch.epoch,
            status=trial.status,
            params=dict(trial.params),
            metrics=dict(epoch.metrics),
        )

    @property
    def leaderboard(self) -> pd.DataFrame:
        """One row per trial, the best first, with its hyperparameters and best metrics."""
        import pandas as pd

        return pd.DataFrame(self._rows())

    @property
    def trials(self) -> pd.DataFrame:
        """The rows of the leaderboard in the order in which the trials started, by number."""
        import pandas as pd

        rows = sorted(self._rows(), key=lambda row: int(row["trial"]))
        return pd.DataFrame(rows, columns=None if rows else ["trial"]).set_index("trial")

    @property
    def curves(self) -> pd.DataFrame:
        """One row per trial and epoch, with a column for each metric, as plotting libraries expect.

        The column `trial` refers to the index of `trials`.
        """
        import pandas as pd

        rows = [
            {"trial": trial.number, "epoch": epoch.epoch, **epoch.metrics}
            for trial in self.state.trials
            for epoch in trial.epochs
        ]
        return pd.DataFrame(rows, columns=None if rows else ["trial", "epoch"])

    def confusion(self, trial: int | None = None, *, split: str = "valid") -> pd.DataFrame:
        """Return the confusion matrix of a trial: rows are true classes, columns predicted ones.

        Args:
            trial: number of the trial; None: the best trial.
            split: `valid`, or `test` after an evaluation.

        Raises:
            InputError: there is no such trial or evaluation, or the model cannot be loaded.
        """
        import pandas as pd

        counts, classes = self._confusion(trial, split)
        return pd.DataFrame(
            counts, pd.Index(classes, name="true"), pd.Index(classes, name="predicted")
        )

    def _rows(self) -> list[dict[str, Any]]:
        from celltune.search.results.ranking import ranking_of

        return ranking_of(self.config, self.state, running=self.status == "running")

    def _confusion(self, trial: int | None, split: str) -> tuple[Any, tuple[str, ...]]:
        return plots.confusion(self.experiment, self.config, self.state, trial, split)

    # -----------------------------------------------------------------------------------------
    # Figures

    def plot_curves(self) -> Figure:
        """Return the learning curves of all trials as a plotly figure.

        Raises:
            ExperimentError: no trial has finished an epoch.
        """
        return plots.curves(self.config, self.state)

    def plot_parallel(self) -> Figure:
        """Return every trial as a line through its hyperparameters, as a plotly figure.

        Raises:
            ExperimentError: no trial has finished an epoch, or nothing was searched.
        """
        return plots.parallel(self.config, self.state)

    def plot_slices(self) -> Figure:
        """Return the best value of every trial by hyperparameter, as a plotly figure.

        Raises:
            ExperimentError: no trial has finished an epoch, or nothing was searched.
        """
        return plots.slices(self.config, self.state)

    def plot_importance(self) -> Figure:
        """Return the PED-ANOVA importance of the hyperparameters as a plotly figure.

        Raises:
            ExperimentError: there are too few trials to compare, or nothing was searched.
        """
        return plots.importance(self.config, self.state)

    def plot_confusion(self, trial: int | None = None, *, split: str = "valid") -> Figure:
        """Return the confusion matrix of a trial as a plotly figure.

        Args:
            trial: see `confusion`.
            split: see `confusion`.

        Raises:
            InputError: see `confusion`.
        """
        return plots.confusion_figure(*self._confusion(trial, split))

    # -----------------------------------------------------------------------------------------
    # Models

    def model(self, trial: int | None = None, *, ensemble: bool = False) -> TrainedModel:
        """Load the model of a trial, or the ensemble of the experiment.

        Args:
            trial: number of the trial; None: the best trial.
            ensemble: load the ensemble instead of a trial.

        Raises:
            InputError: there is no such trial or ensemble, or its model cannot be loaded.
        """
        from celltune.search.bundles.ensemble_model import check_no_trial, load_ensemble_model
        from celltune.search.bundles.export import load_with_data

        if ensemble:
            check_no_trial(trial)
            return load_ensemble_model(self.experiment).trained()
        return load_with_data(self.experiment, trial)[0]

    def predict(self, texts: Sequence[str] | pd.Series[Any]) -> pd.DataFrame:
        """Classify texts with the best model, which stays loaded for the next call.

        Args:
            texts: any number of texts. A pandas Series keeps its index.

        Returns:
            One row per text: `label`, `probability` (of the label), `note` (why there is no
            prediction, or empty), and the probability of each class in a column `p_CLASS`.

        Raises:
            InputError: there is no model, or it cannot be loaded.
        """
        import pandas as pd

        index = texts.index if isinstance(texts, pd.Series) else None
        listed = [texts] if isinstance(texts, str) else list(texts)
        model = self._best_model
        rows = [
            {
                "label": each.label,
                "probability": each.probability,
                "note": each.note,
                **{f"p_{name}": each.probabilities.get(name) for name in model.classes},
            }
            for each in model.predict(listed)
        ]
        columns = ["label", "probability", "note", *(f"p_{name}" for name in model.classes)]
        return pd.DataFrame(rows, index=index, columns=columns)

    @cached_property
    def _best_model(self) -> TrainedModel:
        return self.model()

    def export(
        self, output: Path | str, *, trial: int | None = None, onnx: bool = False
    ) -> TrialModel:
        """Export the model of a trial to a folder of its own, which `load_model` loads.

        Args:
            output: the folder to write; it must be new or empty.
            trial: number of the trial; None: the best trial.
            onnx: also write the model as model.onnx.

        Raises:
            InputError: an argument is invalid or the model cannot be loaded; nothing was written.
        """
        from celltune.search.bundles.export import export

        return export(self.name, output, trial=trial, onnx=onnx, storage=self._storage)

    # -----------------------------------------------------------------------------------------
    # Going on

    def resume(self, **settings: Any) -> Result:
        """Continue or extend the search, and return the new result.

        Args:
            settings: those of `celltune.resume`, such as `trials="+4"`.

        Raises:
            InputError: see `celltune.resume`.
        """
        from celltune.search.interactive.searches import resume

        return resume(self.name, storage=self._storage, **settings)

    def evaluate(self, settings: EvaluationSettings | None = None, **options: Any) -> Result:
        """Retrain the best trials and score them on the test split; return the new result.

        Args:
            settings: the models to evaluate; None: the defaults of `EvaluationSettings`.
            options: other arguments of `celltune.evaluate`.

        Raises:
            InputError: see `celltune.evaluate`.
        """
        from celltune.search.interactive.searches import evaluate

        evaluate(self.name, settings, storage=self._storage, **options)
        return read_result(self.experiment)

    @property
    def _storage(self) -> str:
        return str(self.experiment.storage)

    # -----------------------------------------------------------------------------------------
    # Representations

    def __repr__(self) -> str:
        return f"Result({self.headline})"

    @property
    def headline(self) -> str:
        """The status, the number of trials and the best value, in one line."""
        state, metric = self.state, self.config.metric
        ended = len(state.trials) - state.count("unfinished")
        counts = [f"{ended} of {counted(planned_trials(self.config, state), 'trial')} done"]
        counts += [f"{n} {kind}" for kind in ("pruned", "failed") if (n := state.count(kind))]
        ranked = state.ranked(metric)
        if ranked:
            value = metric_text(metric, ranked[0].best_value(metric))
            counts.append(f"best {metric} {value} in trial {ranked[0].number}")
        return f"{self.name}: {self.status}, {', '.join(counts)}"

    def _repr_html_(self) -> str:
        """Return the headline and the best trials, for notebooks."""
        from celltune.search.results.formats import readable_table
        from celltune.search.results.ranking import context_sentences

        metric, varied = self.config.metric, self.config.varied
        rows = self._rows()
        table = ""
        if rows:
            shown = [
                {
                    **{key: row[key] for key in ("rank", "trial", "status", "epochs")},
                    **{key: row[key] for key in dict.fromkeys((metric, "valid_loss"))},
                    "parameters": describe_params(
                        distinguishing_params(self.state.trials[row["trial"]].params, varied)
                    ),
                }
                for row in rows[:_HTML_ROWS]
            ]
            table = readable_table(shown).html()
        sentences = [self.headline, *context_sentences(self.state, metric)]
        lines = "".join(f"<div>{html_text(sentence)}</div>" for sentence in sentences)
        return f"<div>{lines}{table}</div>"


RunResult = Result
"""The name of `Result` in release 0.1.0."""


def result_of(run: runs.RunResult) -> Result:
    """Return the result of a launch or a resume."""
    status: Status = "stopped" if run.interrupted else "finished"
    return Result(run.experiment, run.config, run.state, status, run.reason)


def read_result(experiment: Experiment) -> Result:
    """Read the result of an experiment, whether or not it is running.

    Raises:
        InputError: the config or the ledger is damaged.
    """
    summary = summarize(experiment)
    ended = summary.state.ended
    reason = None if summary.status == "running" or ended is None else ended.reason
    return Result(experiment, summary.config, summary.state, summary.status, reason)
