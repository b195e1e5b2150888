"""Output of `celltune predict --explain`: a prediction word by word, and its n-grams."""

from __future__ import annotations

import json

from rich.text import Text

from celltune.printable import printable, quoted
from celltune.search.bundles.predictor import Explanation, Ngram, Step
from celltune.search.results.tables import Cell, Column, TextTable, csv_text
from celltune.search.wording import counted

LARGEST_STEPS = 10
"""Words that are listed below the coloured text, if it is long."""
LEGEND = (
    "Green words increase the probability, red words decrease it; dim words are not in the "
    "vocabulary."
)
STRONG, SLIGHT = 0.10, 0.02
"""Changes of the probability from which a word is highlighted or coloured."""
_BAR_WIDTH = 12
_WIDE_FROM_THE_START = " (at each word, the wide part already counts with the whole text)"

LABEL_COLUMNS = ("label", "label_probability")
"""The prediction, to which the numbers of all rows of an explanation refer."""
STEP_COLUMNS = ("word", "known", "probability", "change")
NGRAM_COLUMNS = ("ngram", "kind", "contribution")
LARGEST_NGRAMS = 20
"""N-grams of the wide part that are listed on a terminal."""
INTERCEPT = "intercept"
"""The kind of the row that is no n-gram but the intercept of the wide part."""


def explained_as_csv(explanation: Explanation) -> str:
    """Return each word with the probability after it, each n-gram and the intercept, as CSV.

    There are columns for words if the model has a network, and for n-grams if it has a wide part.
    """
    columns = (
        *LABEL_COLUMNS,
        *(STEP_COLUMNS if explanation.steps else ()),
        *(NGRAM_COLUMNS if explanation.intercept is not None else ()),
    )
    rows = [[record.get(column) for column in columns] for record in _records(explanation)]
    return csv_text(columns, rows, header=True)


def explained_as_jsonl(explanation: Explanation) -> str:
    """Return the rows of `explained_as_csv`, a JSON object per line, without empty columns."""
    return "\n".join(json.dumps(record) for record in _records(explanation))


def _records(explanation: Explanation) -> list[dict[str, object]]:
    prediction = explanation.prediction
    label = dict(zip(LABEL_COLUMNS, (prediction.label, prediction.probability), strict=True))
    records = [*map(_step_record, explanation.steps), *map(_ngram_record, explanation.ngrams)]
    if explanation.intercept is not None:
        values = (None, INTERCEPT, explanation.intercept)
        records.append(dict(zip(NGRAM_COLUMNS, values, strict=True)))
    return [{**label, **record} for record in records]


def _ngram_record(ngram: Ngram) -> dict[str, object]:
    values = (ngram.text, ngram.kind, ngram.contribution)
    return dict(zip(NGRAM_COLUMNS, values, strict=True))


def _step_record(step: Step) -> dict[str, object]:
    values = (step.word, step.known, step.probability, step.change)
    return dict(zip(STEP_COLUMNS, values, strict=True))


def heading(explanation: Explanation) -> list[str]:
    """Return the prediction and the meaning of the numbers below it, as lines."""
    label, probability = explanation.prediction.label, explanation.prediction.probability or 0.0
    first = f"{label} {probability:.4f}"
    if not explanation.steps:
        return [first]
    wide = "" if explanation.intercept is None else _WIDE_FROM_THE_START
    return [first, f"Probability of {quoted(label)} after each word{wide}:"]


def coloured(explanation: Explanation) -> Text:
    """Return the text as the model reads it, coloured by each word's effect on the probability."""
    drawn = Text()
    for number, step in enumerate(explanation.steps):
        if explanation.gap and number == explanation.gap_at:
            drawn.append(_gap(explanation), style="dim")
        drawn.append(printable(step.word), style=_style(step))
        drawn.append(" ")
    if explanation.gap and explanation.gap_at == len(explanation.steps):
        drawn.append(_gap(explanation), style="dim")
    return drawn


def _gap(explanation: Explanation) -> str:
    return f"[{counted(explanation.gap, 'word')} omitted] "


def _style(step: Step) -> str:
    if not step.known:
        return "dim italic"
    change = step.change or 0.0
    colour = "green" if change > 0 else "red"
    if abs(change) >= STRONG:
        return f"bold white on {colour}"
    return colour if abs(change) >= SLIGHT else ""


def step_table(explanation: Explanation, *, largest: int | None = None) -> TextTable:
    """Return a table of the words and their probabilities, in text order.

    Args:
        explanation: the explained prediction.
        largest: number of words with the largest changes that are shown; None: all words.
    """
    numbered = list(enumerate(explanation.steps))
    if largest is not None and len(numbered) > largest:
        ranked = sorted(numbered, key=lambda numbered_step: -abs(numbered_step[1].change or 0.0))
        numbered = sorted(ranked[:largest])
    titles = ("position", "probability", "change")
    numbers = [Column(title, right=True, wrap=False) for title in titles]
    rows: list[list[Cell]] = []
    for number, step in numbered:
        change = "" if step.change is None else f"{step.change:+.4f}"
        word = Text(step.word, style=_style(step))
        if not step.known:
            word.append("  (unknown)")
        cells = (str(number + 1), f"{step.probability:.4f}", change)
        rows.append([*cells, _bar(step.probability), word])
    return TextTable([*numbers, Column("", wrap=False), Column("word")], rows)


def _bar(probability: float) -> str:
    full = round(probability * _BAR_WIDTH)
    return "█" * full + "·" * (_BAR_WIDTH - full)


def ngram_heading(explanation: Explanation) -> str:
    """Return the meaning of the numbers of `ngram_table`."""
    count = len(explanation.ngrams)
    shown = "" if count <= LARGEST_NGRAMS else f"the {LARGEST_NGRAMS} strongest of "
    several = len(explanation.prediction.probabilities) > 2
    rest = " against the rest, before the classes are normalized" if several else ""
    return (
        f"Wide part, {shown}{counted(count, 'known n-gram')}: what each adds to the log-odds of "
        f"{quoted(explanation.prediction.label)}{rest}:"
    )


def ngram_table(explanation: Explanation) -> TextTable:
    """Return a table of the strongest n-grams, of the rest of the wide part, and of the sum.

    The ends of words are marked in n-grams of characters.

    Args:
        explanation: the explained prediction of a model with a wide part.
    """
    columns = [
        Column("contribution", right=True, wrap=False),
        Column("kind", wrap=False),
        Column("n-gram"),
    ]
    rows: list[list[Cell]] = []
    for ngram in explanation.ngrams[:LARGEST_NGRAMS]:
        text = ngram.text.replace(" ", "␣") if ngram.kind == "characters" else ngram.text
        rows.append([f"{ngram.contribution:+.4f}", ngram.kind, text])
    rows += [[f"{value:+.4f}", "", f"({name})"] for name, value in _rest(explanation).items()]
    return TextTable(columns, rows)


def _rest(explanation: Explanation) -> dict[str, float]:
    """Return what the wide part adds besides the n-grams that are listed, and all in all."""
    contributions = [ngram.contribution for ngram in explanation.ngrams]
    intercept = explanation.intercept or 0.0
    rest = {INTERCEPT: intercept, "sum": sum(contributions) + intercept}
    if others := contributions[LARGEST_NGRAMS:]:
        rest = {counted(len(others), "other n-gram"): sum(others), **rest}
    return rest
