"""Classifies texts as `celltune predict` requests it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from celltune.data_prep.types import Progress
from celltune.search.cli import output as outputs
from celltune.search.cli.options import make_view
from celltune.search.cli.output import emit, make_console, say, wrapped
from celltune.search.cli.prediction.input import (
    ALL,
    STANDARD_INPUT,
    Columns,
    Text,
    Texts,
    parse_format,
    read_lines,
    read_texts,
)
from celltune.search.cli.prediction.output import (
    FORMATS,
    Layout,
    Row,
    Write,
    printing,
    writing_rows,
)
from celltune.search.cli.prediction.totals import Total
from celltune.search.errors import OptionError
from celltune.search.results.formats import check_format
from celltune.search.wording import counted

if TYPE_CHECKING:
    from rich.console import Console

    from celltune.search.bundles.predictor import Explanation, TrainedModel


@dataclass(frozen=True)
class Request:
    """The arguments of the command, apart from the model."""

    texts: tuple[str, ...]
    file: Path | None
    text_column: str | None
    label_column: str | None
    keep: tuple[str, ...]
    read: tuple[str, ...]
    """How the file is written, as KEY=VALUE."""
    top: int | None
    output: Path | None
    overwrite: bool
    form: str | None
    explain: bool

    @property
    def is_standard_input(self) -> bool:
        """Whether the texts come from standard input."""
        return self.texts == (STANDARD_INPUT,) or str(self.file) == STANDARD_INPUT

    @property
    def table(self) -> Path | None:
        """The file, unless it is standard input."""
        return None if self.is_standard_input else self.file


def classify(request: Request, load: Callable[[], TrainedModel]) -> None:
    """Check the request, load the model, classify the texts and write the predictions.

    Raises:
        OptionError: the arguments contradict each other, or there is no text.
        DataError: the file is invalid.
        ModelError: the only text cannot be classified.
    """
    form = _format(request)
    _check(request)
    texts = _texts(request)
    model = load()
    if request.explain:
        _explain(model, request.texts[0], form)
        return
    top = None if request.top is None else min(request.top, len(model.classes))
    console = make_console()
    width = console.width if console.is_terminal and request.output is None else None
    layout = Layout(texts.kept, top, texts.has_labels, width)
    if len(request.texts) == 1 and not request.is_standard_input and request.output is None:
        (text,) = request.texts
        printing(layout, form, header=form == "csv")([Row(Text(1, text), model.predict_one(text))])
        return
    total = Total(model.classes if texts.has_labels else ())
    if request.output is None:
        _predict_all(model, texts, total, printing(layout, form))
    else:
        progress = make_view().progress
        with writing_rows(request.output, layout, form, request.overwrite) as write:
            _predict_all(model, texts, total, write, progress)
        say(f"Wrote {counted(total.done, 'prediction')} to {request.output}.")
    say(*texts.notes, *total.remarks(texts.blank), error=request.output is None)


def _format(request: Request) -> str:
    """Return the format of the output, which the name of its file can state."""
    output = request.output
    suffix = output.suffix.removeprefix(".").lower() if output is not None else ""
    form = request.form or (suffix if suffix in FORMATS else "table")
    check_format(form, FORMATS)
    if form == "parquet" and output is None:
        raise OptionError("`form` is parquet, which needs a file. Set `output`.")
    return form


def _check(request: Request) -> None:
    """Check that the arguments do not contradict each other."""
    if bool(request.texts) == (request.file is not None):
        problem = "Both texts and `file` were given" if request.texts else "No text was given"
        raise OptionError(f"{problem}. Give texts, or `file`, or - for standard input.")
    if request.explain:
        _check_explained(request)
    if request.output is not None:
        outputs.check_output_free(request.output, request.overwrite)
    of_tables = {
        "text_column": request.text_column is not None,
        "label_column": request.label_column is not None,
        "keep": bool(request.keep),
        "read": bool(request.read),
    }
    for argument, is_given in of_tables.items():
        if is_given and request.table is None:
            raise OptionError(f"`{argument}` was given without a table. Set `file`, or omit it.")
    if ALL in request.keep and len(request.keep) > 1:
        raise OptionError("`keep` is all and names columns, too. Give either.")


def _check_explained(request: Request) -> None:
    if request.table is not None or len(request.texts) != 1 or request.is_standard_input:
        texts_from = counted(len(request.texts), "text")
        if request.file is not None:
            texts_from = "a file"
        elif request.is_standard_input:
            texts_from = "standard input"
        raise OptionError(
            f"`explain` was given with {texts_from}. Give exactly one text as an argument."
        )
    for argument, value in (("top", request.top), ("output", request.output)):
        if value is not None:
            raise OptionError(f"`explain` was given with `{argument}`. Omit one of them.")


def _texts(request: Request) -> Texts:
    if request.is_standard_input:
        return read_lines(sys.stdin.buffer)
    if request.file is not None:
        columns = Columns(request.text_column, request.label_column, request.keep)
        return read_texts(request.file, columns, parse_format(request.read))
    return Texts(Text(number, text) for number, text in enumerate(request.texts, start=1))


def _predict_all(
    model: TrainedModel,
    texts: Texts,
    total: Total,
    write: Write,
    progress: Progress | None = None,
) -> None:
    for block in texts.blocks():
        predictions = model.predict([text.text for text in block])
        rows = list(map(Row, block, predictions))
        write(rows)
        total.add(rows)
        if progress:
            progress("predict", total.done, None)
    if not total.done:
        raise OptionError("The input contains no text to classify.")


def _explain(model: TrainedModel, text: str, form: str) -> None:
    from celltune.search.cli.prediction import explanation as shown

    explanation = model.explain(text)
    if form == "csv":
        emit(shown.explained_as_csv(explanation))
    elif form == "jsonl":
        emit(shown.explained_as_jsonl(explanation))
    else:
        console = make_console()
        wrapped(console, *shown.heading(explanation))
        if explanation.steps:
            _print_steps(console, explanation)
        if model.wide is not None:
            wrapped(console, "", shown.ngram_heading(explanation))
            console.print(shown.ngram_table(explanation))


def _print_steps(console: Console, explanation: Explanation) -> None:
    from celltune.search.cli.prediction import explanation as shown

    if console.is_terminal and len(explanation.steps) > shown.LARGEST_STEPS:
        console.print(shown.coloured(explanation))
        console.print(shown.LEGEND, style="dim")
        wrapped(console, "", "Largest changes:")
        largest = shown.LARGEST_STEPS
        console.print(shown.step_table(explanation, largest=largest))
    else:
        console.print(shown.step_table(explanation))
