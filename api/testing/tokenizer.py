"""Contract tests for tokenizers; they need pytest.

Subclass `TokenizerContract` in a test module and set the registered name::

    class TestMyTokenizer(TokenizerContract):
        tokenizer = "my_tokenizer"
"""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import ClassVar

import pytest

from celltune.data_prep.config import DataConfig
from celltune.data_prep.extensions import TOKENIZERS
from celltune.data_prep.preparation.pipeline import prepare
from celltune.data_prep.text import indexing, native_tokens
from celltune.data_prep.text.base import Tokenizer
from celltune.data_prep.text.tokenizers import open_tokenizer, tokenizer_version

_PIECES = (
    *("a", "word", "Word", "WORD", "don't", "U.S.", "3.14", "e-mail@x.org", "#tag", "http://x.y/z"),
    *("<br />", "<BR />", '<br" />', "<b>", "(", ")", "!?", "...", ";", ":", '"', "'", "$5", "50%"),
    *("é", "ß", "İ", "Σ", "ΑΣ", "中文", "русский", "\U0001f600", "\u200b", "\ufeff"),
    *(" ", "  ", "\t", "\n", "\r\n", "\u00a0", "\u2028", "\x1c", "\0", "\0\0"),
)


def difficult_texts(number: int = 200) -> list[str]:
    """Return texts with unusual whitespace, case and Unicode; the same ones on every call."""
    rng = random.Random(1)  # noqa: S311 - test data
    pieces = [rng.choices(_PIECES, k=rng.randrange(12)) for _ in range(number)]
    return ["", " ", "\n", "A good film.", *(rng.choice(["", " "]).join(p) for p in pieces)]


class TokenizerContract:
    """Tests of the contract that `Tokenizer` describes."""

    tokenizer: ClassVar[str]
    """Registered name of the tokenizer under test."""

    def test_is_registered_with_a_version(self) -> None:
        assert self.tokenizer in TOKENIZERS
        assert issubclass(TOKENIZERS.load(self.tokenizer), Tokenizer)
        assert isinstance(tokenizer_version(self.tokenizer), str)

    def test_tokens_are_non_empty_utf8_strings(self) -> None:
        tokenizer = open_tokenizer(self.tokenizer)
        for text in difficult_texts():
            for token in tokenizer(text):
                assert isinstance(token, str)
                assert token.encode("utf-8") != b"", text

    def test_tokens_depend_on_the_text_alone(self) -> None:
        texts = difficult_texts()
        first, second = open_tokenizer(self.tokenizer), open_tokenizer(self.tokenizer)
        tokens = [first(text) for text in texts]
        assert [second(text) for text in reversed(texts)] == tokens[::-1]
        assert [first(text) for text in texts] == tokens

    def test_empty_text_has_no_tokens(self) -> None:
        assert open_tokenizer(self.tokenizer)("") == []

    def test_has_token_agrees_with_the_tokens(self) -> None:
        tokenizer = open_tokenizer(self.tokenizer)
        for text in difficult_texts():
            assert tokenizer.has_token(text) == bool(tokenizer(text)), repr(text)

    def test_always_lowercases_is_true_only_if_tokens_are_lower_case(self) -> None:
        tokenizer = open_tokenizer(self.tokenizer)
        if tokenizer.always_lowercases:
            for text in difficult_texts():
                assert tokenizer(text) == tokenizer(text.lower()), repr(text)

    def test_threads_can_share_a_tokenizer(self) -> None:
        tokenizer, texts = open_tokenizer(self.tokenizer), difficult_texts()
        with ThreadPoolExecutor(4) as pool:
            assert list(pool.map(tokenizer, texts)) == [tokenizer(text) for text in texts]

    @pytest.mark.parametrize("native", [False, True])
    @pytest.mark.parametrize("lowercase", [False, True])
    @pytest.mark.parametrize("block_characters", [1, 50, 1 << 20])
    def test_indexing_gives_the_tokens_of_each_text(
        self, native: bool, lowercase: bool, block_characters: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        if native and not native_tokens.available():
            pytest.skip("needs a C++ compiler")
        monkeypatch.setattr(indexing, "BLOCK_CHARACTERS", block_characters)
        monkeypatch.setattr(indexing, "NATIVE_FROM_CHARACTERS", 0 if native else 1 << 60)
        texts = difficult_texts()
        tokenizer = open_tokenizer(self.tokenizer, lowercase=lowercase)
        indexed = indexing.index_texts(texts, self.tokenizer, lowercase=lowercase)
        for text, (begin, end) in zip(texts, pairwise(indexed.offsets), strict=True):
            tokens = [indexed.tokens[index] for index in indexed.ids[begin:end]]
            assert tokens == tokenizer(text), repr(text)

    def test_data_are_prepared_and_cached(self, tmp_path: Path) -> None:
        config = DataConfig(source="synthetic", reviews=40, tokenizer=self.tokenizer)
        prepared = prepare(config, cache_dir=tmp_path)
        cached = prepare(config, cache_dir=tmp_path)
        assert cached.words == prepared.words
        assert cached.fingerprint == prepared.fingerprint
        assert cached.train.ids.tolist() == prepared.train.ids.tolist()
