"""Synthetic reviews: a small grammar in which the order of the words carries the label.

::

    review   = irrelevant* opinion (irrelevant | opinion)*
    opinion  = clause "."
             | clause ", but" clause "."      the second clause wins, the first says the opposite
    clause   = "the" aspect "was" [degree] praise-or-blame
             | "the" aspect "was not" [distance] [degree] blame-or-praise

Every opinion of a review comes out at the review's label. A clause is negated nearly as often as
it isn't, and the clause before "but" says the opposite of the one behind it, so praise and blame
are nearly as common in either class: counting words tells little, reading them in order tells
all but the label noise.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from celltune.data_prep.sources.base import TRAIN, Document, Split

SYNTHETIC_VERSION = 1
"""Raised whenever the same arguments would give other reviews."""

CLASSES = ("negative", "positive")
NEGATED_SHARE = 0.35
CONTRAST_SHARE = 0.3
OPINION_SHARE = 0.3
MIN_TOKENS, TYPICAL_TOKENS, MAX_TOKENS = 5, 26, 200
LENGTH_BASE = 16.0

_PRAISE = (
    "good",
    "great",
    "clever",
    "moving",
    "funny",
    "warm",
    "sharp",
    "lovely",
    "brilliant",
    "honest",
    "bold",
    "tender",
    "witty",
)
_BLAME = (
    "bad",
    "awful",
    "dull",
    "clumsy",
    "boring",
    "cold",
    "weak",
    "ugly",
    "stupid",
    "fake",
    "lazy",
    "hollow",
    "noisy",
)
_ASPECTS = (
    "plot",
    "acting",
    "music",
    "ending",
    "script",
    "camera",
    "story",
    "cast",
    "pace",
    "dialogue",
    "humour",
    "hero",
    "sound",
    "film",
    "director",
    "picture",
    "drama",
    "scenery",
    "beginning",
    "villain",
)
_DEGREES = ("very", "really", "truly", "quite", "so")
_NEGATIONS = ("not", "never", "hardly")
_DISTANCES = (
    "",
    "",
    "at any point",
    "for one minute",
    "in my opinion",
    "even once",
    "as they say",
    "to be fair",
)
_WHO = ("i", "we", "my sister and i", "two friends", "the neighbours", "an uncle")
_DID = ("saw it", "rented it", "watched it", "heard of it", "found it", "talked about it")
_WHERE = (
    "on a rainy monday",
    "at home",
    "in a small cinema",
    "on the train",
    "after dinner",
    "last winter",
    "during the holidays",
    "in the old town",
)
_ASIDES = (
    "it runs for two hours",
    "the book came out years ago",
    "tickets cost the same everywhere",
    "there was popcorn left over",
    "someone in the next row slept",
    "it was filmed in three countries",
    "the rain had stopped by then",
    "a sequel is planned for spring",
    "most scenes take place in summer",
    "her brother works near that studio",
)


@dataclass(frozen=True)
class SyntheticSource:
    """A source of generated reviews, half of them of each class before the noise.

    Args:
        reviews: how many, at least 2.
        label_noise: the share of labels turned round afterwards, in [0, 0.5).
        seed: the same seed gives the same reviews on every machine.
    """

    reviews: int
    label_noise: float
    seed: int

    @property
    def classes(self) -> tuple[str, ...]:
        """``("negative", "positive")``."""
        return CLASSES

    @property
    def splits(self) -> tuple[Split, ...]:
        """Train alone."""
        return TRAIN

    def digest(self, parts: Sequence[Split] = TRAIN) -> str:  # noqa: ARG002 (there is but one)
        """Names the grammar and its arguments: they stand for the content."""
        return f"synthetic-{SYNTHETIC_VERSION}-{self.reviews}-{self.label_noise!r}-{self.seed}"

    def documents(self, parts: Sequence[Split] = TRAIN) -> Iterator[Document]:  # noqa: ARG002
        """The reviews in a fixed order, their lengths spread from 5 to 200 tokens."""
        rng = random.Random(self.seed)  # noqa: S311 - a data set, not a secret
        for number in range(self.reviews):
            label = number % 2
            text = " ".join(_review(rng, label))
            flipped = rng.random() < self.label_noise
            yield Document(f"synthetic/{number}", text, label ^ flipped, None)


def _review(rng: random.Random, label: int) -> list[str]:
    wanted = _length(rng)
    sentences = [_opinion(rng, label, wanted)]
    missing = wanted - len(sentences[0])
    while missing >= MIN_TOKENS:
        opinion = rng.random() < OPINION_SHARE
        sentence = _opinion(rng, label, missing) if opinion else _irrelevant(rng)
        sentences.append(sentence)
        missing -= len(sentence)
    _shuffle(rng, sentences)
    words = [word for sentence in sentences for word in sentence]
    return words if len(words) <= MAX_TOKENS else _review(rng, label)


def _length(rng: random.Random) -> int:
    # The exponent of a sum of uniforms spreads like a log-normal and needs random() alone, the
    # one draw that Python promises to repeat in every version.
    spread = sum(rng.random() for _ in range(6)) / 3 - 1
    return max(MIN_TOKENS, min(MAX_TOKENS, round(TYPICAL_TOKENS * math.pow(LENGTH_BASE, spread))))


def _opinion(rng: random.Random, label: int, room: int) -> list[str]:
    if room > 3 * MIN_TOKENS and rng.random() < CONTRAST_SHARE:
        first, second = _clause(rng, 1 - label, room), _clause(rng, label, room)
        return [*first, ",", "but", *second, "."]
    return [*_clause(rng, label, room), "."]


def _clause(rng: random.Random, polarity: int, room: int) -> list[str]:
    start = ["the", _pick(rng, _ASPECTS), "was"]
    negated = room > MIN_TOKENS and rng.random() < NEGATED_SHARE
    between: list[str] = []
    if negated:
        between = [_pick(rng, _NEGATIONS), *_pick(rng, _DISTANCES).split()]
    if room > MIN_TOKENS and rng.random() < 1 / 3:
        between.append(_pick(rng, _DEGREES))
    words = _PRAISE if polarity ^ negated else _BLAME
    return [*start, *between, _pick(rng, words)]


def _irrelevant(rng: random.Random) -> list[str]:
    if rng.random() < 1 / 3:
        return [*_pick(rng, _ASIDES).split(), "."]
    return f"{_pick(rng, _WHO)} {_pick(rng, _DID)} {_pick(rng, _WHERE)} .".split()


def _pick(rng: random.Random, options: Sequence[str]) -> str:
    return options[int(rng.random() * len(options))]


def _shuffle(rng: random.Random, items: list[list[str]]) -> None:
    for last in range(len(items) - 1, 0, -1):
        other = int(rng.random() * (last + 1))
        items[last], items[other] = items[other], items[last]
