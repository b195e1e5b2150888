"""What a config trains on, as text for people and as an object for programs."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from celltune.data_prep.config import DataConfig
from celltune.printable import printable, quoted
from celltune.search.cli.output import make_console, say
from celltune.search.results.tables import Column, TextTable
from celltune.search.wording import counted, percent_text

if TYPE_CHECKING:
    from celltune.data_prep.preparation.survey import Survey

MOST_ROWS = 12
"""Number of classes up to which each has a row of its own."""

_WIDTH = 79
_TITLE = 12
_LONGEST_CLASS = 40
_LEAST_SHOWN = 0.001


def show_survey(survey: Survey, config: DataConfig) -> None:
    """Print what a config trains on.

    Args:
        survey: the survey of the config's data.
        config: the config.
    """
    if len(survey.classes) <= MOST_ROWS:
        make_console().print(_class_table(survey))
        say("")
    else:
        say(*_split_lines(survey))
    for title, text in _facts(survey, config):
        say(*titled(title, text))


def _class_table(survey: Survey) -> TextTable:
    names = [printable(name, _LONGEST_CLASS) for name in survey.classes]
    columns = [Column("class"), *(Column(split, right=True) for split in survey.counts)]
    counts = [survey.counts[split] for split in survey.counts]
    rows = [[name, *(f"{of[index]:,}" for of in counts)] for index, name in enumerate(names)]
    return TextTable(columns, [*rows, ["all", *(f"{of.sum():,}" for of in counts)]])


def _split_lines(survey: Survey) -> list[str]:
    """Return a line for each split, for data with many classes."""
    lines = []
    for split, counts in survey.counts.items():
        ordered = sorted(counts.tolist())
        missing = ordered.count(0)
        lines.append(
            f"{split:<{_TITLE}} {counted(sum(ordered), 'document')} of "
            f"{len(ordered) - missing:,}{f' of {len(ordered):,}' if missing else ''} classes: "
            f"{ordered[0]:,} to {ordered[-1]:,}, median {ordered[(len(ordered) - 1) // 2]:,}"
        )
    return lines


def titled(title: str, text: str) -> list[str]:
    """Return a text behind its title, wrapped with an indent."""
    indent = " " * (_TITLE + 1)
    return textwrap.wrap(
        text,
        _WIDTH,
        initial_indent=f"{title:<{_TITLE}} ",
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _facts(survey: Survey, config: DataConfig) -> Iterator[tuple[str, str]]:
    label, share = survey.majority
    yield (
        "majority",
        f"{quoted(label)}, {percent_text(share, 1)} of valid: the accuracy of always predicting it",
    )
    total = len(survey.lengths)
    yield (
        "tokens",
        f"median {survey.length_at(0.5):,}, 90 % up to {survey.length_at(0.9):,}, longest "
        f"{survey.length_at(1):,} per document",
    )
    limit = f"data.max_tokens {survey.max_tokens:,}"
    if survey.cut:
        lost = 1 - survey.kept_share
        shown = percent_text(lost, 1) if lost >= _LEAST_SHOWN else "less than 0.1 %"
        before = " before unknown words are dropped" if _drops_unknown(config) else ""
        yield (
            "cut",
            f"{survey.cut:,} of {counted(total, 'document')} ({_share(survey.cut, total)}) to "
            f"{limit}{before}; {shown} of all tokens are lost",
        )
    else:
        yield "cut", f"no document is longer than {limit}"
    if survey.single:
        yield "one token", f"{counted(survey.single, 'document')} ({_share(survey.single, total)})"
    yield (
        "vocabulary",
        f"{survey.vocabulary_size:,} ids, of {counted(survey.distinct, 'distinct word')} in train; "
        f"{percent_text(survey.unknown_share, 2)} of the tokens of valid are unknown",
    )
    yield "duplicates", _duplicates(survey)
    if conflicting := survey.duplicates["conflicting"]:
        yield (
            "conflicts",
            f"{counted(conflicting, 'document')} ({_share(conflicting, total)}): the text also "
            "occurs with another label",
        )
    if survey.unlabelled is not None:
        yield (
            "unlabelled",
            f"{counted(survey.unlabelled, 'document')}, from which word vectors are learned, too",
        )


def _drops_unknown(config: DataConfig) -> bool:
    return config.vectors is not None and config.vectors.unknown == "dropped"


def _share(count: int, total: int) -> str:
    return percent_text(count / total, 1)


def _duplicates(survey: Survey) -> str:
    pairs = {key: count for key, count in survey.duplicates.items() if "_" in key and count}
    if not pairs:
        return "no text is in two splits"
    found = ", ".join(
        f"{count:,} of {key.partition('_')[0]} in {key.partition('_')[2]}"
        for key, count in pairs.items()
    )
    if survey.duplicates["dropped"]:
        return f"{found}; {survey.duplicates['dropped']:,} are dropped and not counted above"
    return f"{found}; data.duplicates: drop removes them"


def survey_as_json(survey: Survey) -> dict[str, Any]:
    """Return a survey as an object of JSON, with every class."""
    label, share = survey.majority
    return {
        "classes": list(survey.classes),
        "splits": {
            split: {"documents": int(counts.sum()), "documents_of_class": counts.tolist()}
            for split, counts in survey.counts.items()
        },
        "majority": {"class": label, "valid_share": share},
        "tokens": {
            "median": survey.length_at(0.5),
            "percentile_90": survey.length_at(0.9),
            "longest": survey.length_at(1),
            "max_tokens": survey.max_tokens,
            "documents_cut": survey.cut,
            "share_left": survey.kept_share,
            "documents_of_one_token": survey.single,
        },
        "vocabulary": {
            "ids": survey.vocabulary_size,
            "distinct_words": survey.distinct,
            "valid_unknown_share": survey.unknown_share,
        },
        "duplicates": dict(survey.duplicates),
        "unlabelled_documents": survey.unlabelled,
    }
