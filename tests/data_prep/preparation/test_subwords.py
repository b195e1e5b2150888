"""Data sets of subwords, from texts to ids and back."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from celltune.data_prep.config import DataConfig
from celltune.data_prep.dataset.tensorized import PreparedData, PreparedTest, TensorizedSplit
from celltune.data_prep.dataset.vocabulary import UNK
from celltune.data_prep.errors import DataError
from celltune.data_prep.preparation.pipeline import (
    fingerprint,
    prepare,
    prepare_test,
    read_documents,
)
from celltune.data_prep.text import byte_pairs
from celltune.data_prep.text.encoder import TextEncoder, TextRules

CHINESE = [
    *("这部电影非常好看", "演员的表演非常精彩", "我非常喜欢这部电影", "剧情精彩,值得一看"),
    *("这部电影非常难看", "演员的表演非常无聊", "我不喜欢这部电影", "剧情无聊,不值得看"),
]
JAPANESE = [
    *(
        "この映画はとても面白い",
        "俳優の演技が素晴らしい",
        "とても素晴らしい映画でした",
        "また見たい映画です",
    ),
    *(
        "この映画はとても退屈だ",
        "俳優の演技がひどい",
        "とても退屈な映画でした",
        "もう見たくない映画です",
    ),
]


def config(write_csv: Callable[..., Path], texts: list[str], **keys: Any) -> DataConfig:
    ends = ("", "。", "!", "?", "!!", "…")
    rows = [(text + end, number % 8 // 4) for end in ends for number, text in enumerate(texts)]
    given = {"source": "csv", "path": write_csv(rows), "tokenizer": "bpe", "test_size": 6}
    return DataConfig.model_validate({**given, "valid_size": 6, **keys})


def spelled(split: TensorizedSplit, words: Any) -> list[str]:
    texts = (split.ids[begin:end] for begin, end in pairwise(split.offsets))
    return ["".join(words[index] for index in ids) for ids in texts]


@pytest.mark.parametrize("texts", [CHINESE, JAPANESE], ids=["chinese", "japanese"])
def test_languages_without_spaces(
    texts: list[str], write_csv: Callable[..., Path], tmp_path: Path
) -> None:
    settings = config(write_csv, texts)
    data = prepare(settings, cache_dir=tmp_path)
    test = prepare_test(settings, cache_dir=tmp_path)
    documents = read_documents(settings)
    assert spelled(data.train, data.words) == [f"▁{each.text}" for each in documents.train]
    frequent = {"chinese": "电影", "japanese": "映画"}[
        "chinese" if texts is CHINESE else "japanese"
    ]
    assert any(frequent in word for word in data.words)
    assert data.train.tokens < 0.6 * sum(len(document.text) for document in documents.train)
    encoder = TextEncoder(TextRules.of(settings), data.words)
    for split, originals in ((data.valid, documents.valid), (test.split, documents.test)):
        ids, offsets = encoder.encode([document.text for document in originals])
        assert ids.tolist() == split.ids.tolist()
        assert offsets.tolist() == split.offsets.tolist()


@pytest.mark.parametrize("unlabelled", [False, True])
@pytest.mark.parametrize("unknown", ["drawn", "dropped"])
def test_word_vectors_of_subwords(
    unknown: str, unlabelled: bool, write_csv: Callable[..., Path], tmp_path: Path
) -> None:
    vectors = {"train": "word2vec", "size": 4, "epochs": 1, "unknown": unknown}
    more = tmp_path / "more.txt"
    more.write_text("这部电影非常好看鑫\n鑫鑫鑫\n", "utf-8")
    keys = {"unlabelled": more} if unlabelled else {}
    settings = config(write_csv, [*CHINESE, "罕"], vectors=vectors, **keys)
    data = prepare(settings, cache_dir=tmp_path)
    assert data.vectors is not None
    assert data.vectors.shape == (len(data.words), 4)
    frequent = next(index for index, word in enumerate(data.words) if "电影" in word)
    assert np.any(data.vectors[frequent] != 0)
    encoder = TextEncoder(TextRules.of(settings), data.words)
    ids, _ = encoder.encode([document.text for document in read_documents(settings).valid])
    assert ids.tolist() == data.valid.ids.tolist()


def test_a_dropped_subword_is_split_into_those_that_are_left(
    write_csv: Callable[..., Path], tmp_path: Path
) -> None:
    (whole,) = {"▁我非常喜欢这部电影"} & set(
        prepare(config(write_csv, CHINESE), cache_dir=tmp_path).words
    )
    vectors = tmp_path / "vectors.txt"
    vectors.write_text("▁ 1 2\n电 2 1\n影 3 1\n", "utf-8")
    keys = {"vectors": {"path": str(vectors), "unknown": "dropped"}}
    settings = config(write_csv, CHINESE, **keys)
    data = prepare(settings, cache_dir=tmp_path)
    assert sorted(data.words) == sorted(["<unk>", "<pad>", "▁", "电", "影"])
    documents = read_documents(settings)
    encoder = TextEncoder(TextRules.of(settings), data.words)
    assert [data.words[index] for index in encoder.encode([whole[1:]])[0]] == ["电", "影"]
    for split, originals in ((data.train, documents.train), (data.valid, documents.valid)):
        ids, offsets = encoder.encode([document.text for document in originals])
        assert ids.tolist() == split.ids.tolist()
        assert offsets.tolist() == split.offsets.tolist()


def test_size_and_count_limit_the_vocabulary(
    write_csv: Callable[..., Path], tmp_path: Path
) -> None:
    words = {
        name: prepare(config(write_csv, CHINESE, **keys), cache_dir=tmp_path).words
        for name, keys in {
            "all": {},
            "few": {"vocabulary_size": 5},
            "frequent": {"min_count": 6},
        }.items()
    }
    assert len(words["few"]) == 7
    assert len(words["few"]) < len(words["frequent"]) < len(words["all"])
    assert {word for word in words["few"][2:] if len(word) > 1} == set()


def test_long_texts_are_truncated_by_subwords(
    write_csv: Callable[..., Path], tmp_path: Path
) -> None:
    settings = config(write_csv, CHINESE, max_tokens=2, keep="tail", vocabulary_size=30)
    data = prepare(settings, cache_dir=tmp_path)
    assert data.train.lengths.tolist() == [2] * len(data.train)


def test_unknown_texts_have_no_known_token(write_csv: Callable[..., Path], tmp_path: Path) -> None:
    settings = config(write_csv, CHINESE)
    data = prepare(settings, cache_dir=tmp_path)
    encoder = TextEncoder(TextRules.of(settings), data.words)
    assert encoder.encode(["привет мир"])[0].tolist() == [UNK, UNK]
    spelled_text = encoder.spell("好看 мир")
    assert "".join(spelled_text.tokens) == "▁好看▁мир"
    assert spelled_text.ids.tolist() == encoder.encode(["好看 мир"])[0].tolist()
    assert spelled_text.ids[-1] == UNK


def test_preparing_again_gives_the_same_data(
    write_csv: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = config(write_csv, JAPANESE)
    first, second = (prepare(settings, cache_dir=tmp_path / name) for name in ("a", "b"))
    assert first.fingerprint == second.fingerprint
    assert list(first.words) == list(second.words)
    assert first.train.ids.tolist() == second.train.ids.tolist()
    name = fingerprint(settings, "00")
    monkeypatch.setattr("celltune.data_prep.preparation.pipeline.LEARNER_VERSION", 2)
    assert byte_pairs.LEARNER_VERSION == 1
    assert fingerprint(settings, "00") != name


def test_test_split_does_not_depend_on_how_it_is_prepared(
    write_csv: Callable[..., Path], tmp_path: Path
) -> None:
    settings = config(write_csv, JAPANESE)
    together: PreparedTest = prepare_test(settings, cache_dir=tmp_path / "a")
    data: PreparedData = prepare(settings, cache_dir=tmp_path / "b")
    alone = prepare_test(settings, cache_dir=tmp_path / "b")
    assert data.fingerprint == prepare(settings, cache_dir=tmp_path / "a").fingerprint
    assert alone.split.ids.tolist() == together.split.ids.tolist()


def test_error_for_too_rare_characters(write_csv: Callable[..., Path], tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no character occurs 1000 times .* Lower data.min_count"):
        prepare(config(write_csv, CHINESE, min_count=1000), cache_dir=tmp_path)
