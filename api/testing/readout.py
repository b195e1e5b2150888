"""The contract of readouts. Needs pytest."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

from celltune.models.config import ModelConfig, TrainingConfig
from celltune.models.extensions import READOUTS
from celltune.models.network.classifier import TextClassifier
from celltune.models.network.onnx_export import build_onnx
from celltune.models.network.readout import Readout
from celltune.models.training.trainer import Trainer
from celltune.testing.cell import VOCABULARY, assert_onnx_agrees, make_data

HIDDEN, LAYERS = 3, 3


class ReadoutContract:
    """Tests that every readout must pass. Subclass it and set `readout`.

    The readout must be registered under the name, as a built-in or by an installed package.
    """

    readout: ClassVar[str]
    """Registered name of the readout under test."""

    def make_config(self, **fields: Any) -> ModelConfig:
        """Create the config of a small model."""
        defaults: dict[str, Any] = {
            "cell": "gru",
            "hidden_size": HIDDEN,
            "embedding_size": 4,
            "num_layers": LAYERS,
            "bidirectional": True,
        }
        return ModelConfig(readout=self.readout, **{**defaults, **fields})

    def make_readout(self, **fields: Any) -> Readout:
        """Create the readout as a model does."""
        config, generator = self.make_config(**fields), torch.Generator().manual_seed(1)
        return READOUTS.load(self.readout)(config, generator)

    @pytest.mark.parametrize("bidirectional", [False, True])
    def test_returns_its_number_of_features(self, bidirectional: bool) -> None:
        readout = self.make_readout(bidirectional=bidirectional)
        lengths = torch.tensor([5, 1])
        features = readout(make_states(bidirectional), lengths, make_mask(lengths))
        assert features.shape == (2, readout.features)

    @pytest.mark.parametrize("bidirectional", [False, True])
    def test_features_do_not_depend_on_other_documents_or_padding(
        self, bidirectional: bool
    ) -> None:
        readout, layers = self.make_readout(bidirectional=bidirectional), make_states(bidirectional)
        lengths = torch.tensor([5, 2])
        mask = make_mask(lengths)
        padded = [states.masked_fill(~mask, torch.inf).requires_grad_() for states in layers]
        together = readout(padded, lengths, mask)
        for b, length in enumerate(lengths.tolist()):
            alone = [states[:length, :, b : b + 1] for states in layers]
            expected = readout(alone, lengths[b : b + 1], None)
            torch.testing.assert_close(together[b : b + 1], expected)
        together.pow(2).sum().backward()
        for states in padded:
            if states.grad is not None:
                assert not states.grad.masked_select(~mask).any()
                assert states.grad.isfinite().all()

    def test_initial_values_are_determined_by_the_seed(self) -> None:
        first, second = self.make_readout().state_dict(), self.make_readout().state_dict()
        assert first.keys() == second.keys()
        assert all(torch.equal(first[name], second[name]) for name in first)

    def test_resumed_training_equals_uninterrupted_training(self) -> None:
        uninterrupted, first, second = (self._make_trainer() for _ in range(3))
        for _ in range(2):
            expected = uninterrupted.train_epoch()
        first.train_epoch()
        second.load_state(*first.state())
        assert second.train_epoch() == expected

    def _make_trainer(self) -> Trainer:
        config = self.make_config(dropout=0.3)
        return Trainer(config, TrainingConfig(batch_size=8), make_data(), seed=1)

    def test_onnx_model_agrees_or_the_export_names_the_readout(self) -> None:
        pytest.importorskip("onnx", reason="needs celltune[onnx]")
        runtime = pytest.importorskip("onnxruntime", reason="needs celltune[onnx]")
        model = TextClassifier(self.make_config(), VOCABULARY, 3).eval()
        try:
            build_onnx(model)
        except ValueError as error:
            assert f"readout '{self.readout}' has no ONNX form" in str(error)  # noqa: PT017 (either result is allowed)
        else:
            assert_onnx_agrees(runtime, model)


def make_states(bidirectional: bool) -> list[Tensor]:
    """Return random states (5, S, 2) for each layer."""
    generator = torch.Generator().manual_seed(2)
    features = HIDDEN * (2 if bidirectional else 1)
    return [torch.randn(5, features, 2, generator=generator) for _ in range(LAYERS)]


def make_mask(lengths: Tensor) -> Tensor:
    """Return the mask of tokens (T, 1, B)."""
    return (torch.arange(int(lengths.max()))[:, None] < lengths)[:, None]
