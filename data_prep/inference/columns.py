"""Which columns of a table contain the texts and the labels."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from celltune.data_prep.errors import DataError
from celltune.data_prep.sources.labels import as_yaml
from celltune.data_prep.sources.rows import MISSING_WORDS
from celltune.printable import printable, quoted

TEXT_NAMES = (
    ("text",),
    (
        "texts", "review", "reviews", "review_text", "tweet", "tweets", "tweet_text", "sentence",
        "sentences", "content", "body", "message", "comment", "comment_text", "document",
        "post", "utterance", "phrase", "description",
    ),
)  # fmt: skip
LABEL_NAMES = (
    ("label",),
    (
        "labels", "sentiment", "class", "target", "category", "rating", "stars", "polarity",
        "topic", "intent", "emotion", "y",
    ),
)  # fmt: skip
"""Names of columns, in lower case; those of a first group are preferred to those of the second."""

_SHOWN_COLUMNS = 10
_MOST_CLASSES = 50
"""Different values of a column that can contain labels, if its name does not say so."""
_ROWS_PER_CLASS = 4
"""Rows per different value of such a column, at least."""
_TEXT_CHARACTERS = 15
"""Mean number of characters of the cells of a column that can contain texts."""
_TEXT_VARIETY = 0.5
"""Share of different cells of such a column, at least."""
_CLEARLY_LONGER = 3
"""How many times longer than in all other columns the cells of a column are that has the texts."""
_WORDS_OF_TEXT = 4
"""Words of each example of another column that has texts, at least."""
_SHOWN_UNUSED = 2


@dataclass(frozen=True)
class FirstRows:
    """The columns and first rows of a table."""

    where: str
    """The file, for messages."""
    names: Sequence[str]
    """Its columns."""
    rows: Sequence[Sequence[str]]
    """The cells of its first rows."""
    all_rows: Callable[[Sequence[str]], Iterable[Sequence[str]]]
    """Returns the cells of some columns in all rows."""


class Choice(NamedTuple):
    """A column, and why it was chosen."""

    column: str
    reason: str


class _Column(NamedTuple):
    """What rows of a table tell about a column."""

    name: str
    filled: int
    """Number of cells that are not missing."""
    different: int
    """Number of different cells; one more than `_MOST_CLASSES` stands for any larger number if all
    rows were read."""
    length: float
    """Mean number of characters of a cell."""
    examples: tuple[str, ...]

    @property
    def can_be_text(self) -> bool:
        return self.length >= _TEXT_CHARACTERS and self.different >= _TEXT_VARIETY * self.filled

    @property
    def has_sentences(self) -> bool:
        """Whether the cells are texts of several words, unlike identifiers and dates."""
        return self.can_be_text and all(
            len(example.split()) >= _WORDS_OF_TEXT for example in self.examples
        )

    @property
    def can_be_label(self) -> bool:
        return 2 <= self.different <= _MOST_CLASSES and (
            self.different == 2 or self.filled >= _ROWS_PER_CLASS * self.different
        )


def choose_columns(
    table: FirstRows, text: str | None, label: str | None, others: Collection[str] = ()
) -> tuple[Choice | None, Choice | None]:
    """Choose the columns of texts and labels that a config does not name.

    Args:
        table: the table.
        text: the column of texts, if it is known.
        label: the column of labels, if it is known.
        others: columns that contain something else.

    Returns:
        The chosen columns of texts and labels; None for one that is known.

    Raises:
        DataError: no column or more than one can be the column that is missing.
    """
    rows, width = table.rows, max(map(len, table.rows), default=0)
    columns = [
        _describe(name, [row[index] for row in rows if index < len(row)] if index < width else [])
        for index, name in enumerate(table.names)
        # Spreadsheets save empty columns, whose names are empty, too: nothing can refer to them.
        if name and name not in others
    ]
    chosen_text = chosen_label = None
    if label is None:
        free = [column for column in columns if column.name != text]
        chosen_label = _by_name(free, LABEL_NAMES)
        label = chosen_label and chosen_label.column
    if text is None:
        free = [column for column in columns if column.name != label]
        chosen_text = (
            _by_name(free, TEXT_NAMES)
            or _beside_labels(free)
            or _text_by_content(table.where, free)
        )
        text = chosen_text.column
        unused = [column.name for column in free if column.name != text and column.has_sentences]
        if unused:
            names = " and ".join(quoted(name) for name in unused[:_SHOWN_UNUSED])
            reason = f"{chosen_text.reason}; the texts of {names} are not used"
            chosen_text = chosen_text._replace(reason=reason)
    if label is None:
        free = [column for column in columns if column.name != text]
        # The rows may be sorted by label, so that the first ones do not tell.
        few = [column for column in free if 0 < column.different <= _MOST_CLASSES]
        whole = dict(zip(few, _describe_all(table, few), strict=True)) if len(free) > 1 else {}
        chosen_label = _label_by_content(table.where, [whole.get(each, each) for each in free])
    return chosen_text, chosen_label


def _describe(name: str, cells: Sequence[str]) -> _Column:
    filled = [cell for cell in map(str.strip, cells) if cell not in MISSING_WORDS]
    different = dict.fromkeys(filled)
    length = sum(map(len, filled)) / max(1, len(filled))
    return _Column(name, len(filled), len(different), length, tuple(different)[:3])


def _describe_all(table: FirstRows, columns: Sequence[_Column]) -> list[_Column]:
    """Count the different cells of columns in all rows; their number is limited."""
    seen: list[dict[str, None]] = [{} for _ in columns]
    filled = [0] * len(columns)
    for row in table.all_rows([column.name for column in columns]):
        for index, cell in enumerate(map(str.strip, row)):
            if cell not in MISSING_WORDS:
                filled[index] += 1
                if len(seen[index]) <= _MOST_CLASSES:
                    seen[index][cell] = None
    return [
        column._replace(filled=count, different=len(cells), examples=tuple(cells)[:3])
        for column, count, cells in zip(columns, filled, seen, strict=True)
    ]


def _by_name(columns: Sequence[_Column], groups: Sequence[Sequence[str]]) -> Choice | None:
    """Return the column whose name says what it contains, if there is exactly one."""
    for group in groups:
        found = [
            column
            for column in columns
            if column.name.strip().casefold().replace(" ", "_").replace("-", "_") in group
        ]
        if len(found) == 1:
            return Choice(found[0].name, "its name")
        if found:
            return None
    return None


def _text_by_content(where: str, columns: Sequence[_Column]) -> Choice:
    candidates = sorted(
        (column for column in columns if column.can_be_text), key=lambda column: -column.length
    )
    if not candidates and len(columns) == 1:
        return Choice(columns[0].name, "the only other column")
    if candidates and all(
        candidates[0].length >= _CLEARLY_LONGER * other.length for other in candidates[1:]
    ):
        best = candidates[0]
        return Choice(best.name, f"long and varied, {best.length:,.0f} characters on average")
    raise _undecided(where, "text", candidates, columns)


def _beside_labels(columns: Sequence[_Column]) -> Choice | None:
    """Return which of two columns has short texts, such as words: the one without labels."""
    texts = [column for column in columns if not column.can_be_label]
    if len(columns) != 2 or len(texts) != 1 or texts[0].can_be_text:
        return None
    (best,) = texts
    has_words = all(any(map(str.isalpha, example)) for example in best.examples)
    if not has_words or best.different < _TEXT_VARIETY * best.filled:
        return None
    return Choice(best.name, "varied; the only other column has few values")


def _label_by_content(where: str, columns: Sequence[_Column]) -> Choice:
    candidates = [column for column in columns if column.can_be_label]
    if not candidates and len(columns) == 1 and columns[0].different >= 2:
        return Choice(columns[0].name, "the only other column")
    if len(candidates) == 1:
        best = candidates[0]
        return Choice(best.name, f"{best.different:,} different values")
    raise _undecided(where, "label", candidates, columns)


def _undecided(
    where: str, kind: str, candidates: Sequence[_Column], columns: Sequence[_Column]
) -> DataError:
    shown = list(candidates or columns)
    key = f"data.{kind}_column"
    problem = (
        f"{len(candidates)} columns can contain the {kind}s"
        if candidates
        else f"no column can be recognized as the one that contains the {kind}s"
    )
    lines = [
        f"`{key}: {as_yaml([column.name])[1:-1]}` - {_amount(column)}, such as "
        + ", ".join(quoted(printable(example, 40)) for example in column.examples)
        for column in shown[:_SHOWN_COLUMNS]
    ]
    if len(shown) > _SHOWN_COLUMNS:
        lines.append(f"and {len(shown) - _SHOWN_COLUMNS:,} other columns")
    return DataError(f"{where}: {problem}. Set one of them:", *lines)


def _amount(column: _Column) -> str:
    if column.different == _MOST_CLASSES + 1:
        return f"more than {_MOST_CLASSES} different values"
    return f"{column.different:,} different value{'' if column.different == 1 else 's'}"
