"""A package adds a readout as docs/extending/readout.md describes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from celltune.models.config import ModelConfig, TrainingConfig
from celltune.models.network.classifier import TextClassifier
from celltune.models.training import checkpoint
from celltune.models.training.trainer import Trainer
from celltune.search.bundles.diagram import Diagram
from tests.extensions.page import example
from tests.models.random_data import make_data, make_split

EXAMPLE = example("readout")

exec(EXAMPLE.suite)  # noqa: S102 (defines TestFocus, the contract suite of the example)


@pytest.fixture(autouse=True, scope="module")
def _installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with EXAMPLE.installed(tmp_path_factory.mktemp("site")):
        yield


def make_trainer() -> Trainer:
    model = ModelConfig(cell="gru", hidden_size=6, embedding_size=5, readout="focus")
    data = make_data(make_split(60, 1), make_split(20, 2))
    return Trainer(model, TrainingConfig(batch_size=8, learning_rate=0.03), data, seed=1)


def test_config_selects_the_readout_by_name() -> None:
    with pytest.raises(ValueError, match=r"'focuss' is not a readout. Did you mean 'focus'"):
        ModelConfig(cell="gru", readout="focuss")


def test_readout_is_trained_and_stored_with_the_model(tmp_path: Path) -> None:
    trainer = make_trainer()
    before = trainer.model.readout.query.detach().clone()
    losses = [trainer.run_epoch().train_loss for _ in range(6)]
    assert losses[-1] < losses[0]
    assert not before.equal(trainer.model.readout.query)
    checkpoint.save(trainer.state(), tmp_path / "epoch-6")
    resumed = make_trainer()
    resumed.load_state(*checkpoint.load(tmp_path / "epoch-6"))
    assert resumed.run_epoch().train_loss == trainer.run_epoch().train_loss


def test_diagram_contains_the_weights_of_the_readout() -> None:
    config = ModelConfig(cell="gru", hidden_size=6, embedding_size=5, readout="focus")
    classifier = TextClassifier(config, 9, 2)
    boxes = [
        box
        for stage in Diagram(classifier, 5, title="", note="").stages()
        for box in stage.boxes
        if box.kind == "readout"
    ]
    assert [(box.description, box.num_weights) for box in boxes] == [
        ("mean, focused by a query", 6)
    ]
