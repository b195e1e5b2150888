"""Products over all positions of a batch, split into parts as on a GPU."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from celltune.models.layers import loop_layer
from celltune.models.layers.loop_layer import MOST_SPLIT_PRODUCTS, long_product, outer_sum


class Products(TorchDispatchMode):
    """Records the shapes of matrix products, and operations that copy."""

    def __init__(self) -> None:
        super().__init__()
        self.shapes: list[tuple[int, ...]] = []
        self.copies: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        if "bmm" in str(func):
            self.shapes.append(tuple(args[0].shape))
        if any(name in str(func) for name in ("clone", "copy", "contiguous")):
            self.copies.append(str(func))
        return func(*args, **(kwargs or {}))


def random(*shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(5)).to(dtype)


@settings(deadline=None)
@given(
    count=st.integers(1, MOST_SPLIT_PRODUCTS + 1),
    steps=st.integers(0, 40),
    batch=st.integers(0, 40),
)
def test_equals_one_product(count: int, steps: int, batch: int) -> None:
    left, right = random(count, 3, steps * batch), random(count, 2, steps * batch).transpose(1, 2)
    torch.testing.assert_close(long_product(left, right), left @ right, rtol=0, atol=1e-11)


@pytest.mark.parametrize(
    ("count", "length", "shapes"),
    [
        (2, 256 * 64, [(64, 3, 256)] * 2),  # both directions of a trial
        (1, 351 * 64, [(54, 3, 416)]),  # 351 steps = 3^3 * 13
        (1, 1000, [(5, 3, 200)]),
        (1, 1009, [(1, 3, 1009)]),  # a prime number
        (1, 128, [(1, 3, 128)]),
        (9, 256 * 64, [(9, 3, 256 * 64)]),
    ],
)
def test_the_inner_axis_is_split_into_equal_parts_if_there_are_few_products(
    count: int, length: int, shapes: list[tuple[int, ...]]
) -> None:
    with Products() as products:
        long_product(random(count, 3, length), random(count, length, 2))
    assert products.shapes == shapes


def test_rounding_is_not_larger_than_in_one_product() -> None:
    left, right = random(2, 24, 8192), random(2, 8192, 9)
    exact = left @ right
    errors = [
        (result.double() - exact).abs().max().item()
        for result in (long_product(left.float(), right.float()), left.float() @ right.float())
    ]
    assert errors[0] <= 2 * errors[1]


def test_gradients_of_weights_are_products_of_views(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop_layer, "one_product_is_faster", lambda _: True)
    # The memory that the persistent kernels and the layer allocate on a GPU.
    result = random(2, 12, 64, 32).transpose(1, 2)  # (D, S, R, B)
    hidden = random(2, 5, 65, 32).transpose(1, 2)  # (D, S + 1, H + 1, B)
    with Products() as products:
        ours = outer_sum(result[:, :, 3:], hidden[:, :-1])
    assert products.shapes == [(16, 9, 128)] * 2
    assert not products.copies
    expected = torch.einsum("dsrb,dskb->drk", result[:, :, 3:], hidden[:, :-1])
    torch.testing.assert_close(ours, expected, rtol=0, atol=1e-11)
