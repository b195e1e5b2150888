from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from celltune.data_prep.config import DataConfig
from celltune.data_prep.dataset.tensorized import PreparedData
from celltune.data_prep.errors import DataError
from celltune.data_prep.preparation.pipeline import prepare
from celltune.search.baselines.linear import BASELINES, score_baseline
from celltune.search.baselines.validation import LabelsOfSplits, ValidationMeter
from tests.search.baselines.test_linear import make_texts


@pytest.fixture
def config(tmp_path: Path) -> DataConfig:
    documents = make_texts(150, 3, seed=1)
    path = tmp_path / "texts.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label"])
        writer.writerows(zip(documents.texts, documents.labels, strict=True))
    return DataConfig(source="csv", path=path, classes=("0", "1", "2"), valid_size=50, test_size=30)


@pytest.fixture
def data(config: DataConfig, tmp_path: Path) -> PreparedData:
    return prepare(config, cache_dir=tmp_path / "cache")


@pytest.mark.parametrize("name", BASELINES)
def test_the_scores_are_those_of_the_validation_split(
    name: str, config: DataConfig, data: PreparedData, tmp_path: Path
) -> None:
    meter = ValidationMeter(config, LabelsOfSplits.of(data), tmp_path)
    scores = meter.measure(name)
    train, valid = meter._splits
    assert (len(train.texts), len(valid.texts)) == (70, 50)
    expected = score_baseline(name, train, valid, 3).metrics
    assert scores.valid_accuracy == expected["test_accuracy"]
    assert scores.valid_macro_f1 == expected["test_f1"]
    assert 0 < scores.valid_balanced_accuracy <= 1
    assert scores.valid_auroc is None
    assert scores.valid_loss == expected.get("test_loss")
    assert scores.seconds > 0


def test_changed_documents_are_noticed(
    config: DataConfig, data: PreparedData, tmp_path: Path
) -> None:
    labels = LabelsOfSplits.of(data)
    others = replace(labels, valid=np.roll(labels.valid, 1))
    with pytest.raises(DataError, match=r"texts.csv: the documents changed while .* Restore the"):
        ValidationMeter(config, others, tmp_path).measure("nb_svm")
