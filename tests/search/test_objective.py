from __future__ import annotations

from pathlib import Path

import pytest

from celltune.data_prep.config import DataConfig
from celltune.data_prep.preparation.pipeline import prepare
from celltune.models.training.metrics import Predictions
from celltune.registry import ExtensionError
from celltune.search.objective import objective_metric, sign
from celltune.search.tuning.trial import make_trainer
from celltune.testing.metric import MetricContract


class TestAccuracy(MetricContract):
    metric = "valid_accuracy"


class TestLoss(MetricContract):
    metric = "valid_loss"


@pytest.mark.parametrize("classes", [2, 3])
def test_definitions_agree_with_the_trainer(classes: int, tmp_path: Path) -> None:
    path = tmp_path / "documents.csv"
    names = tuple(f"class {label}" for label in range(classes))
    rows = [f"word{index % 7},{names[index % classes]}" for index in range(60)]
    path.write_text("\n".join(["text,label", *rows]))
    config = DataConfig(source="csv", path=path, classes=names)
    prepared = prepare(config, cache_dir=tmp_path / "cache")
    trainer = make_trainer({"cell": "gru", "hidden_size": 4}, prepared, seed=1, device="cpu")
    predictions = Predictions()
    metrics = trainer.run_epoch(predictions)
    arrays = predictions.arrays()
    assert arrays[1].shape == (len(prepared.valid), classes)
    for name in ("valid_accuracy", "valid_loss"):
        computed = objective_metric(name).compute(*arrays)
        assert computed == pytest.approx(getattr(metrics, name), rel=1e-5)


def test_unknown_metrics_are_rejected() -> None:
    assert (sign("valid_accuracy"), sign("valid_loss")) == (1, -1)
    with pytest.raises(ExtensionError, match="'valid_f1' is not a metric"):
        sign("valid_f1")
