"""Kernels of the simple RNN. `tiles` explains the shapes and `launch` the arguments."""

from __future__ import annotations

import triton
import triton.language as tl

from celltune.models.layers.persistent.tiles import (
    INTEGERS,
    at,
    clear_outside,
    column_scale,
    gate_weights,
    load_block,
    load_row,
    load_span,
    product,
    store_block,
    tanh,
    transposed_weights,
)


@triton.jit(do_not_specialize=INTEGERS)
def forward(
    x, x_d, x_s, x_r, h, h_d, h_s, h_r, v, v_d, v_s, v_r, w, w_d, u, u_d,
    spans, steps, size, batch,
    UNIT: tl.constexpr, HEIGHT: tl.constexpr, WIDTH: tl.constexpr, MODE: tl.constexpr,
    HAS_SPANS: tl.constexpr, RELU: tl.constexpr,
):  # fmt: skip
    """Compute all states. `v` and `u` are not used."""
    d = tl.program_id(0)
    rows, columns = tl.arange(0, HEIGHT), tl.program_id(1) * WIDTH + tl.arange(0, WIDTH)
    inside = columns < batch * UNIT
    mask = (rows < size)[:, None] & inside[None, :]
    x_s, x_r, h_s, h_r = x_s * UNIT, x_r * UNIT, h_s * UNIT, h_r * UNIT
    x, h, w = at(x, d, x_d * UNIT), at(h, d, h_d * UNIT), at(w, d, w_d)
    start, end = load_span(spans, d, steps, HAS_SPANS)
    clear_outside(h + h_s, start, end, steps, h_s, 1, size, h_r, rows, columns, mask)
    high, low, bias = gate_weights(w, 0, size, rows, MODE)
    state = load_block(h, 0, size, h_r, rows, columns, mask & (start == 0))
    next_x = load_block(at(x, start, x_s), 0, size, x_r, rows, columns, mask & (start < end))
    factor = load_row(at(h, start, h_s), size, h_r, columns, inside & (start < end))
    for s in range(start, end):
        total = next_x + bias * factor
        more = s + 1 < end
        next_x = load_block(at(x, s + 1, x_s), 0, size, x_r, rows, columns, mask & more)
        factor = load_row(at(h, s + 1, h_s), size, h_r, columns, inside & more)
        total = product(high, low, state, total, MODE)
        if RELU:
            # Unlike tl.maximum, the comparison passes NaN on.
            state = tl.where(total < 0, 0, total)
        else:
            state = tanh(total)
        store_block(at(h, s + 1, h_s), 0, size, h_r, rows, columns, mask, state)


@triton.jit(do_not_specialize=INTEGERS)
def backward(
    g, g_d, g_s, g_r, h, h_d, h_s, h_r, v, v_d, v_s, v_r, out, out_d, out_s, out_r,
    w, w_d, u, u_d, spans, steps, size, batch,
    UNIT: tl.constexpr, HEIGHT: tl.constexpr, WIDTH: tl.constexpr, MODE: tl.constexpr,
    HAS_SPANS: tl.constexpr, RELU: tl.constexpr,
):  # fmt: skip
    """Compute the gradient of the projection. `v` and `u` are not used."""
    d = tl.program_id(0)
    rows, columns = tl.arange(0, HEIGHT), tl.program_id(1) * WIDTH + tl.arange(0, WIDTH)
    mask = (rows < size)[:, None] & (columns < batch * UNIT)[None, :]
    g_s, g_r, h_s, h_r = g_s * UNIT, g_r * UNIT, h_s * UNIT, h_r * UNIT
    out_s, out_r = out_s * UNIT, out_r * UNIT
    g, h, out = at(g, d, g_d * UNIT), at(h, d, h_d * UNIT), at(out, d, out_d * UNIT)
    start, end = load_span(spans, d, steps, HAS_SPANS)
    clear_outside(out, start, end, steps, out_s, 1, size, out_r, rows, columns, mask)
    high, low = transposed_weights(at(w, d, w_d), 0, size, rows, MODE)
    some = mask & (start < end)
    carry = load_block(at(g, end - 1, g_s), 0, size, g_r, rows, columns, some)
    next_state = load_block(at(h, end, h_s), 0, size, h_r, rows, columns, some)
    for index in range(end - start):
        s = end - 1 - index
        state = next_state
        more = mask & (s > start)
        next_grad = load_block(at(g, s - 1, g_s), 0, size, g_r, rows, columns, more)
        next_state = load_block(at(h, s, h_s), 0, size, h_r, rows, columns, more)
        if RELU:
            grad = tl.where(state > 0, carry, 0)
        else:
            grad = carry * (1 - state * state)
        store_block(at(out, s, out_s), 0, size, out_r, rows, columns, mask, grad)
        scale, inverse = column_scale(grad, MODE)
        passed = product(high, low, grad * scale, tl.full((HEIGHT, WIDTH), 0, grad.dtype), MODE)
        carry = next_grad + passed * inverse
