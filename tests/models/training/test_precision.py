"""TF32 and 16-bit products."""

from __future__ import annotations

import pytest
import torch

from celltune.models.config import ModelConfig, Precision
from celltune.models.extensions import CELLS
from celltune.models.network.classifier import TextClassifier
from celltune.models.training.precision import mixed_precision, tf32_products


@pytest.mark.parametrize("allowed", [False, True])
def test_tf32_setting_is_restored(allowed: bool) -> None:
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32, cudnn.allow_tf32
    try:
        matmul.allow_tf32 = cudnn.allow_tf32 = allowed
        for precision, inside in (("float32", False), ("tf32", True), ("bfloat16", True)):
            with tf32_products(precision):
                assert (matmul.allow_tf32, cudnn.allow_tf32) == (inside, inside)
            assert (matmul.allow_tf32, cudnn.allow_tf32) == (allowed, allowed)
    finally:
        matmul.allow_tf32, cudnn.allow_tf32 = before


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
@pytest.mark.parametrize("cell", CELLS.names())
def test_mixed_precision_logits_are_float32_and_close_to_exact_ones(
    cell: str, precision: Precision
) -> None:
    config = ModelConfig(cell=cell, hidden_size=5, embedding_size=4, num_layers=2)
    model = TextClassifier(config, 20, 2)
    ids, lengths = torch.randint(2, 20, (6, 3)), torch.tensor([6, 4, 6])
    exact = model(ids, lengths)
    with mixed_precision(precision, "cpu"):
        logits = model(ids, lengths)
    assert logits.dtype == torch.float32
    torch.testing.assert_close(logits, exact, rtol=0, atol=0.02)
    logits.sum().backward()
    assert all(values.grad.dtype == torch.float32 for values in model.parameters())


def test_tf32_does_not_change_types() -> None:
    with mixed_precision("tf32", "cpu"):
        assert torch.mm(torch.ones(2, 2), torch.ones(2, 2)).dtype == torch.float32
