from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from celltune.data_prep.text import indexing, native_tokens
from celltune.data_prep.text.indexing import index_texts
from celltune.data_prep.text.tokenizers import tokenizer

PIECES = st.sampled_from(
    [
        *(
            "<br />",
            "<BR />",
            '<br" />',
            "<br",
            "/>",
            "<br / >",
            "'",
            '"',
            ".",
            "(",
            "!?",
            ";",
            ",",
        ),
        *(" ", "  ", "\t", "\n", "\r\n", "\u00a0", "\u2028", "\x1c", "\x85", "\0", "\0\0"),
        *("İ", "ß", "ΑΣ", "Σ", "don't", "U.S.", "Word", "word", "WORD", "é", "𝒳", "\ufeff"),  # noqa: RUF001
    ]
)
TEXTS = st.lists(
    st.lists(PIECES).map("".join) | st.text(st.characters(exclude_categories=["Cs"])), max_size=6
)


def tokens_of(found: indexing.IndexedTexts) -> list[list[str]]:
    return [[found.tokens[index] for index in found.ids[a:b]] for a, b in pairwise(found.offsets)]


@pytest.mark.parametrize("native", [False, True])
@pytest.mark.parametrize("name", ["basic_english", "whitespace"])
@pytest.mark.parametrize("lowercase", [False, True])
@settings(deadline=None)  # threads start, and Arrow is imported in the first example
@given(texts=TEXTS, block=st.integers(1, 40))
def test_the_fast_way_gives_the_tokenizers_tokens(
    native: bool, name: str, lowercase: bool, texts: list[str], block: int
) -> None:
    if native and not native_tokens.available():
        pytest.skip("no C++ compiler here")
    plain = tokenizer(name, lowercase=lowercase)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(indexing, "BLOCK_CHARACTERS", block)
        patch.setattr(indexing, "EXPANDED_AT_ONCE", 3)
        patch.setattr(indexing, "NATIVE_FROM_CHARACTERS", 0 if native else 1 << 60)
        found = index_texts(texts, name, lowercase=lowercase)
    assert tokens_of(found) == [plain(text) for text in texts]
    assert len(set(found.tokens)) == len(found.tokens)
    assert (found.ids.dtype, found.offsets.dtype) == (np.int32, np.int64)


def test_progress_is_told_block_by_block(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(indexing, "BLOCK_CHARACTERS", 10)
    told: list[int] = []
    index_texts(["four", "five5", "and one more", ""], "whitespace", told=told.append)
    assert told[-1] == 4
    assert told == sorted(told)
    assert len(told) > 1


@pytest.mark.skipif(not native_tokens.available(), reason="no C++ compiler here")
@pytest.mark.parametrize("name", native_tokens.KNOWN)
def test_natively_a_blank_is_what_python_takes_for_one(name: str) -> None:
    texts = [f"a{chr(code)}b" for code in (*range(0x3100), 0xFEFF, 0x10FFFF)]
    found = native_tokens.number_texts(texts, name, lowercase=False)
    plain = tokenizer(name)
    ends = np.cumsum(found.counts)
    for text, end, count in zip(texts, ends, found.counts, strict=True):
        assert [found.tokens[i] for i in found.ids[end - count : end]] == plain(text)


@pytest.mark.skipif(not native_tokens.available(), reason="no C++ compiler here")
def test_natively_many_tokens_and_long_ones_keep_their_numbers() -> None:
    words = [f"{'x' * (number % 30)}{number}" for number in range(40_000)]
    found = native_tokens.number_texts(
        [" ".join(words), " ".join(words[::-1])], "whitespace", lowercase=False
    )
    assert found.tokens == words
    assert found.ids.tolist() == [*range(40_000), *reversed(range(40_000))]


def test_large_sets_go_the_native_way_only_where_it_can_be_gone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(native_tokens, "available", lambda: True)
    assert isinstance(indexing._way("whitespace", False, 1 << 20), indexing._Native)
    assert isinstance(indexing._way("whitespace", False, 100), indexing._ByChunk)
    monkeypatch.setattr(native_tokens, "available", lambda: False)
    assert isinstance(indexing._way("whitespace", False, 1 << 20), indexing._ByChunk)


def test_without_a_library_numbering_natively_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native_tokens, "_library", lambda: None)
    with pytest.raises(RuntimeError, match=r"without a library; ask available\(\) first"):
        native_tokens.number_texts(["a"], "whitespace", lowercase=False)
