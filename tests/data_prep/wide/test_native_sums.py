from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from celltune.data_prep.wide import model as model_module
from celltune.data_prep.wide import native_sums
from celltune.data_prep.wide.features import NgramFeatures
from celltune.data_prep.wide.fit import LabelledTexts, WideFitter
from celltune.data_prep.wide.native_sums import NativeSums
from celltune.data_prep.wide.text import normalize
from celltune.data_prep.wide_config import WideConfig
from tests.data_prep.wide.reference import WORDS, corpus

TEXTS, LABELS = corpus(24, 3, 1)

# Characters on which definitions of words and white space differ; unknown ones are among them.
CHARACTERS = "ab_1 .,'\0\n\t\x1c\x85\u00a0\u2028\u200b\ufeffİßΣé\u0301²½ⅷ٣映𝒳🙂\ud800"  # noqa: RUF001
PIECES = st.sampled_from([*WORDS, " ", "  ", "<br />"]) | st.text(CHARACTERS, max_size=4)
DOCUMENTS = st.lists(
    st.lists(PIECES).map(" ".join) | st.lists(PIECES).map("".join) | st.text(), max_size=6
)

needs_compiler = pytest.mark.skipif(not native_sums.available(), reason="needs a C++ compiler")


def features(texts: list[str], words: int, characters: int, minimum: int) -> NgramFeatures:
    config = WideConfig(words=words, characters=characters, min_documents=minimum)
    return NgramFeatures.fit([normalize(text) for text in texts], config).features


def random_weights(features: NgramFeatures, outputs: int) -> np.ndarray:
    rng = np.random.default_rng(1)
    return rng.standard_normal((outputs, features.total)).astype(np.float32)


@needs_compiler
@settings(max_examples=40, deadline=None)
@given(
    known=DOCUMENTS,
    texts=DOCUMENTS,
    words=st.integers(1, 4),
    characters=st.sampled_from([0, 2, 5, 10]),
    minimum=st.integers(1, 2),
    outputs=st.sampled_from([1, 3]),
)
@example(known=[], texts=["", "a"], words=1, characters=0, minimum=1, outputs=1)
@example(known=TEXTS, texts=TEXTS[:3] * 2, words=3, characters=5, minimum=2, outputs=3)
def test_sums_equal_those_of_numpy(
    known: list[str], texts: list[str], words: int, characters: int, minimum: int, outputs: int
) -> None:
    ngrams = features([*known, "a film"], words, characters, minimum)
    weights = random_weights(ngrams, outputs)
    prepared = [normalize(text) for text in [*texts, *known]]
    expected = ngrams.presence(prepared).weighted_sums(weights)
    sums = NativeSums(ngrams, weights).of(prepared)
    assert sums.shape == (len(prepared), outputs)
    assert sums == pytest.approx(expected, rel=1e-12, abs=1e-12)


@needs_compiler
def test_texts_with_many_features_and_unknown_chunks() -> None:
    rng = np.random.default_rng(2)
    letters = np.array(list("abcdefghijklmnopqrstuvwxyzäöü"))
    texts = ["".join(rng.choice([*letters, " "], 12_000)) for _ in range(3)]
    ngrams = features(texts[:2], 3, 5, 1)
    weights = random_weights(ngrams, 1)
    # The table of the features of a text has 8,192 slots at first, and doubles if half are used.
    sums = NativeSums(ngrams, weights).of(texts)
    assert ngrams.presence(texts).rows.lengths.max() > 4_096
    assert sums == pytest.approx(ngrams.presence(texts).weighted_sums(weights), rel=1e-9)


@needs_compiler
def test_all_code_points_are_divided_as_by_numpy() -> None:
    # Each between two letters: a word, two words, or two words and a mark.
    texts = ["".join(f"a{chr(code)}b" for code in range(first, 0x3000, 64)) for first in range(64)]
    ngrams = features(texts, 2, 3, 1)
    weights = random_weights(ngrams, 1)
    prepared = [normalize(text) for text in texts]
    expected = ngrams.presence(prepared).weighted_sums(weights)
    assert NativeSums(ngrams, weights).of(prepared) == pytest.approx(expected, rel=1e-9)


@needs_compiler
@pytest.mark.parametrize("classes", [2, 3])
def test_logits_equal_those_without_a_compiler(
    monkeypatch: pytest.MonkeyPatch, classes: int
) -> None:
    labels = np.minimum(LABELS, classes - 1)
    documents = LabelledTexts(TEXTS, labels, [None] * len(TEXTS))
    model = WideFitter(WideConfig(), classes, 1).refit(documents, 10)
    texts = [*TEXTS, "", "ΩΩ", "good"]
    # Several threads, each with some of the texts.
    monkeypatch.setattr(model_module, "TEXTS_AT_ONCE", 4)
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    logits = model.logits(texts)
    monkeypatch.setattr(native_sums, "available", lambda: False)
    fallback = type(model).from_arrays(model.arrays())
    assert fallback.logits(texts) == pytest.approx(logits, rel=1e-6, abs=1e-6)


@needs_compiler
def test_threads_share_a_model() -> None:
    ngrams = features(TEXTS, 3, 5, 2)
    sums = NativeSums(ngrams, random_weights(ngrams, 2))
    prepared = [normalize(text) for text in TEXTS]
    expected = sums.of(prepared).tolist()
    with ThreadPoolExecutor(4) as pool:
        for result in pool.map(lambda _: sums.of(prepared), range(16)):
            assert result.tolist() == expected


def test_a_model_needs_a_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native_sums, "_library", lambda: None)
    ngrams = features(TEXTS, 1, 0, 1)
    with pytest.raises(RuntimeError, match="The native n-grams are not available"):
        NativeSums(ngrams, random_weights(ngrams, 1))


class NoMemory:
    """A library whose calls fail as without memory."""

    def __init__(self, model: int | None) -> None:
        self.model = model

    def celltune_wide_model(self, _arrays: object) -> int | None:
        return self.model

    def celltune_wide_sums(self, *_arguments: object) -> int:
        return 1

    def celltune_wide_free(self, _model: int) -> None: ...


def test_exhausted_memory_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    ngrams = features(TEXTS, 1, 0, 1)
    weights = random_weights(ngrams, 1)
    monkeypatch.setattr(native_sums, "_library", lambda: NoMemory(None))
    with pytest.raises(MemoryError, match="The n-grams of the wide part do not fit into memory"):
        NativeSums(ngrams, weights)
    monkeypatch.setattr(native_sums, "_library", lambda: NoMemory(1))
    with pytest.raises(MemoryError, match="The n-grams of the texts do not fit into memory"):
        NativeSums(ngrams, weights).of(["a"])
