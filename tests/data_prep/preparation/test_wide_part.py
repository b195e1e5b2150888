from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from celltune.data_prep.config import DataConfig
from celltune.data_prep.preparation import pipeline, wide_part
from celltune.data_prep.preparation.pipeline import prepare, prepare_test, read_documents
from celltune.data_prep.wide.fit import LabelledTexts, WideFitter
from celltune.data_prep.wide_config import WideConfig
from tests.data_prep.wide.reference import corpus

WriteCsv = Callable[..., Path]


@pytest.fixture
def config(write_csv: WriteCsv) -> DataConfig:
    texts, labels = corpus(60, 2, 1)
    path = write_csv(zip(texts, labels.tolist(), strict=True))
    return DataConfig(source="csv", path=path, valid_size=20, test_size=10, wide=WideConfig())


def test_prepared_data_contains_the_outputs_of_the_wide_part(
    config: DataConfig, tmp_path: Path
) -> None:
    reports: list[tuple[str, int, int | None]] = []
    data = prepare(config, cache_dir=tmp_path, progress=lambda *report: reports.append(report))
    documents = read_documents(config)
    assert data.wide is not None
    logits = data.wide.logits([document.text for document in documents.valid])
    assert data.valid.wide is not None
    assert data.valid.wide.tolist() == logits.tolist()
    assert data.train.wide is not None
    own = data.wide.logits([document.text for document in documents.train])
    assert data.train.wide.shape == own.shape
    # The model knows its own training documents, but not those that were held out.
    margins = [
        (outputs[:, 0] * (2 * data.train.labels - 1)).mean() for outputs in (own, data.train.wide)
    ]
    assert margins[0] > margins[1]
    assert ("wide", 18, 18) in reports
    info = data.info["wide"]
    assert isinstance(info, dict)
    assert info["penalty"] in WideConfig().penalties
    assert {"features", "words", "characters", "valid_loss", "valid_accuracy", "seconds"} <= set(
        info
    )
    cached = prepare(config, cache_dir=tmp_path, progress=lambda *_: pytest.fail("prepared again"))
    assert cached.wide is not None
    assert cached.wide.logits(["good film"]).tolist() == data.wide.logits(["good film"]).tolist()
    assert cached.info == data.info


def test_data_without_the_key_has_no_wide_part(config: DataConfig, tmp_path: Path) -> None:
    plain = config.model_copy(update={"wide": None})
    data, test = prepare(plain, cache_dir=tmp_path), prepare_test(plain, cache_dir=tmp_path)
    arrays = (data.wide, data.train.wide, data.valid.wide, test.split.wide, test.wide_train_valid)
    assert arrays == (None,) * 5
    assert "wide" not in data.info
    assert not list(tmp_path.rglob("*wide*"))


@pytest.mark.parametrize("is_prepared", [False, True])
def test_test_split_has_the_outputs_of_both_models(
    config: DataConfig, tmp_path: Path, is_prepared: bool
) -> None:
    if is_prepared:
        prepare(config, cache_dir=tmp_path)
    test, data = prepare_test(config, cache_dir=tmp_path), prepare(config, cache_dir=tmp_path)
    documents = read_documents(config)
    texts = [document.text for document in documents.test]
    assert data.wide is not None
    assert test.split.wide is not None
    assert test.split.wide.tolist() == data.wide.logits(texts).tolist()
    both = [*documents.train, *documents.valid]
    joined = LabelledTexts(
        [document.text for document in both],
        np.array([document.label for document in both]),
        [None] * len(both),
    )
    info: Any = data.info["wide"]
    refitted = WideFitter(WideConfig(), 2, config.seed).refit(joined, info["penalty"])
    assert test.wide_train_valid is not None
    assert test.wide_train_valid.tolist() == refitted.logits(texts).tolist()


def test_groups_of_the_config_are_not_divided(
    write_csv: WriteCsv, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts, labels = corpus(60, 2, 1)
    rows = [
        (text, label, f"g{i // 4}")
        for i, (text, label) in enumerate(zip(texts, labels, strict=True))
    ]
    path = write_csv(rows, header=("text", "label", "film"))
    given: list[set[str | None]] = []

    class Recorder(WideFitter):
        def fit(self, train: LabelledTexts, *others: Any) -> Any:
            given.append(set(train.groups))
            return super().fit(train, *others)

    monkeypatch.setattr(wide_part, "WideFitter", Recorder)
    fields: dict[str, Any] = {"source": "csv", "path": path, "valid_size": 20, "wide": {"folds": 2}}
    prepare(DataConfig(**fields, group_column="film"), cache_dir=tmp_path)
    prepare(DataConfig(**fields), cache_dir=tmp_path)
    assert None not in given[0]
    assert given[1] == {None}


def test_the_version_of_the_algorithm_changes_the_fingerprint(
    config: DataConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = pipeline.fingerprint(config, "00")
    monkeypatch.setattr(pipeline, "WIDE_VERSION", pipeline.WIDE_VERSION + 1)
    assert pipeline.fingerprint(config, "00") != before


def test_a_test_split_needs_data_with_a_wide_part(config: DataConfig, tmp_path: Path) -> None:
    plain = config.model_copy(update={"wide": None})
    data, test = prepare(plain, cache_dir=tmp_path), prepare_test(plain, cache_dir=tmp_path)
    part = wide_part.WidePart(config, WideConfig(), 2, None)
    with pytest.raises(ValueError, match=f"The data {data.fingerprint} have no wide part"):
        part.add_test(test, data, read_documents(plain))
