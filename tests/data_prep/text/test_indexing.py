from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from celltune.data_prep.text import indexing, native_tokens
from celltune.data_prep.text.indexing import index_texts
from celltune.data_prep.text.tokenizers import Whitespace, open_tokenizer

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


def tokens_of(indexed: indexing.IndexedTexts) -> list[list[str]]:
    bounds = pairwise(indexed.offsets)
    return [[indexed.tokens[index] for index in indexed.ids[a:b]] for a, b in bounds]


@pytest.mark.parametrize("native", [False, True])
@pytest.mark.parametrize("name", ["basic_english", "whitespace"])
@pytest.mark.parametrize("lowercase", [False, True])
@settings(deadline=None)  # the first example starts threads and imports Arrow
@given(texts=TEXTS, block=st.integers(1, 40))
@example(texts=['\0"\0', '<br<br />\0"\0'], block=1)  # a separator that marking produces
def test_fast_implementations_give_the_tokenizers_tokens(
    native: bool, name: str, lowercase: bool, texts: list[str], block: int
) -> None:
    if native and not native_tokens.available():
        pytest.skip("needs a C++ compiler")
    tokenizer = open_tokenizer(name, lowercase=lowercase)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(indexing, "BLOCK_CHARACTERS", block)
        patch.setattr(indexing, "EXPANDED_AT_ONCE", 3)
        patch.setattr(indexing, "CHUNKS_FROM_CHARACTERS", 0)
        patch.setattr(indexing, "NATIVE_FROM_CHARACTERS", 0 if native else 1 << 60)
        indexed = index_texts(texts, name, lowercase=lowercase)
    assert tokens_of(indexed) == [tokenizer(text) for text in texts]
    assert len(set(indexed.tokens)) == len(indexed.tokens)
    assert (indexed.ids.dtype, indexed.offsets.dtype) == (np.int32, np.int64)


def test_progress_is_reported_after_each_block(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(indexing, "BLOCK_CHARACTERS", 10)
    reported: list[int] = []
    texts = ["four", "five5", "and one more", ""]
    index_texts(texts, "whitespace", on_progress=reported.append)
    assert reported[-1] == 4
    assert reported == sorted(reported)
    assert len(reported) > 1


@pytest.mark.skipif(not native_tokens.available(), reason="needs a C++ compiler")
@pytest.mark.parametrize("name", native_tokens.RULES)
def test_native_tokenizer_splits_at_the_whitespace_of_python(name: str) -> None:
    texts = [f"a{chr(code)}b" for code in (*range(0x3100), 0xFEFF, 0x10FFFF)]
    numbered = native_tokens.number_texts(texts, name, lowercase=False)
    tokenizer = open_tokenizer(name)
    ends = np.cumsum(numbered.counts)
    for text, end, count in zip(texts, ends, numbered.counts, strict=True):
        tokens = [numbered.tokens[i] for i in numbered.ids[end - count : end]]
        assert tokens == tokenizer(text)


@pytest.mark.skipif(not native_tokens.available(), reason="needs a C++ compiler")
def test_native_tokenizer_numbers_many_and_long_tokens() -> None:
    words = [f"{'x' * (number % 30)}{number}" for number in range(40_000)]
    numbered = native_tokens.number_texts(
        [" ".join(words), " ".join(words[::-1])], "whitespace", lowercase=False
    )
    assert numbered.tokens == words
    assert numbered.ids.tolist() == [*range(40_000), *reversed(range(40_000))]


def test_native_tokenizer_is_used_for_large_data_if_available(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def indexer(characters: int) -> object:
        return indexing._indexer(Whitespace(), False, characters)

    monkeypatch.setattr(native_tokens, "available", lambda: True)
    assert isinstance(indexer(1 << 20), indexing._NativeIndexer)
    assert isinstance(indexer(1 << 16), indexing._ChunkIndexer)
    assert isinstance(indexer(100), indexing._TextIndexer)
    monkeypatch.setattr(Whitespace, "native_rules", None)
    assert isinstance(indexer(1 << 20), indexing._ChunkIndexer)
    monkeypatch.undo()
    monkeypatch.setattr(native_tokens, "available", lambda: False)
    assert isinstance(indexer(1 << 20), indexing._ChunkIndexer)


def test_number_texts_raises_if_the_library_is_not_available(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(native_tokens, "_library", lambda: None)
    with pytest.raises(RuntimeError, match=r"not available\. Call available\(\) first"):
        native_tokens.number_texts(["a"], "whitespace", lowercase=False)
