"""Predictions of a trained model: from text to label and probability.

Imports neither Ray nor Optuna, and torch only for models that the C++ code cannot compute.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from celltune.data_prep.dataset.tensorized import TensorizedSplit
from celltune.data_prep.dataset.vocabulary import UNK
from celltune.data_prep.text.encoder import TextEncoder, as_split, has_known_token, is_utf8
from celltune.data_prep.wide.model import WideModel
from celltune.models.network.trained import Network, WideNetwork
from celltune.search.decisions import DEFAULT, Decision
from celltune.search.errors import ModelError

TEXTS_AT_ONCE = 20_000
"""Number of texts that are tokenized together. Repeated words make large blocks faster; the limit
bounds the memory."""

NOT_UTF8 = "is not valid UTF-8"
EMPTY = "contains no word"
UNKNOWN = "contains no word of the model's vocabulary"
UNKNOWN_NGRAMS = "contains neither a word of the model's vocabulary nor an n-gram of its wide part"


@dataclass(frozen=True)
class Prediction:
    """A model's prediction for one text."""

    label: str | None
    """Name of the predicted class: the most probable one, unless the model has a threshold. None if
    there is no prediction."""
    probability: float | None
    """Probability of that class; calibrated if the model has a temperature. None if there is no
    prediction."""
    probabilities: Mapping[str, float]
    """Probability of each class by name; empty if there is no prediction."""
    note: str = ""
    """Reason why there is no prediction, as the predicate of a sentence about the text."""


@dataclass(frozen=True)
class Step:
    """One word of an explained text."""

    word: str
    known: bool
    """True if the model's vocabulary contains the word; all other words look the same to it."""
    probability: float
    """Probability of the whole text's label, for the text up to and including this word."""
    change: float | None
    """Difference from the probability one word earlier; None for the first word."""


@dataclass(frozen=True)
class Ngram:
    """An n-gram of an explained text that the wide part knows."""

    text: str
    """The n-gram in normalized form. A space at an end of an n-gram of characters is the start or
    the end of a word."""
    kind: str
    """What it consists of: "words" or "characters"."""
    contribution: float
    """What it adds to the log-odds of the text's label; for more than two classes, to those of the
    label against the rest, before the probabilities of the classes are normalized."""


@dataclass(frozen=True)
class Explanation:
    """A prediction, how it changes word by word, and the n-grams that contribute to it."""

    prediction: Prediction
    steps: tuple[Step, ...]
    """The words that the network reads, in their order; empty for the wide part alone."""
    gap: int
    """Number of words that were left out because the text is longer than the model reads."""
    gap_at: int
    """Index of the step before which the words were left out."""
    ngrams: tuple[Ngram, ...] = ()
    """The n-grams of the whole text that the wide part knows, the strongest first."""
    intercept: float | None = None
    """What the wide part adds without any n-gram, in the unit of `Ngram.contribution`. With all
    n-grams, it is the wide part's share of the log-odds. None without a wide part."""


