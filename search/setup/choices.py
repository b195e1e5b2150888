"""What is proposed for the texts and the metric, and the reason of each choice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from celltune.data_prep.preparation.survey import Survey
from celltune.search.setup.durations import Effort
from celltune.search.wording import counted, percent_text

UNEVEN, VERY_UNEVEN = 3, 10
"""Ratios of the largest to the smallest class from which F1 is suggested, and from which it is
chosen."""
VALID_SHARE, VALID_SHARE_OF_MANY, TEST_SHARE = 0.2, 0.1, 0.1
MACRO_F1 = "valid_macro_f1"
MANY = 15_000
"""Labelled texts from which a tenth of them is enough for validation (docs/quality.md)."""
FEW = 500
"""Texts below which only large differences between models count."""
WORDS = 25_000
"""Largest number of words in a vocabulary."""
SUBWORD_KEYS: Mapping[str, Any] = {
    "tokenizer": "bpe",
    "lowercase": True,
    "vocabulary_size": 8_000,
}
"""Keys of `data` for subwords; 8,000 do as well as 21,000 words (decision 44)."""
WIDE_BYTES = 350
"""Memory that fitting the wide part takes per token: 1.9 GB for 20,000 reviews of 274 tokens
(decision 36)."""
MOST_UNKNOWN = 0.15
"""Share of unknown words above which subwords are proposed. With 4 and 5 %, they were no better
(decision 44); 300 English reviews have 10 to 11 %."""
VECTORS: Mapping[str, Any] = {"train": "word2vec"}
MOST_LISTED = 20
"""Number of classes whose counts are shown one by one."""


@dataclass(frozen=True)
class Choice:
    """A value and why it was chosen."""

    value: Any
    reason: str = ""


def prefers_subwords(words: Survey) -> bool:
    """Return whether too many words of the validation split are unknown, from a survey of words."""
    return words.unknown_share > MOST_UNKNOWN


def split_comments(survey: Survey) -> Mapping[str, str]:
    """Return what the sizes of the splits mean for the data, by key of `data`."""
    sizes = {split: int(counts.sum()) for split, counts in survey.counts.items()}
    caution = ": only large differences between them count" if sizes["valid"] < FEW else ""
    comments = {"valid_size": f"{counted(sizes['valid'], 'text')} rank the trials{caution}"}
    if "test" in sizes:
        comments["test_size"] = f"{counted(sizes['test'], 'text')}, held out for celltune evaluate"
    return comments


def token_choices(
    words: Survey, tokens: Survey, effort: Effort, memory: int
) -> Mapping[str, Choice]:
    """Return how texts become tokens, by key of `data`.

    Args:
        words: a survey of the words.
        tokens: a survey of the tokens of the proposed tokenizer; the same if they are words.
        effort: of the search.
        memory: bytes that the machine has.
    """
    unknown = f"{percent_text(words.unknown_share, 1)} of the validation split's words are unknown"
    if words is tokens:
        of_texts = {
            "tokenizer": Choice("basic_english", f"words; {unknown}"),
            "vocabulary_size": Choice(
                WORDS, f"the training texts have {words.distinct:,} different words"
            ),
        }
    else:
        left = percent_text(tokens.unknown_share, 1)
        of_texts = {key: Choice(value) for key, value in SUBWORD_KEYS.items()}
        of_texts["tokenizer"] = Choice("bpe", f"subwords: {unknown}, and {left} of the subwords")
    return {
        **of_texts,
        "max_tokens": Choice(effort.max_tokens, _lengths(tokens, effort.max_tokens)),
        "keep": Choice("both", "the first and the last half of a longer text"),
        "wide": _wide(tokens, effort, memory),
        "vectors": Choice(VECTORS, "word vectors, learned from the texts"),
    }


def metric_choice(counts: Sequence[int]) -> Choice:
    """Return the metric that ranks the trials.

    Args:
        counts: labelled texts of each class.
    """
    ratio = max(counts) / max(1, min(counts))
    if ratio < UNEVEN:
        return Choice("valid_loss", "it has fewer ties than the accuracy")
    uneven = f"the classes are uneven ({ratio:.0f} : 1)"
    if ratio < VERY_UNEVEN:
        return Choice("valid_loss", f"{uneven}; valid_macro_f1 would weigh them equally")
    return Choice(MACRO_F1, f"{uneven}; macro-F1 weighs them equally")


def class_comments(counts: Sequence[int]) -> Mapping[str, str]:
    """Return the number of texts per class, by the dotted path of the class; of many a summary."""
    if len(counts) <= MOST_LISTED:
        return {
            f"data.classes.{index}": counted(count, "text") for index, count in enumerate(counts)
        }
    least, most = min(counts), max(counts)
    sizes = f"{counted(least, 'text')} each" if least == most else f"{least:,} to {most:,} texts"
    return {"data.classes": f"{len(counts):,} classes of {sizes}"}


def _lengths(survey: Survey, max_tokens: int) -> str:
    half, most = survey.length_at(0.5), survey.length_at(0.95)
    cut = float((survey.lengths > max_tokens).mean())
    shown = f"{percent_text(cut, 1)} of the texts are cut" if cut else "no text is cut"
    return f"half of the texts have at most {half:,} tokens, 95 % at most {most:,}; {shown}"


def _wide(survey: Survey, effort: Effort, memory: int) -> Choice:
    if not effort.has_wide:
        reason = f"a linear model of {len(survey.classes):,} classes would take too long"
        return Choice(False, reason)
    needed = int(survey.lengths.sum()) * WIDE_BYTES
    if needed * 2 > memory:
        return Choice(
            {"words": 2, "characters": 0},
            f"a linear model on words and pairs of them; longer n-grams would take "
            f"{needed / 1e9:.0f} GB",
        )
    return Choice(True, "a linear model on n-grams of the whole text")
