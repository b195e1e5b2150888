"""Retrains and measures for one experiment, on a Ray cluster; writes all of it into the ledger."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from typing import Any

from celltune.data_prep.dataset.packed_words import PackedWords
from celltune.data_prep.dataset.tensorized import PreparedData, PreparedTest
from celltune.models.errors import TrialError
from celltune.search.cluster.task_pool import Job, put, submit
from celltune.search.config.schema import SearchConfig
from celltune.search.errors import ExperimentError
from celltune.search.evaluation import baselines
from celltune.search.evaluation.checkpoints import remove_used_checkpoints, retraining_name
from celltune.search.evaluation.metrics import Scores
from celltune.search.evaluation.retraining import Retraining, Trained, retrain, score_model
from celltune.search.ledger.events import (
    BaselineReported,
    EvaluationFailed,
    EvaluationReported,
    Event,
    TestSplitRead,
)
from celltune.search.ledger.ledger import Ledger
from celltune.search.ledger.state import ExperimentState, TrialRecord
from celltune.search.storage.base import Experiment
from celltune.search.types import KeptEpoch, TrainingSplits
from celltune.search.wording import percent_text


class Evaluator:
    """One experiment's models and test split.

    Invariants: that the test split is read is in the ledger before it is read; what came of it is
    in the ledger before anyone is told.
    """

    def __init__(
        self,
        folder: Experiment,
        config: SearchConfig,
        ledger: Ledger,
        data: PreparedData,
        test: PreparedTest,
        *,
        clock: Callable[[], float],
        tell: Callable[[str], None],
    ) -> None:
        """Put the data into the cluster's object store. A cluster must be joined.

        Args:
            folder: of the experiment, locked.
            config: of the experiment.
            ledger: of the experiment, open for writing.
            data: training and validation reviews.
            test: the test part.
            clock: seconds since 1970.
            tell: is given a line for each thing that happened.

        Raises:
            ExperimentError: the test split isn't the one that was read before.
        """
        self.state = ExperimentState(ledger)
        self._folder, self._config, self._ledger = folder, config, ledger
        self._classes, self._reviews = list(data.classes), len(test.split)
        self._fingerprint = test.fingerprint
        self._check_same_test()
        vectors = data.info.get("vectors")
        self._coverage = vectors.get("tokens") if isinstance(vectors, dict) else None
        self._data = put(replace(data, words=PackedWords.of(data.words)))
        self._test = put(test.split)
        self._clock, self._tell = clock, tell

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
        """Train a trial's parameters from scratch, then read the test split once.

        Args:
            trial: whose parameters.
            seed: of the weights, the order of batches and dropout.
            on: what is learned from.
            epochs: how many.
            keep: the epoch whose weights are scored.
            label: name of the model in messages; None: trial and seed.
        """
        config, name = self._config, label or f"trial {trial.number}, seed {seed}"
        task = Retraining(
            params=trial.params,
            seed=seed,
            on=on,
            epochs=epochs,
            keep=keep,
            metric=config.metric,
            storage=self._folder.checkpoints(trial.number),
            name=retraining_name(seed, on),
            device="cuda" if config.resources.gpus_per_trial > 0 else "cpu",
        )
        try:
            trained: Trained = yield self._submit(retrain, task, self._data)
            self._reads(f"{name}, trained on {on}")
            found: Scores = yield self._submit(score_model, task, trained, self._data, self._test)
        except TrialError as error:
            self._record(
                EvaluationFailed(
                    at=self._clock(), number=trial.number, seed=seed, on=on, error=str(error)
                )
            )
            self._tell(f"{name} failed: {error}")
            return
        if isinstance(self._coverage, float):
            found.metrics["vector_coverage"] = self._coverage
        common = self._common(on, found)
        self._record(
            EvaluationReported(number=trial.number, seed=seed, epoch=trained.epoch, **common)
        )
        remove_used_checkpoints(self._folder, self.state)
        metrics = found.metrics
        each = f"{metrics['seconds_per_epoch']:.1f} s each"
        self._say(name, metrics, f"epoch {trained.epoch} of {epochs}, {each}")

    def baseline(self, name: str, on: TrainingSplits, train: Any, test: Any) -> Job:
        """Fit a baseline and read the test split once.

        Args:
            name: a key of `search.baselines.BASELINES`.
            on: what `train` holds.
            train: a reference to `search.baselines.Labelled` reviews to learn from.
            test: a reference to those of the test part.
        """
        self._reads(f"{name}, trained on {on}")
        run, classes = baselines.run, len(self._classes)
        found: Scores = yield self._submit(run, name, train, test, classes)
        self._record(BaselineReported(name=name, **self._common(on, found)))
        metrics = found.metrics
        self._say(name, metrics, f"{metrics['seconds']:.1f} s")

    def _common(self, on: TrainingSplits, found: Scores) -> dict[str, Any]:
        return {
            "at": self._clock(),
            "on": on,
            "classes": self._classes,
            "test_fingerprint": self._fingerprint,
            **asdict(found),
        }

    def _say(self, name: str, metrics: Mapping[str, float], more: str) -> None:
        share = percent_text(metrics["test_accuracy"])
        self._tell(f"{name}: {share} of {self._reviews:,} test reviews right ({more})")

    def _submit(self, call: Callable[..., Any], *arguments: Any) -> Any:
        return submit(self._config.resources, self._config.retries, call, *arguments)

    def _reads(self, reader: str) -> None:
        self._record(TestSplitRead(at=self._clock(), reader=reader, reviews=self._reviews))

    def _record(self, event: Event) -> None:
        self._ledger.append(event)
        self.state.apply(event)

    def _check_same_test(self) -> None:
        measured = [e for e in self.state.evaluations if isinstance(e, EvaluationReported)]
        for event in [*measured, *self.state.baselines]:
            if event.test_fingerprint != self._fingerprint:
                raise ExperimentError(
                    f"The test split of '{self._folder.name}' isn't the one that was read before: "
                    f"its fingerprint is {self._fingerprint[:12]}, before it was "
                    f"{event.test_fingerprint[:12]}. Put the original test data back."
                )