class TrainedModel:
    """A trained network with its vocabulary, text rules and class names.

    Args:
        network: the network.
        reader: converts texts to word ids, as for the network's training data.
        classes: names of the classes.
        wide: the wide part, if the network reads its outputs.
        decision: turns log-probabilities into probabilities and predicted classes.
    """

    def __init__(
        self,
        network: Network,
        reader: TextEncoder,
        classes: Sequence[str],
        wide: WideModel | None = None,
        decision: Decision = DEFAULT,
    ) -> None:
        self.network, self.reader, self.wide = network, reader, wide
        self.decision = decision
        self.classes = tuple(classes)

    def predict(self, texts: Sequence[str]) -> list[Prediction]:
        """Classify texts.

        A text without a word that the model knows gets a note instead of a label, unless a wide
        part knows one of its n-grams of characters. The network then reads unknown words.

        Args:
            texts: any number of texts. Apart from rounding, the prediction for a text does not
                depend on the other texts.

        Raises:
            DataError: the tokenizer needs a library that is not installed.
        """
        predictions: list[Prediction] = []
        for start in range(0, len(texts), TEXTS_AT_ONCE):
            predictions += self._predict_block(texts[start : start + TEXTS_AT_ONCE])
        return predictions

    def predict_one(self, text: str) -> Prediction:
        """Classify one text.

        Raises:
            ModelError: there is no prediction for the text.
        """
        (prediction,) = self.predict([text])
        if prediction.label is None:
            raise ModelError(
                f"The text {_shorten(text)!r} cannot be classified: it {prediction.note}. "
                f"{_advice(prediction.note)}"
            )
        return prediction

    def explain(self, text: str) -> Explanation:
        """Show how the probability of the text's label changes word by word, and its n-grams.

        The probability at a word is that of the text which ends with this word. It is therefore
        comparable between all cells and readouts. The backward direction of a bidirectional model
        starts at each of these words. The outputs of a wide part are those of the whole text at
        every word.

        Raises:
            ModelError: there is no prediction for the text.
        """
        prediction = self.predict_one(text)
        label = self.classes.index(prediction.label or "")
        ngrams, intercept = self._ngrams(text, label)
        if isinstance(self.network, WideNetwork):
            return Explanation(prediction, (), 0, 0, ngrams, intercept)
        spelled = self.reader.spell(text)
        count = len(spelled.tokens)
        lengths = np.arange(count + 1, dtype=np.int64)
        prefixes = TensorizedSplit(
            np.concatenate([spelled.ids[:length] for length in lengths[1:]]),
            np.cumsum(lengths, dtype=np.int64),
            np.zeros(count, np.int64),
            None if self.wide is None else np.repeat(self.wide.logits([text]), count, axis=0),
        )
        probabilities: list[float] = self._probabilities(prefixes)[:, label].tolist()
        changes: list[float | None] = [None, *np.diff(probabilities).tolist()]
        known = (spelled.ids != UNK).tolist()
        steps = map(Step, spelled.tokens, known, probabilities, changes)
        gap, gap_at = spelled.num_removed, spelled.removed_at
        return Explanation(prediction, tuple(steps), gap, gap_at, ngrams, intercept)

    def _ngrams(self, text: str, label: int) -> tuple[tuple[Ngram, ...], float | None]:
        """Return what the n-grams of a text and the intercept add to the log-odds of a class."""
        if self.wide is None:
            return (), None
        # Two classes have one output, the log-odds of class 1.
        output, sign = (label, 1.0) if self.wide.outputs > 1 else (0, 1.0 if label else -1.0)
        factor = sign * self.network.wide_scale / self.decision.temperature
        ngrams = [
            Ngram(each.ngram, each.kind, factor * float(each.values[output]))
            for each in self.wide.contributions(text)
        ]
        ngrams.sort(key=lambda ngram: -abs(ngram.contribution))
        return tuple(ngrams), factor * float(self.wide.intercepts[output])

    def _predict_block(self, texts: Sequence[str]) -> list[Prediction]:
        valid = [is_utf8(text) for text in texts]
        readable = [text if is_valid else "" for text, is_valid in zip(texts, valid, strict=True)]
        ids, offsets = self.reader.encode(readable)
        has_word, readable_by_model = has_known_token(ids, offsets)
        if self.wide is not None:
            for index in np.flatnonzero(has_word & ~readable_by_model):
                readable_by_model[index] = bool(self.wide.contributions(readable[index]))
        split = as_split(ids, offsets, readable_by_model)
        if self.wide is not None:
            chosen = [readable[index] for index in np.flatnonzero(readable_by_model)]
            split = replace(split, wide=self.wide.logits(chosen))
        rows = iter(self._predictions(split))
        flags = zip(valid, has_word.tolist(), readable_by_model.tolist(), strict=True)
        return [
            next(rows) if known else self._no_prediction(is_valid, any_word)
            for is_valid, any_word, known in flags
        ]

    def _no_prediction(self, is_valid: bool, any_word: bool) -> Prediction:
        unknown = UNKNOWN if self.wide is None else UNKNOWN_NGRAMS
        note = NOT_UTF8 if not is_valid else unknown if any_word else EMPTY
        return Prediction(None, None, {}, note)

    def _probabilities(self, split: TensorizedSplit) -> NDArray[np.float64]:
        """Return the probabilities of all classes for each text, (n, C).

        Raises:
            ModelError: the weights are so large that there is no result.
        """
        # Overflows of large weights are found in the result.
        with np.errstate(over="ignore", invalid="ignore"):
            logs = self.decision.calibrated(self.network.log_probabilities(split))
            probabilities = np.exp(logs)
        if not np.isfinite(probabilities).all():
            raise ModelError(
                "The model computes no probability for a text: its weights are so large that the "
                "result is not a number. Use another model."
            )
        return probabilities

    def _predictions(self, split: TensorizedSplit) -> Iterator[Prediction]:
        """Yield the prediction for each text."""
        probabilities = self._probabilities(split)
        labels = self.decision.labels(probabilities).tolist()
        for label, values in zip(labels, probabilities.tolist(), strict=True):
            by_name = dict(zip(self.classes, values, strict=True))
            yield Prediction(self.classes[label], values[label], by_name)


def _advice(note: str) -> str:
    if note in (UNKNOWN, UNKNOWN_NGRAMS):
        return "Give a text in the language and the domain of the training data."
    return "Give a text with at least one word, in UTF-8."


def _shorten(text: str) -> str:
    return text if len(text) <= 40 else f"{text[:39]}..."
