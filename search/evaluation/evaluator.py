"""Evaluation of one experiment's models on a Ray cluster, recorded in its ledger."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from celltune.data_prep.dataset.packed_words import PackedWords
from celltune.data_prep.dataset.tensorized import PreparedData, PreparedTest, TensorizedSplit
from celltune.models.errors import TrialError
from celltune.search.baselines.linear import score_baseline
from celltune.search.cluster.task_pool import Job, put, submit
from celltune.search.config.schema import SearchConfig
from celltune.search.decisions import DEFAULT, Decision
from celltune.search.ensembles.wording import ensemble_title
from celltune.search.errors import ExperimentError
from celltune.search.evaluation.checkpoints import remove_used_checkpoints, retraining_name
from celltune.search.evaluation.costs import WideCosts
from celltune.search.evaluation.ensembles import score_ensemble, stored_members
from celltune.search.evaluation.retraining import (
    RetrainedModel,
    Retraining,
    retrain,
    score_model,
)
from celltune.search.ledger.evaluations import (
    BaselineReported,
    EnsembleReported,
    Evaluated,
    EvaluationFailed,
    EvaluationReported,
    TestSplitRead,
)
from celltune.search.ledger.events import EnsembleSelected, Event
from celltune.search.ledger.ledger import Ledger
from celltune.search.ledger.state import ExperimentState, TrialRecord
from celltune.search.metrics import Scores
from celltune.search.objective import BY_ACCURACY
from celltune.search.storage.base import Experiment
from celltune.search.tuning.trial import fit_of
from celltune.search.types import TRAINING_SPLITS, KeptEpoch, ParameterValue, TrainingSplits
from celltune.search.wording import counted, metric_text, percent_text


class Evaluator:
    """Retrains and scores the models of one experiment.

    Invariants: each reading of the test split is recorded in the ledger before it happens, and each
    result is recorded before it is shown.
    """

    def __init__(
        self,
        experiment: Experiment,
        config: SearchConfig,
        ledger: Ledger,
        data: PreparedData,
        test: PreparedTest,
        message: Callable[[str], None],
    ) -> None:
        """Copy the data to Ray's object store. The process has to be connected to a cluster.

        Args:
            experiment: the experiment, locked.
            config: the experiment's config.
            ledger: the experiment's ledger, open for writing.
            data: training and validation splits.
            test: test split.
            message: called with a line of text for each result.

        Raises:
            ExperimentError: the test split differs from the one that was read before.
        """
        self.state = ExperimentState(ledger)
        self._experiment, self._config, self._ledger = experiment, config, ledger
        self._classes, self._test_size = list(data.classes), len(test.split)
        self._test_fingerprint = test.fingerprint
        self._check_same_test_split()
        vectors = data.info.get("vectors")
        self._vector_coverage = vectors.get("tokens") if isinstance(vectors, dict) else None
        self._data = put(replace(data, words=PackedWords.of(data.words), wide=None))
        self._test = {"train": put(test.split), "train+valid": put(_test_of_train_valid(test))}
        self._message = message
        self._wide_costs = {on: WideCosts.of(data.info, test.info, on) for on in TRAINING_SPLITS}

    def retraining(
        self,
        trial: TrialRecord,
        seed: int,
        on: TrainingSplits,
        epochs: int,
        *,
        keep: KeptEpoch,
        label: str | None = None,
    ) -> Job:
        """Train a trial's hyperparameters from scratch, then score the model.

        Args:
            trial: the trial.
            seed: seed of the initial weights, the order of batches, and dropout.
            on: splits to train on.
            epochs: number of epochs.
            keep: epoch whose weights are scored.
            label: name of the model in messages; None: trial and seed.
        """
        label = label or f"trial {trial.number}, seed {seed}"
        task = self._retraining_task(trial, seed, on, epochs, keep)
        try:
            model: RetrainedModel = yield self._submit(retrain, task, self._data)
            self._record_test_reading(f"{label}, trained on {on}")
            scores: Scores = yield self._submit(
                score_model, task, model, self._data, self._test[on]
            )
        except TrialError as error:
            self._record(
                EvaluationFailed(
                    at=time.time(), number=trial.number, seed=seed, on=on, error=str(error)
                )
            )
            self._message(f"{label} failed: {error}")
            return
        scores = self._with_wide_costs(scores, on, [trial.params])
        if isinstance(self._vector_coverage, float):
            scores.metrics["vector_coverage"] = self._vector_coverage
        result = self._result_fields(on, scores)
        event = EvaluationReported(number=trial.number, seed=seed, epoch=model.epoch, **result)
        self._record(event)
        remove_used_checkpoints(self._experiment, self.state)
        details = [f"epoch {model.epoch} of {epochs}"]
        if "seconds_per_epoch" in scores.metrics:
            details.append(f"{scores.metrics['seconds_per_epoch']:.1f} s per epoch")
        elif "seconds" in scores.metrics:
            details = [f"fitted in {scores.metrics['seconds']:.1f} s"]
        self._show_scores(label, event, ", ".join(details))

    def baseline(self, name: str, on: TrainingSplits, train: Any, test: Any) -> Job:
        """Fit a baseline and score it.

        Args:
            name: a key of `baselines.BASELINES`.
            on: splits that `train` contains.
            train: reference to the `baselines.LabelledTexts` to fit the baseline on.
            test: reference to those of the test split.
        """
        self._record_test_reading(f"{name}, trained on {on}")
        scores: Scores = yield self._submit(score_baseline, name, train, test, len(self._classes))
        event = BaselineReported(name=name, **self._result_fields(on, scores))
        self._record(event)
        self._show_scores(name, event, f"{scores.metrics['seconds']:.1f} s")

    def ensemble(self, selected: EnsembleSelected) -> Job:
        """Score the experiment's ensemble, from the checkpoints of its members.

        Args:
            selected: the ensemble that was selected last.

        Raises:
            TrialError: a checkpoint is missing or damaged.
        """
        label = ensemble_title(selected)
        members = stored_members(self._experiment, selected.members)
        self._record_test_reading(label)
        scores: Scores = yield self._submit(
            score_ensemble,
            members,
            self._device,
            self._data,
            self._test["train"],
            Decision.of(selected.fitted),
        )
        models = [member.params for member in selected.members]
        scores = self._with_wide_costs(scores, "train", models)
        fields = self._result_fields("train", scores)
        event = EnsembleReported(members=selected.members, **fields)
        self._record(event)
        milliseconds = scores.metrics.get("milliseconds_per_review")
        speed = [] if milliseconds is None else [f"{milliseconds:.2f} ms per document"]
        models_text = counted(len(selected.members), "stored model")
        self._show_scores(label, event, ", ".join([models_text, *speed]))

    @property
    def _device(self) -> str:
        return "cuda" if self._config.resources.gpus_per_trial > 0 else "cpu"

    def _retraining_task(
        self, trial: TrialRecord, seed: int, on: TrainingSplits, epochs: int, keep: KeptEpoch
    ) -> Retraining:
        best = trial.best(self._config.metric)
        return Retraining(
            params=trial.params,
            seed=seed,
            on=on,
            epochs=epochs,
            keep=keep,
            metric=self._config.metric,
            checkpoints=self._experiment.checkpoints(trial.number),
            name=retraining_name(seed, on),
            device=self._device,
            patience=self._config.budget.epoch_patience,
            fit=fit_of(self._config),
            decision=DEFAULT if best is None else Decision.of(best.metrics),
        )

    def _with_wide_costs(
        self, scores: Scores, on: TrainingSplits, models: Sequence[Mapping[str, ParameterValue]]
    ) -> Scores:
        return replace(scores, metrics=self._wide_costs[on].added_to(scores.metrics, models))

    def _result_fields(self, on: TrainingSplits, scores: Scores) -> dict[str, Any]:
        """Return the fields that the events of trials and of baselines have in common."""
        return {
            "at": time.time(),
            "on": on,
            "classes": self._classes,
            "test_fingerprint": self._test_fingerprint,
            **asdict(scores),
        }

    def _show_scores(self, label: str, event: Evaluated, details: str) -> None:
        shown = f"accuracy {percent_text(event.metrics['test_accuracy'])}"
        metric = self._config.metric
        if metric not in BY_ACCURACY and (value := event.score(metric)) is not None:
            shown += f", {metric.removeprefix('valid_')} {metric_text(metric, value)}"
        documents = counted(self._test_size, "test document")
        self._message(f"{label}: {shown} on {documents} ({details})")

    def _submit(self, function: Callable[..., Any], *arguments: Any) -> Any:
        return submit(self._config.resources, self._config.retries, function, *arguments)

    def _record_test_reading(self, reader: str) -> None:
        self._record(TestSplitRead(at=time.time(), reader=reader, reviews=self._test_size))

    def _record(self, event: Event) -> None:
        self._ledger.append(event)
        self.state.apply(event)

    def _check_same_test_split(self) -> None:
        evaluations = [e for e in self.state.evaluations if isinstance(e, EvaluationReported)]
        ensembles = [self.state.ensemble_scores] if self.state.ensemble_scores else []
        for event in [*evaluations, *self.state.baselines, *ensembles]:
            if event.test_fingerprint != self._test_fingerprint:
                raise ExperimentError(
                    f"The test split of '{self._experiment.name}' has changed: its fingerprint is "
                    f"{self._test_fingerprint[:12]}, but earlier evaluations used "
                    f"{event.test_fingerprint[:12]}. Restore the original test data."
                )


def _test_of_train_valid(test: PreparedTest) -> TensorizedSplit:
    """Return the test split with the wide part of the training and the validation split."""
    if test.wide_train_valid is None:
        return test.split
    return replace(test.split, wide=test.wide_train_valid)
