"""Functions that the kernels share: addresses, products in several precisions, activations.

Shapes: D leading axis (directions, or trials x directions), S steps, P rows of a projection,
H hidden, B batch. A program computes a tile: all rows of one gate of one step for a block of
columns, (HEIGHT, WIDTH). HEIGHT is H padded to a power of two; padded rows have zero weights and
zero inputs, so their states stay at zero.

Strides that are multiples of four are passed divided by `UNIT` = 4, because the compiler then knows
that a row starts at a multiple of 16 bytes, without a kernel for every single stride.
"""

from __future__ import annotations

import triton
import triton.language as tl

INTEGERS = (
    "x_d", "x_s", "x_r", "h_d", "h_s", "h_r", "v_d", "v_s", "v_r", "g_d", "g_s", "g_r",
    "out_d", "out_s", "out_r", "w_d", "u_d", "steps", "size", "batch",
)  # fmt: skip
"""Arguments of which the compiler must not know the values: they differ from batch to batch."""

MANTISSA_MASK = tl.constexpr(-8192)
"""Selects sign, exponent and the upper 10 bits of the mantissa of a float32: a TF32 number."""
HALF_TF32_STEP = tl.constexpr(4096)
LOW_FACTOR = tl.constexpr(2048.0)
"""2^11: what rounding to float16 cuts off is a normal float16 after this factor."""


@triton.jit
def sigmoid(x):
    """Compute 1 / (1 + exp(-x)) without overflow, so that +-1e4 gives exactly 1 and 0."""
    small = tl.exp(-tl.abs(x))
    upper = 1 / (1 + small)
    return tl.where(x >= 0, upper, small * upper)


@triton.jit
def tanh(x):
    """Compute the hyperbolic tangent without overflow."""
    small = tl.exp(-2 * tl.abs(x))
    size = (1 - small) / (1 + small)
    return tl.where(x >= 0, size, -size)


@triton.jit
def high_part(values, MODE: tl.constexpr):
    """Return the values as the first operand of a product: rounded for TF32, else unchanged."""
    if MODE == "tf32":
        bits = values.to(tl.int32, bitcast=True) + HALF_TF32_STEP
        rounded = (bits & MANTISSA_MASK).to(tl.float32, bitcast=True)
        # Rounding the bits of a NaN could turn it into a number.
        high = tl.where(values == values, rounded, values)
    elif MODE == "tf32x3":
        bits = values.to(tl.int32, bitcast=True)
        high = (bits & MANTISSA_MASK).to(tl.float32, bitcast=True)
    elif MODE == "float16" or MODE == "float16x3":
        high = values.to(tl.float16)
    else:
        high = values
    return high


@triton.jit
def low_part(values, high, MODE: tl.constexpr):
    """Return what `high_part` cut off; only the modes with three products read it."""
    if MODE == "tf32x3":
        low = values - high
    elif MODE == "float16x3":
        low = ((values - high.to(tl.float32)) * LOW_FACTOR).to(tl.float16)
    else:
        low = high
    return low


@triton.jit
def product(high, low, values, total, MODE: tl.constexpr):
    """Return `total` plus the product of a weight, given in two parts, and values.

    tf32x3 and float16x3 add three products of parts; the fourth, low times low, is below the
    precision of float32 (Ootomo & Yokota 2022).
    """
    if MODE == "ieee":
        total = tl.dot(high, values, total, input_precision="ieee", out_dtype=total.dtype)
    elif MODE == "float16":
        total = tl.dot(high, high_part(values, MODE), total)
    elif MODE == "float16x3":
        upper = high_part(values, MODE)
        rest = tl.dot(low, upper)
        rest = tl.dot(high, low_part(values, upper, MODE), rest)
        total = tl.dot(high, upper, total) + rest * (1 / LOW_FACTOR)
    else:
        upper = high_part(values, MODE)
        if MODE == "tf32x3":
            total = tl.dot(low, upper, total, input_precision="tf32")
            total = tl.dot(high, low_part(values, upper, MODE), total, input_precision="tf32")
        total = tl.dot(high, upper, total, input_precision="tf32")
    return total


