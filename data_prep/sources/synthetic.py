"""Synthetic reviews: a small grammar in which the order of the words determines the label.

::

    review   = irrelevant* opinion (irrelevant | opinion)*
    opinion  = clause "."
             | clause ", but" clause "."      the second clause decides, the first contradicts it
    clause   = "the" aspect "was" [degree] praise-or-blame
             | "the" aspect "was not" [distance] [degree] blame-or-praise

All opinions of a review agree with its label. About a third of the clauses are negated, and the
clause before "but" contradicts the one after it, so praise and blame are nearly equally frequent
in both classes. Word counts therefore predict the label poorly, whereas reading the words in order
predicts it except for the label noise.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from celltune.data_prep.sources.base import TRAIN, Document, Provenance, Source, Split
from celltune.data_prep.types import Progress

if TYPE_CHECKING:
    from celltune.data_prep.config import DataConfig

SYNTHETIC_VERSION = 1
"""Incremented whenever the same arguments would give other reviews."""

DEFAULT_REVIEWS = 3_000
DEFAULT_LABEL_NOISE = 0.02

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
class SyntheticSource(Source):
    """Generated reviews; before the noise, half of them are of each class.

    Attributes:
        reviews: number of reviews, at least 2.
        label_noise: share of labels that are inverted, in [0, 0.5).
        seed: the same seed gives the same reviews on every machine.
    """

    optional_keys = ("reviews", "label_noise", "test_size")

    reviews: int
    label_noise: float
    seed: int

    @classmethod
    def from_config(
        cls,
        config: DataConfig,
        *,
        cache_dir: Path,  # noqa: ARG003
        progress: Progress | None = None,  # noqa: ARG003
    ) -> SyntheticSource:
        """Return the source with the config's values, or their defaults."""
        noise = DEFAULT_LABEL_NOISE if config.label_noise is None else config.label_noise
        return cls(config.reviews or DEFAULT_REVIEWS, noise, config.seed)

    @classmethod
    def check_config(cls, config: DataConfig) -> None:
        """Check that enough reviews are generated for the requested splits.

        Raises:
            ValueError: the sizes of the splits add up to more than the number of reviews.
        """
        available = config.reviews or DEFAULT_REVIEWS
        sizes = {
            "data.train_size": config.train_size,
            "data.valid_size": config.valid_size,
            "data.test_size": config.test_size,
        }
        counts = {key: size for key, size in sizes.items() if isinstance(size, int)}
        requested = sum(counts.values())
        if requested > available:
            raise ValueError(
                f"The sizes of the splits add up to {requested:,} documents, but only "
                f"{available:,} are generated. Set data.reviews to {requested} or more, or reduce "
                f"{' or '.join(counts)}."
            )

    @classmethod
    def provenance(cls, config: DataConfig) -> Provenance:  # noqa: ARG003
        """Return that the reviews are generated."""
        return Provenance(
            "reviews that celltune generated from a small grammar",
            "No rights apply to the generated reviews. They resemble no real text: a model trained "
            "on them only serves to try out celltune.",
        )

    @property
    def classes(self) -> tuple[str, ...]:
        """`("negative", "positive")`."""
        return CLASSES

    @property
    def splits(self) -> tuple[Split, ...]:
        """The training split only."""
        return TRAIN

    def digest(self, splits: Sequence[Split] = TRAIN) -> str:  # noqa: ARG002
        """Return the version of the grammar and its arguments, which determine the content."""
        return f"synthetic-{SYNTHETIC_VERSION}-{self.reviews}-{self.label_noise!r}-{self.seed}"

    def documents(self, splits: Sequence[Split] = TRAIN) -> Iterator[Document]:  # noqa: ARG002
        """Yield the reviews in a fixed order; their lengths are between 5 and 200 tokens."""
        rng = random.Random(self.seed)  # noqa: S311 (not used for security)
        for number in range(self.reviews):
            label = number % 2
            text = " ".join(_review(rng, label))
            is_noise = rng.random() < self.label_noise
            yield Document(f"synthetic/{number}", text, label ^ is_noise, None)


def _review(rng: random.Random, label: int) -> list[str]:
    length = _length(rng)
    sentences = [_opinion(rng, label, length)]
    missing = length - len(sentences[0])
    while missing >= MIN_TOKENS:
        is_opinion = rng.random() < OPINION_SHARE
        sentence = _opinion(rng, label, missing) if is_opinion else _irrelevant(rng)
        sentences.append(sentence)
        missing -= len(sentence)
    _shuffle(rng, sentences)
    words = [word for sentence in sentences for word in sentence]
    return words if len(words) <= MAX_TOKENS else _review(rng, label)


def _length(rng: random.Random) -> int:
    # The exponential of a sum of uniforms is close to log-normal. It only needs `random()`, the
    # one method whose sequence Python guarantees to be the same in every version.
    spread = sum(rng.random() for _ in range(6)) / 3 - 1
    return max(MIN_TOKENS, min(MAX_TOKENS, round(TYPICAL_TOKENS * math.pow(LENGTH_BASE, spread))))


def _opinion(rng: random.Random, label: int, target_words: int) -> list[str]:
    if target_words > 3 * MIN_TOKENS and rng.random() < CONTRAST_SHARE:
        first, second = _clause(rng, 1 - label, target_words), _clause(rng, label, target_words)
        return [*first, ",", "but", *second, "."]
    return [*_clause(rng, label, target_words), "."]


def _clause(rng: random.Random, polarity: int, target_words: int) -> list[str]:
    start = ["the", _pick(rng, _ASPECTS), "was"]
    negated = target_words > MIN_TOKENS and rng.random() < NEGATED_SHARE
    between: list[str] = []
    if negated:
        between = [_pick(rng, _NEGATIONS), *_pick(rng, _DISTANCES).split()]
    if target_words > MIN_TOKENS and rng.random() < 1 / 3:
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
