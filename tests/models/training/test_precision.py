from __future__ import annotations

import pytest
import torch

from celltune.models.config import ModelConfig, Precision
from celltune.models.layers.cells import CELLS
from celltune.models.network.classifier import TextClassifier
from celltune.models.training.precision import mixed, tensor_cores


@pytest.mark.parametrize("allowed", [False, True])
def test_tensor_cores_are_as_before_afterwards(allowed: bool) -> None:
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32, cudnn.allow_tf32
    try:
        matmul.allow_tf32 = cudnn.allow_tf32 = allowed
        for precision, inside in (("float32", False), ("tf32", True), ("bfloat16", True)):
            with tensor_cores(precision):
                assert (matmul.allow_tf32, cudnn.allow_tf32) == (inside, inside)
            assert (matmul.allow_tf32, cudnn.allow_tf32) == (allowed, allowed)
    finally:
        matmul.allow_tf32, cudnn.allow_tf32 = before


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
@pytest.mark.parametrize("cell", CELLS)
def test_mixed_logits_are_float32_and_near_the_exact_ones(cell: str, precision: Precision) -> None:
    config = ModelConfig(cell=cell, hidden_size=5, embedding_size=4, num_layers=2)
    model = TextClassifier(config, 20, 2)
    ids, lengths = torch.randint(2, 20, (6, 3)), torch.tensor([6, 4, 6])
    exact = model(ids, lengths)
    with mixed(precision, "cpu"):
        logits = model(ids, lengths)
    assert logits.dtype == torch.float32
    torch.testing.assert_close(logits, exact, rtol=0, atol=0.02)
    logits.sum().backward()
    assert all(values.grad.dtype == torch.float32 for values in model.parameters())


def test_other_precisions_change_no_type() -> None:
    with mixed("tf32", "cpu"):
        assert torch.mm(torch.ones(2, 2), torch.ones(2, 2)).dtype == torch.float32