@triton.jit
def _larger(left, right):
    return tl.maximum(left, right)


@triton.jit
def column_scale(values, MODE: tl.constexpr):
    """Return powers of two that bring gradients into the range of float16, and their inverses.

    The largest value of each column of `values` gets a magnitude between 1 and 2. Gradients can be
    far below the smallest float16; states and weights are not.
    """
    if MODE == "float16" or MODE == "float16x3":
        exponent = tl.reduce(tl.abs(values), 0, _larger).to(tl.int32, bitcast=True) >> 23
        # Zero and subnormal columns, and infinity, have exponents whose inverse does not exist.
        exponent = tl.minimum(tl.maximum(exponent, 1), 253)
        scale = ((254 - exponent) << 23).to(tl.float32, bitcast=True)[None, :]
        inverse = (exponent << 23).to(tl.float32, bitcast=True)[None, :]
    else:
        scale = 1.0
        inverse = 1.0
    return scale, inverse


@triton.jit
def gate_weights(weight, block, size, rows, MODE: tl.constexpr):
    """Load the block of a gate from (R, H + 1) weights.

    Returns:
        Two parts (output row, input row), and the bias (output row, 1), the last column.
    """
    inside, first = rows < size, (block * size + rows) * (size + 1)
    mask = inside[:, None] & inside[None, :]
    values = tl.load(weight + first[:, None] + rows[None, :], mask=mask, other=0)
    bias = tl.load(weight + first + size, mask=inside, other=0)[:, None]
    high = high_part(values, MODE)
    return high, low_part(values, high, MODE), bias


@triton.jit
def transposed_weights(weight, block, size, rows, MODE: tl.constexpr):
    """Load the block of a gate from (R, H + 1) weights, in two parts (input row, output row)."""
    inside, first = rows < size, (block * size + rows) * (size + 1)
    mask = inside[:, None] & inside[None, :]
    values = tl.load(weight + first[None, :] + rows[:, None], mask=mask, other=0)
    high = high_part(values, MODE)
    return high, low_part(values, high, MODE)


@triton.jit
def at(base, index, stride):
    """Return the address of an element of an axis; the offset has 64 bits."""
    return base + tl.full((), 1, tl.int64) * index * stride


@triton.jit
def load_block(base, block, size, stride, rows, columns, mask):
    """Load a block of rows of one step, (HEIGHT, WIDTH); zero where masked."""
    offsets = (block * size + rows)[:, None] * stride + columns[None, :]
    return tl.load(base + offsets, mask=mask, other=0)


@triton.jit
def store_block(base, block, size, stride, rows, columns, mask, values):
    """Store a block of rows of one step."""
    offsets = (block * size + rows)[:, None] * stride + columns[None, :]
    tl.store(base + offsets, values, mask=mask)


@triton.jit
def load_row(base, row, stride, columns, mask):
    """Load one row of one step, (1, WIDTH)."""
    return tl.load(base + row * stride + columns, mask=mask, other=0)[None, :]


@triton.jit
def load_span(spans, leading, steps, HAS_SPANS: tl.constexpr):
    """Return the first step and the end of the steps to compute."""
    if HAS_SPANS:
        start = tl.load(spans + 2 * leading)
        end = tl.load(spans + 2 * leading + 1)
    else:
        start = steps * 0
        end = steps
    return start, end


@triton.jit
def clear_outside(base, start, end, steps, step_stride, blocks, size, stride, rows, columns, mask):
    """Write zeros to the blocks of rows of all steps before `start` and from `end` on."""
    zeros = tl.full((rows.shape[0], columns.shape[0]), 0, base.dtype.element_ty)
    for index in range(steps - end + start):
        step = tl.where(index < start, index, index - start + end)
        for block in range(blocks):
            to = at(base, step, step_stride)
            store_block(to, block, size, stride, rows, columns, mask, zeros)
