"""Retrains and measures for one experiment, on a Ray cluster; writes all of it into the ledger."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from typing import Any

import ray

from data_prep import PreparedData, PreparedTest
from data_prep.words import Words
from models.errors import TrialError
from search import baselines
from search.config import SearchConfig
from search.describe import share_text
from search.errors import ExperimentError
from search.evaluate import retraining_name, tidy
from search.events import (
    BaselineReported,
    EvaluationFailed,
    EvaluationReported,
    Event,
    TestSplitRead,
)
from search.folder import Folder
from search.ledger import Ledger
from search.measures import Measured
from search.pool import Job, submit
from search.retraining import On, Retraining, Trained, measure, retrain
from search.state import ExperimentState, TrialRecord


class Bench:
    """One experiment's models and test split.

    Invariants: that the test split is read is in the ledger before it is read; what came of it is
    in the ledger before anyone is told.
    """

    def __init__(
        self,
        folder: Folder,
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
        self._data = ray.put(replace(data, words=Words.of(data.words)))
        self._test = ray.put(test.split)
        self._clock, self._tell = clock, tell

    def retraining(
        self,
        trial: TrialRecord,
        seed: int,
        on: On,
        epochs: int,
        *,
        keep_best: bool,
        called: str | None = None,
    ) -> Job:
        """Train a trial's parameters from scratch, then read the test split once.

        Args:
            trial: whose parameters.
            seed: of the weights, the order of batches and dropout.
            on: what is learned from.
            epochs: how many.
            keep_best: whether the best epoch on validation is measured, or the last.
            called: what people know it by; None: trial and seed.
        """
        config, name = self._config, called or f"trial {trial.number}, seed {seed}"
        task = Retraining(
            params=trial.params,
            seed=seed,
            on=on,
            epochs=epochs,
            keep="best" if keep_best else "last",
            metric=config.metric,
            storage=self._folder.checkpoints(trial.number),
            name=retraining_name(seed, on),
            device="cuda" if config.resources.gpus_per_trial > 0 else "cpu",
        )
        try:
            trained: Trained = yield self._submit(retrain, task, self._data)
            self._reads(f"{name}, trained on {on}")
            found: Measured = yield self._submit(measure, task, trained, self._data, self._test)
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
        tidy(self._folder, self.state)
        metrics = found.metrics
        each = f"{metrics['seconds_per_epoch']:.1f} s each"
        self._say(name, metrics, f"epoch {trained.epoch} of {epochs}, {each}")

    def baseline(self, name: str, on: On, train: Any, test: Any) -> Job:
        """Fit a baseline and read the test split once.

        Args:
            name: a key of `search.baselines.BASELINES`.
            on: what `train` holds.
            train: a reference to `search.baselines.Labelled` reviews to learn from.
            test: a reference to those of the test part.
        """
        self._reads(f"{name}, trained on {on}")
        run, classes = baselines.run, len(self._classes)
        found: Measured = yield self._submit(run, name, train, test, classes)
        self._record(BaselineReported(name=name, **self._common(on, found)))
        metrics = found.metrics
        self._say(name, metrics, f"{metrics['seconds']:.1f} s")

    def _common(self, on: On, found: Measured) -> dict[str, Any]:
        return {
            "at": self._clock(),
            "on": on,
            "classes": self._classes,
            "test_fingerprint": self._fingerprint,
            **asdict(found),
        }

    def _say(self, name: str, metrics: Mapping[str, float], more: str) -> None:
        share = share_text(metrics["test_accuracy"])
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
