"""How long a search takes, by a cost model that was fitted to measured searches.

Decision 60 has the measurements. All searches have bidirectional models of one layer.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import fmean

import numpy as np

from celltune.data_prep.preparation.survey import Survey

SECONDS_PER_TOKEN, SECONDS_PER_UNIT = 0.29e-6, 0.121e-6
"""CPU-seconds per token of the training split, and per token and unit of the recurrent layer; with
those of validation."""
SECONDS_PER_STEP = 4e-3
"""CPU-seconds per batch, whatever its size."""
SECONDS_PER_VECTOR_WORD = 0.5e-6
"""CPU-seconds per word and pass while word vectors are learned."""
TRAINED_WORDS, PASSES = 10_000_000, (5, 50)
"""Words that the word vectors are learned from, and the smallest and largest number of passes."""
SECONDS_PER_WIDE_TOKEN = 3.3e-6
"""CPU-seconds per token to collect the n-grams of the wide part."""
SECONDS_PER_FITTED_TOKEN = 5e-6
"""CPU-seconds per token and output to fit the wide part, five folds and all penalties."""
START = 12.0
"""Seconds until the workers train, and after the last epoch until the command ends."""
EPOCHS_OF_PATIENCE = 0.9
"""Share of the epochs that remain if trials end two epochs after their best one."""
EPOCHS_OF_RUNGS = 0.65
"""Share of these epochs that remain with a rung after the second one."""


@dataclass(frozen=True)
class Effort:
    """How much a search trains."""

    hidden_sizes: tuple[int, ...]
    batch_sizes: tuple[int, ...]
    max_tokens: int
    max_epochs: int
    trials: int
    """With a wide part, the first one is the wide part alone."""
    has_wide: bool
    has_rungs: bool
    """Whether early stopping compares the trials."""


@dataclass(frozen=True)
class Work:
    """The texts of a search."""

    train: int
    """Number of training documents."""
    tokens: float
    """Mean number of tokens of a document after documents are cut."""
    uncut: float
    """Mean number of tokens of a document before."""
    outputs: int
    """Outputs of the linear models: 1 for two classes, else the number of classes."""

    @classmethod
    def of(cls, survey: Survey, max_tokens: int) -> Work:
        """Return the work of a search on surveyed documents, with another limit of their tokens."""
        classes = len(survey.classes)
        return cls(
            train=int(survey.counts["train"].sum()),
            tokens=float(np.minimum(survey.lengths, max_tokens).mean()),
            uncut=float(survey.lengths.mean()),
            outputs=1 if classes == 2 else classes,
        )


def search_seconds(work: Work, effort: Effort, cores: int) -> float:
    """Return the expected duration of a search, in seconds, on a machine without other work."""
    epochs = effort.max_epochs * EPOCHS_OF_PATIENCE * (EPOCHS_OF_RUNGS if effort.has_rungs else 1)
    trials = [
        epochs * epoch_seconds(work, hidden, batch)
        for hidden in effort.hidden_sizes
        for batch in effort.batch_sizes
    ]
    networks = effort.trials - effort.has_wide
    training = fmean(trials) * networks / min(cores, max(1, networks))
    # The last trial runs alone, on average for half of its time.
    tail = max(trials) / 2 if networks > 1 and cores > 1 else 0.0
    wide = wide_seconds(work) if effort.has_wide else 0.0
    return START + _vector_seconds(work) + wide + training + tail


def epoch_seconds(work: Work, hidden_size: int, batch_size: int) -> float:
    """Return the CPU-seconds of an epoch, with its validation."""
    of_token = SECONDS_PER_TOKEN + SECONDS_PER_UNIT * hidden_size
    return work.train * (work.tokens * of_token + SECONDS_PER_STEP / batch_size)


def wide_seconds(work: Work) -> float:
    """Return the CPU-seconds of fitting the wide part."""
    words = work.train * work.uncut
    return words * (SECONDS_PER_WIDE_TOKEN + SECONDS_PER_FITTED_TOKEN * work.outputs)


def _vector_seconds(work: Work) -> float:
    words = max(1.0, work.train * work.uncut)
    passes = min(max(TRAINED_WORDS / words, PASSES[0]), PASSES[1])
    return words * passes * SECONDS_PER_VECTOR_WORD
