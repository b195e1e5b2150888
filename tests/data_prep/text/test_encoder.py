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
    TextEncoder,
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


def write_csv(path: Path, texts: list[str]) -> Path:
    rows = "".join(f'"{text}",{number % 2}\n' for number, text in enumerate(texts))
    path.write_text(f"text,label\n{rows}")
    return path


@pytest.mark.parametrize("tokenizer", ["basic_english", "whitespace", "bpe"])
@pytest.mark.parametrize("keep", ["head", "tail", "both"])
def test_encoder_gives_the_ids_of_the_prepared_data(
    tokenizer: str, keep: str, tmp_path: Path
) -> None:
    texts = [f"A fine film, number {n} <br /> " + "it isn't Bad! " * (n % 5) for n in range(40)]
    config = DataConfig(
        source="csv",
        path=write_csv(tmp_path / "documents.csv", texts),
        tokenizer=tokenizer,
        lowercase=tokenizer != "basic_english" or None,
        keep=keep,
        max_tokens=9,
        vocabulary_size=12,
    )
    data = prepare(config, cache_dir=tmp_path / "cache")
    ids, offsets = TextEncoder(TextRules.of(config), data.words).encode(texts)
    encoded = {tuple(ids[a:b]) for a, b in pairwise(offsets)}
    for split in (data.train, data.valid):
        assert {tuple(split.ids[a:b]) for a, b in pairwise(split.offsets)} <= encoded


def test_text_rules_cover_all_settings_that_shape_a_text() -> None:
    """A setting that `TextRules` lacks would make predictions differ from training."""
    shaping = {"tokenizer", "lowercase", "max_tokens", "keep", "drop_unknown", "tokenizer_version"}
    assert set(TextRules.model_fields) == shaping
    annotation = VectorsConfig.model_fields["unknown"].annotation
    assert get_args(annotation) == ("zero", "drawn", "dropped")


def test_text_rules_of_a_builtin_tokenizer_are_stored_without_a_version() -> None:
    assert rules().model_dump(mode="json") == {
        "tokenizer": "basic_english",
        "lowercase": False,
        "max_tokens": 4,
        "keep": "both",
        "drop_unknown": False,
    }


@pytest.mark.parametrize("keep", ["head", "tail", "both"])
def test_encoder_drops_unknown_words_as_the_prepared_data(keep: str, tmp_path: Path) -> None:
    texts = [f"a fine film {n} , " + "it is not bad ! " * (n % 4) for n in range(40)]
    vectors = tmp_path / "vectors.txt"
    vectors.write_text("fine 1 2\nfilm 2 3\nbad 3 4\nnot 4 5\n")
    config = DataConfig(
        source="csv",
        path=write_csv(tmp_path / "documents.csv", texts),
        keep=keep,
        max_tokens=5,
        vectors=VectorsConfig.model_validate({"path": str(vectors), "unknown": "dropped"}),
    )
    data = prepare(config, cache_dir=tmp_path / "cache")
    encoder = TextEncoder(TextRules.of(config), data.words)
    ids, offsets = encoder.encode(texts)
    encoded = {tuple(ids[a:b]) for a, b in pairwise(offsets)}
    for split in (data.train, data.valid):
        assert {tuple(split.ids[a:b]) for a, b in pairwise(split.offsets)} <= encoded
    assert encoder.encode(["", "unheard of"])[1].tolist() == [0, 0, 1]


@given(
    texts=TEXTS,
    limit=st.integers(1, 6),
    keep=st.sampled_from(["head", "tail", "both"]),
    dropped=st.booleans(),
)
def test_spell_gives_the_ids_of_encode_and_the_removed_range(
    texts: list[str], limit: int, keep: str, dropped: bool
) -> None:
    encoder = TextEncoder(rules(max_tokens=limit, keep=keep, drop_unknown=dropped), WORDS)
    untruncated = TextEncoder(rules(max_tokens=1_000, drop_unknown=dropped), WORDS)
    ids, offsets = encoder.encode(texts)
    for text, start, end in zip(texts, offsets, offsets[1:], strict=False):
        spelled = encoder.spell(text)
        assert spelled.ids.tolist() == ids[start:end].tolist()
        assert len(spelled.tokens) == end - start
        whole, cut = untruncated.spell(text).tokens, spelled.removed_at
        assert whole[:cut] == spelled.tokens[:cut]
        assert whole[cut + spelled.num_removed :] == spelled.tokens[cut:]


@given(texts=TEXTS)
def test_texts_with_known_tokens_are_found(texts: list[str]) -> None:
    ids, offsets = TextEncoder(rules(), WORDS).encode(texts)
    any_token, any_known = has_known_token(ids, offsets)
    encoded = [ids[a:b] for a, b in pairwise(offsets)]
    assert any_token.tolist() == [len(text_ids) > 0 for text_ids in encoded]
    assert any_known.tolist() == [bool((text_ids != UNK).any()) for text_ids in encoded]
    split = as_split(ids, offsets, any_known)
    expected = [text_ids.tolist() for text_ids in encoded if (text_ids != UNK).any()]
    assert [split.ids[a:b].tolist() for a, b in pairwise(split.offsets)] == expected
    assert PAD not in ids


def test_encoder_exposes_its_vocabulary() -> None:
    encoder = TextEncoder(rules(), WORDS)
    assert encoder.words == WORDS
    assert np.array_equal(encoder.encode(["not fine"])[0], [6, 3])


def test_lone_surrogate_is_not_utf8() -> None:
    assert is_utf8("fine ☃")
    assert not is_utf8("\udc80")
