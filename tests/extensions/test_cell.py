"""A package adds a cell as docs/extending/cell.md describes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from celltune.models.config import ModelConfig, TrainingConfig
from celltune.models.network.classifier import TextClassifier
from celltune.models.training import checkpoint
from celltune.models.training.trainer import Trainer
from celltune.search.config.space import Choice, model_and_training
from celltune.search.config.space_parsing import parse_space
from tests.extensions.page import example
from tests.models.random_data import make_data, make_split

EXAMPLE = example("cell")

exec(EXAMPLE.suite)  # noqa: S102 (defines TestCoupledLstm, the contract suite of the example)


@pytest.fixture(autouse=True, scope="module")
def _installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with EXAMPLE.installed(tmp_path_factory.mktemp("site")):
        yield


def make_trainer() -> Trainer:
    model = ModelConfig(
        cell="coupled_lstm",
        hidden_size=6,
        embedding_size=5,
        num_layers=2,
        bidirectional=True,
        dropout=0.1,
        readout="max",
    )
    data = make_data(make_split(60, 1), make_split(20, 2))
    return Trainer(model, TrainingConfig(batch_size=8, learning_rate=0.03), data, seed=1)


def test_config_selects_the_cell_by_name() -> None:
    with pytest.raises(ValueError, match=r"'coupled_lst' is not a cell. Did you mean 'coupled"):
        ModelConfig(cell="coupled_lst")
    classifier = TextClassifier(ModelConfig(cell="coupled_lstm"), 9, 2)
    assert type(classifier.recurrent.cell).__name__ == "CoupledLstm"


def test_search_space_accepts_the_cell() -> None:
    space = parse_space({"cell": ["coupled_lstm", "gru"], "hidden_size": 4})
    assert space.searched["cell"] == Choice(("coupled_lstm", "gru"))
    model, _ = model_and_training({"cell": "coupled_lstm", "hidden_size": 4})
    assert model.cell == "coupled_lstm"


def test_model_with_the_cell_learns_and_resumes_from_a_checkpoint(tmp_path: Path) -> None:
    trainer = make_trainer()
    losses = [trainer.run_epoch().train_loss for _ in range(6)]
    assert losses[-1] < losses[0]
    checkpoint.save(trainer.state(), tmp_path / "epoch-6")
    resumed = make_trainer()
    resumed.load_state(*checkpoint.load(tmp_path / "epoch-6"))
    assert resumed.run_epoch().train_loss == trainer.run_epoch().train_loss


def test_padding_does_not_change_a_prediction() -> None:
    model = make_trainer().model.eval()
    ids = torch.randint(2, 30, (9, 3), generator=torch.Generator().manual_seed(1))
    lengths = torch.tensor([9, 4, 1])
    together = model(ids, lengths)
    for b, length in enumerate(lengths.tolist()):
        alone = model(ids[:length, b : b + 1], lengths[b : b + 1])
        torch.testing.assert_close(together[b : b + 1], alone, rtol=0, atol=1e-5)
