"""Comparisons with published models for people and for programs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.table import Table

from celltune.search.errors import OptionError
from celltune.search.evaluation.comparison import notes
from celltune.search.results.formats import as_csv, as_json
from celltune.search.wording import percent_text
from celltune.spelling import closest_match

Record = Mapping[str, Any]

FORMATS = ("table", "md", "csv", "json")
_PAIRS = {
    "test_accuracy": "test accuracy",
    "test_loss": "cross-entropy",
    "train_accuracy": "train accuracy",
    "parameters": "parameters",
    "seconds": "time",
}
COLUMNS = ("model", *_PAIRS.values(), "scale", "data")


def check_format(form: str) -> None:
    """Refuse what isn't one of `FORMATS`.

    Raises:
        OptionError: it isn't.
    """
    if form not in FORMATS:
        raise OptionError(f"'{form}' is not a format. {closest_match(form, FORMATS)}")


def render(records: Sequence[Record], form: str) -> str | Table:
    """Write a comparison in one of `FORMATS`; those for programs hold all digits.

    Args:
        records: as `search.compare.compare` gives them.
        form: one of `FORMATS`.

    Raises:
        OptionError: there is no such format.
    """
    check_format(form)
    if form == "csv":
        return as_csv(records)
    if form == "json":
        return as_json(records)
    lines = [_cells(record) for record in records]
    if form == "table":
        return _drawn(lines)
    ruled = [list(COLUMNS), ["---"] * len(COLUMNS), *lines]
    table = "\n".join(f"| {' | '.join(cells)} |" for cells in ruled)
    return f"{table}\n\n" + "\n".join(f"- {note}" for note in notes(records))


def _drawn(lines: Sequence[Sequence[str]]) -> Table:
    drawn = Table(header_style="bold", box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    for name in COLUMNS:
        left = name in ("model", "data")
        drawn.add_column(name, justify="left" if left else "right", no_wrap=name == "model")
    for cells in lines:
        drawn.add_row(*cells)
    return drawn


def _cells(record: Record) -> list[str]:
    pairs = [
        f"{_text(name, record[f'reported_{name}'])} / {_text(name, record[f'measured_{name}'])}"
        for name in _PAIRS
    ]
    data = record["data"] + (" (stand-in)" if record["stands_in"] else "")
    return [record["name"], *pairs, f"{record['scale']:g}", data]


def _text(name: str, value: float | None) -> str:
    if value is None:
        return "-"
    if name.endswith("_accuracy"):
        return percent_text(value)
    if name == "parameters":
        return f"{value:,}"
    return _duration(value) if name == "seconds" else f"{value:.4f}"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"
