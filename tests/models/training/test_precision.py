"""TF32 and 16-bit products."""

from __future__ import annotations

import pytest
import torch

from celltune.models.config import ModelConfig, Precision
from celltune.models.extensions import CELLS
from celltune.models.layers import tf32
from celltune.models.layers.tf32 import float32_products, products_in, set_float32_products
from celltune.models.network.classifier import TextClassifier
from celltune.models.training.precision import mixed_precision, tf32_products


@pytest.mark.parametrize("allowed", [False, True])
def test_tf32_setting_is_restored(allowed: bool) -> None:
    before = float32_products()
    try:
        set_float32_products(products_in(tf32=allowed))
        for precision, inside in (("float32", False), ("tf32", True), ("bfloat16", True)):
            with tf32_products(precision):
                assert float32_products() == products_in(tf32=inside)
            assert float32_products() == products_in(tf32=allowed)
    finally:
        set_float32_products(before)


def test_older_names_of_the_tf32_setting_can_be_read_after_an_epoch() -> None:
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32, cudnn.allow_tf32
    with tf32_products("tf32"):
        pass
    with tf32_products("float32"):
        pass
    assert (matmul.allow_tf32, cudnn.allow_tf32) == before


@pytest.mark.parametrize("by_name", [False, True])
def test_tf32_setting_of_older_pytorch_is_a_boolean(
    by_name: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tf32, "_BY_NAME", by_name)
    assert products_in(tf32=True) == (("tf32", "tf32") if by_name else (True, True))
    assert products_in(tf32=False) == (("ieee", "ieee") if by_name else (False, False))


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
