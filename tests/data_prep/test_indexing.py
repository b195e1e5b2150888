from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep import indexing
from data_prep.indexing import index_texts
from data_prep.tokenizers import tokenizer

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


@pytest.mark.parametrize("name", ["basic_english", "whitespace"])
@pytest.mark.parametrize("lowercase", [False, True])
@settings(deadline=None)  # threads start, and Arrow is imported in the first example
@given(texts=TEXTS, block=st.integers(1, 40))
def test_the_fast_way_gives_the_tokenizers_tokens(
    name: str, lowercase: bool, texts: list[str], block: int
) -> None:
    plain = tokenizer(name, lowercase=lowercase)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(indexing, "BLOCK_CHARACTERS", block)
        patch.setattr(indexing, "EXPANDED_AT_ONCE", 3)
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
