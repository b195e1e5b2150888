from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from celltune.data_prep.config import DataConfig
from celltune.data_prep.dataset.tensorized import PAD, UNK
from celltune.data_prep.preparation.pipeline import prepare
from celltune.data_prep.text.encoder import (
    TextReader,
    TextRules,
    as_split,
    has_known_token,
    is_utf8,
)
from celltune.data_prep.vector_config import VectorsConfig

WORDS = ("<unk>", "<pad>", "a", "fine", "film", ".", "not")
TEXTS = st.lists(st.text(alphabet="afinelmot .,<br/>\n", max_size=30), max_size=6)


def rules(**changes: object) -> TextRules:
    plain = {"tokenizer": "basic_english", "lowercase": False, "max_tokens": 4, "keep": "both"}
    return TextRules.model_validate({**plain, **changes})


@pytest.mark.parametrize("tokenizer", ["basic_english", "whitespace"])
@pytest.mark.parametrize("keep", ["head", "tail", "both"])
def test_texts_are_read_as_the_training_part_was(tokenizer: str, keep: str, tmp_path: Path) -> None:
    """Whatever `prepare` does to a review, a `TextReader` with its vocabulary does as well."""
    texts = [f"A fine film, number {n} <br /> " + "it isn't Bad! " * (n % 5) for n in range(40)]
    path = tmp_path / "reviews.csv"
    path.write_text("text,label\n" + "".join(f'"{t}",{n % 2}\n' for n, t in enumerate(texts)))
    config = DataConfig(
        source="csv",
        path=path,
        tokenizer=tokenizer,
        lowercase=tokenizer == "whitespace" or None,
        keep=keep,
        max_tokens=9,
        vocabulary_size=12,
    )
    data = prepare(config, cache_dir=tmp_path / "cache")
    ids, offsets = TextReader(TextRules.of(config), data.words).read(texts)
    ours = {tuple(ids[a:b]) for a, b in pairwise(offsets)}
    for part in (data.train, data.valid):
        pairs = pairwise(part.offsets)
        assert {tuple(part.ids[a:b]) for a, b in pairs} <= ours


def test_a_new_way_to_treat_unknown_words_has_to_be_taken_up_here() -> None:
    """Rules that shape a text and stand outside of `TextRules` would make predictions differ."""
    shaping = {"tokenizer", "lowercase", "max_tokens", "keep", "drop_unknown"}
    assert set(TextRules.model_fields) == shaping
    annotation = VectorsConfig.model_fields["unknown"].annotation
    assert get_args(annotation) == ("zero", "drawn", "dropped")


@pytest.mark.parametrize("keep", ["head", "tail", "both"])
def test_unknown_words_are_left_out_where_the_training_part_left_them_out(
    keep: str, tmp_path: Path
) -> None:
    texts = [f"a fine film {n} , " + "it is not bad ! " * (n % 4) for n in range(40)]
    path, vectors = tmp_path / "reviews.csv", tmp_path / "vectors.txt"
    path.write_text("text,label\n" + "".join(f'"{t}",{n % 2}\n' for n, t in enumerate(texts)))
    vectors.write_text("fine 1 2\nfilm 2 3\nbad 3 4\nnot 4 5\n")
    told = VectorsConfig.model_validate({"path": str(vectors), "unknown": "dropped"})
    config = DataConfig(source="csv", path=path, keep=keep, max_tokens=5, vectors=told)
    data = prepare(config, cache_dir=tmp_path / "cache")
    reader = TextReader(TextRules.of(config), data.words)
    ids, offsets = reader.read(texts)
    ours = {tuple(ids[a:b]) for a, b in pairwise(offsets)}
    for part in (data.train, data.valid):
        assert {tuple(part.ids[a:b]) for a, b in pairwise(part.offsets)} <= ours
    assert reader.read(["", "unheard of"])[1].tolist() == [0, 0, 1]


@given(
    texts=TEXTS,
    limit=st.integers(1, 6),
    keep=st.sampled_from(["head", "tail", "both"]),
    dropped=st.booleans(),
)
def test_word_by_word_is_what_is_read_at_once(
    texts: list[str], limit: int, keep: str, dropped: bool
) -> None:
    reader = TextReader(rules(max_tokens=limit, keep=keep, drop_unknown=dropped), WORDS)
    ids, offsets = reader.read(texts)
    for text, start, end in zip(texts, offsets, offsets[1:], strict=False):
        words = reader.spelled(text)
        assert words.ids.tolist() == ids[start:end].tolist()
        assert len(words.tokens) == end - start
        everything = rules(max_tokens=1_000, drop_unknown=dropped)
        whole = TextReader(everything, WORDS).spelled(text).tokens
        assert whole[: words.at] == words.tokens[: words.at]
        assert whole[words.at + words.gap :] == words.tokens[words.at :]


@given(texts=TEXTS)
def test_what_can_be_answered_is_told_apart(texts: list[str]) -> None:
    reader = TextReader(rules(), WORDS)
    ids, offsets = reader.read(texts)
    any_word, any_known = has_known_token(ids, offsets)
    each = [ids[a:b] for a, b in pairwise(offsets)]
    assert any_word.tolist() == [len(part) > 0 for part in each]
    assert any_known.tolist() == [bool((part != UNK).any()) for part in each]
    split = as_split(ids, offsets, any_known)
    kept = [part.tolist() for part, known in zip(each, any_known, strict=True) if known]
    pairs = pairwise(split.offsets)
    assert [split.ids[a:b].tolist() for a, b in pairs] == kept
    assert PAD not in ids


def test_a_lone_surrogate_is_no_utf8() -> None:
    assert is_utf8("fine ☃")
    assert not is_utf8("\udc80")
    assert TextReader(rules(), WORDS).words == WORDS
    assert np.array_equal(TextReader(rules(), WORDS).read(["not fine"])[0], [6, 3])
