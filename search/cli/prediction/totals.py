"""Counts predictions, and compares them with labels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from celltune.data_prep.sources.labels import Labels
from celltune.printable import quoted
from celltune.search.cli.prediction.output import Row
from celltune.search.metrics import macro_f1
from celltune.search.wording import counted, listed, percent_text

_SHOWN_CLASSES = 8


class Total:
    """Counts the predictions, and the correct ones if there are labels.

    Args:
        classes: names of the classes; none if the texts have no labels.
    """

    def __init__(self, classes: Sequence[str]) -> None:
        self.done = self.unclassified = self.unknown = 0
        self._example = ""
        self._labels = Labels(classes)
        self._confusion = np.zeros((len(classes), len(classes) + 1), dtype=np.int64)

    def add(self, rows: Sequence[Row]) -> None:
        """Add the next predictions."""
        self.done += len(rows)
        for text, prediction in rows:
            self.unclassified += prediction.label is None
            if not self._labels.classes:
                continue
            true = self._labels.find(text.label or "")
            if true is None:
                self.unknown += 1
                self._example = self._example or (text.label or "")
                continue
            # A text that is not classified counts as an error, in the last column.
            predicted = -1 if prediction.label is None else self._labels.find(prediction.label)
            self._confusion[true, -1 if predicted is None else predicted] += 1

    def remarks(self, blank: int) -> Iterator[str]:
        """Yield sentences about the predictions.

        Args:
            blank: number of blank lines that were skipped.
        """
        if blank:
            yield f"{counted(blank, 'blank line')} {'was' if blank == 1 else 'were'} skipped."
        if self.unclassified:
            yield (
                f"{self.unclassified:,} of {self.done:,} texts could not be classified; see their "
                "notes."
            )
        labelled = int(self._confusion.sum())
        if labelled:
            square = np.vstack([self._confusion, np.zeros_like(self._confusion[:1])])
            yield (
                f"Accuracy {percent_text(float(np.trace(square) / labelled))}, macro-F1 "
                f"{percent_text(float(macro_f1(square)))} on {counted(labelled, 'text')} with a "
                "label."
            )
        if self.unknown:
            yield (
                f"{counted(self.unknown, 'label')} of the file, such as {quoted(self._example)}, "
                f"{'is no class' if self.unknown == 1 else 'are no classes'} of the model "
                f"({_names(self._labels.classes)}) and did not count."
            )


def _names(classes: Sequence[str]) -> str:
    """Return the first classes for a sentence."""
    names = [*map(quoted, classes[:_SHOWN_CLASSES])]
    hidden = len(classes) - len(names)
    return listed([*names, f"{hidden:,} others"] if hidden else names)
