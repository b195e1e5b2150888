"""A trained model that answers: text in, label and probability out.

Needs torch and this package: neither Ray nor Optuna is imported.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from celltune.data_prep.dataset.tensorized import TensorizedSplit
from celltune.data_prep.dataset.vocabulary import UNK
from celltune.data_prep.text.encoder import TextReader, as_split, has_known_token, is_utf8
from celltune.models.network.classifier import TextClassifier
from celltune.models.network.predict import log_probabilities
from celltune.search.errors import ModelError

BATCH_SIZE = 256
"""Texts of nearly one length that are read side by side."""
TEXTS_AT_ONCE = 20_000
"""How many texts are tokenized together: many, because words repeat; few enough for memory."""

NOT_UTF8 = "it isn't utf-8"
EMPTY = "it holds no word"
UNKNOWN = "it holds no word that the model knows"


@dataclass(frozen=True)
class Prediction:
    """What a model says of one text."""

    label: str | None
    """The name of the likeliest class; None if the text can't be answered."""
    probability: float | None
    """Of that class, as the model gives it; it isn't calibrated."""
    probabilities: Mapping[str, float]
    """Of each class; empty if the text can't be answered."""
    note: str = ""
    """Why there is no answer."""


@dataclass(frozen=True)
class Step:
    """One word of an explained text."""

    word: str
    known: bool
    """Whether the word is in the model's vocabulary; all others read alike."""
    probability: float
    """Of the whole text's label, for the text up to and with this word."""
    change: float | None
    """Against the word before; None at the first one."""


@dataclass(frozen=True)
class Explanation:
    """How the answer to one text comes about."""

    prediction: Prediction
    steps: tuple[Step, ...]
    """The words that the model reads, in their order."""
    gap: int
    """How many words were cut out because the text is longer than the model reads."""
    gap_at: int
    """The gap stands before the step of this number."""


class TrainedModel:
    """A classifier with its vocabulary and its rules of reading.

    Args:
        classifier: in evaluation mode.
        reader: reads texts as the classifier's training data were read.
        classes: the names of the classes.
    """

    def __init__(
        self, classifier: TextClassifier, reader: TextReader, classes: Sequence[str]
    ) -> None:
        """See the class."""
        self.classifier, self.reader = classifier.eval(), reader
        self.classes = tuple(classes)

    def predict(self, texts: Sequence[str]) -> list[Prediction]:
        """Classify texts; one that can't be answered gets a note instead of a label.

        Args:
            texts: any number of them. Their order and company make no difference but to rounding.

        Raises:
            DataError: a library that the tokenizer needs isn't installed.
        """
        found: list[Prediction] = []
        for start in range(0, len(texts), TEXTS_AT_ONCE):
            found += self._answers(texts[start : start + TEXTS_AT_ONCE])
        return found

    def predict_one(self, text: str) -> Prediction:
        """Classify one text.

        Raises:
            ModelError: it can't be answered.
        """
        (prediction,) = self.predict([text])
        if prediction.label is None:
            raise ModelError(
                f"The text {_shortened(text)!a} can't be classified: {prediction.note}. "
                f"{_mend(prediction.note)}"
            )
        return prediction

    def explain(self, text: str) -> Explanation:
        """Show how the probability of the text's label moves, word by word.

        A word's probability is that of the text which ends with it, read as a text of its own. So
        it means the same for every cell and readout, and for a model that reads both ways, whose
        backward direction begins anew at each word.

        Raises:
            ModelError: the text can't be answered.
        """
        prediction = self.predict_one(text)
        words = self.reader.spelled(text)
        count = len(words.tokens)
        ends = np.arange(count + 1, dtype=np.int64)
        prefixes = TensorizedSplit(
            np.concatenate([words.ids[:end] for end in ends[1:]]),
            np.cumsum(ends, dtype=np.int64),
            np.zeros(count, np.int64),
        )
        label = self.classes.index(prediction.label or "")
        course = self._probabilities(prefixes)[:, label].tolist()
        changes = [None, *np.diff(course).tolist()]
        steps = zip(words.tokens, words.ids != UNK, course, changes, strict=True)
        return Explanation(
            prediction,
            tuple(Step(word, bool(known), value, change) for word, known, value, change in steps),
            words.gap,
            words.at,
        )

    def _answers(self, texts: Sequence[str]) -> list[Prediction]:
        whole = [is_utf8(text) for text in texts]
        read = [text if fine else "" for text, fine in zip(texts, whole, strict=True)]
        ids, offsets = self.reader.read(read)
        holds_a_word, holds_a_known_one = has_known_token(ids, offsets)
        probabilities = self._probabilities(as_split(ids, offsets, holds_a_known_one))
        rows = iter(probabilities)
        return [
            self._prediction(next(rows)) if known else _unanswered(fine, any_word)
            for fine, any_word, known in zip(
                whole, holds_a_word.tolist(), holds_a_known_one.tolist(), strict=True
            )
        ]

    def _probabilities(self, split: TensorizedSplit) -> NDArray[np.float64]:
        """(n, C) of each text of a split."""
        return np.exp(log_probabilities(self.classifier, split, batch_size=BATCH_SIZE))

    def _prediction(self, probabilities: NDArray[np.float64]) -> Prediction:
        values = probabilities.tolist()
        best = int(probabilities.argmax())
        shares = dict(zip(self.classes, values, strict=True))
        return Prediction(self.classes[best], values[best], shares)


def _unanswered(fine: bool, any_word: bool) -> Prediction:
    note = NOT_UTF8 if not fine else UNKNOWN if any_word else EMPTY
    return Prediction(None, None, {}, note)


def _mend(note: str) -> str:
    if note == UNKNOWN:
        return "Give a text in the language and the domain that the model was trained on."
    return "Give a text with at least one word, in utf-8."


def _shortened(text: str) -> str:
    return text if len(text) <= 40 else f"{text[:39]}..."
