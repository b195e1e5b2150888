"""A package adds a tokenizer as docs/extending/tokenizer.md describes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from celltune.data_prep.config import DataConfig
from celltune.data_prep.errors import DataError
from celltune.data_prep.preparation.pipeline import prepare
from celltune.data_prep.text.encoder import TextEncoder, TextRules
from celltune.data_prep.text.tokenizers import open_tokenizer, tokenizer_version
from celltune.models.config import ModelConfig
from celltune.models.network.classifier import TextClassifier
from celltune.models.network.trained import network_of
from celltune.search.bundles.bundle import write_bundle
from celltune.search.bundles.bundle_config import BundleConfig
from celltune.search.bundles.bundle_reading import load_bundle
from celltune.search.bundles.predictor import TrainedModel
from tests.api.extension import installed

PAGE = (Path(__file__).parents[2] / "docs" / "extending" / "tokenizer.md").read_text("utf-8")
MODULE, SUITE = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
ENTRY_POINT = re.search(r'entry-points\."(.*?)"\]\n(\w+) = "(.*?)"', PAGE)

exec(SUITE)  # noqa: S102 - defines TestHashtags, the contract suite of the page's example


@pytest.fixture(autouse=True, scope="module")
def _hashtags(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    assert ENTRY_POINT is not None
    group, name, reference = ENTRY_POINT.groups()
    folder = tmp_path_factory.mktemp("site")
    with installed(folder, "hashtags", {group: {name: reference}}, MODULE):
        yield


def config(**settings: object) -> DataConfig:
    return DataConfig.model_validate({"source": "synthetic", "reviews": 40, **settings})


def test_config_selects_the_tokenizer_by_name() -> None:
    assert config(tokenizer="hashtags").tokenizer == "hashtags"
    assert open_tokenizer("hashtags")("#Go, @you!") == ["#go", ",", "@you", "!"]
    with pytest.raises(ValueError, match=r"'hashtag' is not a tokenizer.*hashtags"):
        config(tokenizer="hashtag")


def test_config_rejects_lowercase_false_for_a_tokenizer_that_always_lowercases() -> None:
    with pytest.raises(ValueError, match="The tokenizer 'hashtags' always lower-cases text"):
        config(tokenizer="hashtags", lowercase=False)


def test_fingerprint_changes_with_the_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = prepare(config(tokenizer="hashtags"), cache_dir=tmp_path)
    monkeypatch.setattr("hashtags.Hashtags.version", "hashtags 2")
    second = prepare(config(tokenizer="hashtags"), cache_dir=tmp_path)
    assert first.fingerprint != second.fingerprint


def test_model_rejects_another_version_than_at_training_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rules = TextRules.of(config(tokenizer="hashtags"))
    stored = TextRules.model_validate(rules.model_dump(mode="json"))
    assert stored.tokenizer_version == "hashtags 1"
    encoder = TextEncoder(stored, ("<unk>", "<pad>", "#go", ","))
    assert encoder.encode(["#GO, #stop"])[0].tolist() == [2, 3, 0]
    monkeypatch.setattr("hashtags.Hashtags.version", "hashtags 2")
    with pytest.raises(DataError, match=r"with version 'hashtags 1' .* 'hashtags 2' is"):
        TextEncoder(stored, ("<unk>", "<pad>"))


def test_bundle_predicts_with_the_tokenizer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = prepare(config(tokenizer="hashtags"), cache_dir=tmp_path / "cache")
    model, rules = (
        ModelConfig(cell="gru", hidden_size=4),
        TextRules.of(config(tokenizer="hashtags")),
    )
    classifier = TextClassifier(model, data.vocabulary_size, data.num_classes)
    bundle = BundleConfig(model=model, text=rules, classes=data.classes)
    write_bundle(tmp_path / "bundle", bundle, data.words, classifier.state_dict(), {})
    texts = ["A film, #really!", " ".join(data.words[2:9]).upper()]
    expected = TrainedModel(network_of(classifier), TextEncoder(rules, data.words), data.classes)
    assert load_bundle(tmp_path / "bundle").predict(texts) == expected.predict(texts)
    monkeypatch.setattr("hashtags.Hashtags.version", "hashtags 2")
    with pytest.raises(DataError, match="'hashtags 2' is installed"):
        load_bundle(tmp_path / "bundle")


def test_words_are_split_into_subwords_if_the_tokenizer_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = prepare(config(tokenizer="hashtags"), cache_dir=tmp_path / "words")
    monkeypatch.setattr("hashtags.Hashtags.subwords", True)
    settings = config(tokenizer="hashtags", vocabulary_size=60)
    data = prepare(settings, cache_dir=tmp_path / "subwords")
    assert data.fingerprint != words.fingerprint
    spelled = TextEncoder(TextRules.of(settings), data.words).spell("#filming")
    assert "".join(spelled.tokens) == "#filming"
    assert len(spelled.tokens) > 1
    texts = [
        "".join(split.words[index] for index in split.valid.ids[: split.valid.offsets[1]])
        for split in (words, data)
    ]
    assert texts[0] == texts[1]


def test_tokenizer_without_a_version_is_rejected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hashtags.Hashtags.version", "")
    with pytest.raises(DataError, match=r"'hashtags' has the version ''\. It has"):
        tokenizer_version("hashtags")


def test_empty_token_is_rejected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hashtags.Hashtags.__call__", lambda _, text: text.split(" "))
    monkeypatch.setattr("hashtags.Hashtags.version", "hashtags 3")
    path = tmp_path / "documents.csv"
    path.write_text("text,label\n" + "two  spaces,1\none space,0\n" * 10)
    documents = config(source="csv", path=path, reviews=None, tokenizer="hashtags")
    with pytest.raises(DataError, match="The tokenizer 'hashtags' returned an empty token"):
        prepare(documents, cache_dir=tmp_path)


def test_implementation_that_is_not_a_tokenizer_is_rejected(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("hashtags.Hashtags", str.split)
    with pytest.raises(DataError, match=r"'hashtags' is .*, which is not a subclass of Tokenizer"):
        open_tokenizer("hashtags")
