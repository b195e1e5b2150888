"""Predictions and explanations, drawn for people or written for programs."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence

from rich.text import Text

from celltune.search.bundles.predictor import Explanation, Prediction, Step
from celltune.search.results.tables import Cell, Column, TextTable, csv_text
from celltune.search.wording import single_line

LARGEST_STEPS = 10
"""How many of a long text's words are listed beside the coloured text."""
LEGEND = "Green words raise it, red ones lower it, the model doesn't know the dim ones."
STRONG, SLIGHT = 0.10, 0.02
"""Changes of the probability that are coloured strongly, and at all."""
_BAR_WIDTH = 12

Row = tuple[int, Prediction, str]
"""A text's place, counted from 1, what the model says of it, and the text."""
COLUMNS = ("row", "label", "probability", "note", "text")
STEP_COLUMNS = ("word", "known", "probability", "change")


def as_lines(rows: Sequence[Row], header: bool) -> str:
    """One line a text: label, probability and the text, or why there is no answer."""
    wide = max([5, *(len(found.label or "") for _, found, _ in rows)])
    lines = [f"{'label':<{wide}}  probability  text"] if header else []
    for _, found, text in rows:
        shown = single_line(text)
        if found.probability is None:
            lines.append(f"{'-':<{wide}}  {'-':>11}  ({found.note}) {shown}".rstrip())
        else:
            lines.append(f"{found.label:<{wide}}  {found.probability:>11.4f}  {shown}")
    return "\n".join(lines)


def as_csv(rows: Sequence[Row], header: bool) -> str:
    """CSV with the columns `COLUMNS`; label and probability are empty where there is no answer."""
    return csv_text(COLUMNS, [_record(row).values() for row in rows], header)


def as_jsonl(rows: Sequence[Row], header: bool) -> str:  # noqa: ARG001 (JSON lines have none)
    """One JSON object a line with the keys `COLUMNS`, and the probabilities of all classes."""
    return "\n".join(
        json.dumps({**_record(row), "probabilities": dict(row[1].probabilities)}) for row in rows
    )


FORMATS: Mapping[str, Callable[[Sequence[Row], bool], str]] = {
    "table": as_lines,
    "csv": as_csv,
    "jsonl": as_jsonl,
}


def _record(row: Row) -> dict[str, object]:
    number, found, text = row
    # What can't be written as utf-8 is written as a question mark, as its note says.
    shown = text.encode("utf-8", "replace").decode()
    return dict(
        zip(COLUMNS, (number, found.label, found.probability, found.note, shown), strict=True)
    )


def explained_as_csv(found: Explanation) -> str:
    """Every word with its probability, as CSV."""
    return csv_text(
        STEP_COLUMNS, [_step_record(step).values() for step in found.steps], header=True
    )


def explained_as_jsonl(found: Explanation) -> str:
    """Every word with its probability, one JSON object a line."""
    return "\n".join(json.dumps(_step_record(step)) for step in found.steps)


def _step_record(step: Step) -> dict[str, object]:
    values = (step.word, step.known, step.probability, step.change)
    return dict(zip(STEP_COLUMNS, values, strict=True))


def heading(found: Explanation) -> str:
    """The answer, and what the words' numbers mean."""
    label, probability = found.prediction.label, found.prediction.probability or 0.0
    return (
        f"{label} {probability:.4f}\n"
        f"The probability of '{label}' for the text up to and with each word:"
    )


def coloured(found: Explanation) -> Text:
    """The text as the model reads it: green words raise the probability, red ones lower it."""
    drawn = Text()
    for number, step in enumerate(found.steps):
        if found.gap and number == found.gap_at:
            drawn.append(_gap(found), style="dim")
        drawn.append(step.word, style=_style(step))
        drawn.append(" ")
    if found.gap and found.gap_at == len(found.steps):
        drawn.append(_gap(found), style="dim")
    return drawn


def _gap(found: Explanation) -> str:
    return f"[{found.gap} words are not read] "


def _style(step: Step) -> str:
    if not step.known:
        return "dim italic"
    change = step.change or 0.0
    colour = "green" if change > 0 else "red"
    if abs(change) >= STRONG:
        return f"bold white on {colour}"
    return colour if abs(change) >= SLIGHT else ""


def step_table(found: Explanation, *, largest: int | None = None) -> TextTable:
    """The words with their probabilities; only the largest changes if asked, in their order."""
    numbered = list(enumerate(found.steps))
    if largest is not None and len(numbered) > largest:
        ranked = sorted(numbered, key=lambda each: -abs(each[1].change or 0.0))
        numbered = sorted(ranked[:largest])
    numbers = [Column(name, right=True, wrap=False) for name in ("place", "probability", "change")]
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
