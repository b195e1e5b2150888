"""Kernels of the LSTM. `tiles` explains the shapes and `launch` the arguments.

The blocks of the projection and of the weights are o, i, f, g. Saved are o, i, f, g after their
activations, and the cell state after the step.
"""

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
    sigmoid,
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
    """Compute all states and the saved values. `u` and `RELU` are not used."""
    d = tl.program_id(0)
    rows, columns = tl.arange(0, HEIGHT), tl.program_id(1) * WIDTH + tl.arange(0, WIDTH)
    inside = columns < batch * UNIT
    mask = (rows < size)[:, None] & inside[None, :]
    x_s, x_r, h_s, h_r, v_s, v_r = (
        x_s * UNIT, x_r * UNIT, h_s * UNIT, h_r * UNIT, v_s * UNIT, v_r * UNIT
    )  # fmt: skip
    x, h, w = at(x, d, x_d * UNIT), at(h, d, h_d * UNIT), at(w, d, w_d)
    v = at(v, d, v_d * UNIT)
    start, end = load_span(spans, d, steps, HAS_SPANS)
    clear_outside(h + h_s, start, end, steps, h_s, 1, size, h_r, rows, columns, mask)
    o_high, o_low, o_bias = gate_weights(w, 0, size, rows, MODE)
    i_high, i_low, i_bias = gate_weights(w, 1, size, rows, MODE)
    f_high, f_low, f_bias = gate_weights(w, 2, size, rows, MODE)
    g_high, g_low, g_bias = gate_weights(w, 3, size, rows, MODE)
    state = load_block(h, 0, size, h_r, rows, columns, mask & (start == 0))
    cell = tl.full((HEIGHT, WIDTH), 0, state.dtype)
    some, to = mask & (start < end), at(x, start, x_s)
    next_o = load_block(to, 0, size, x_r, rows, columns, some)
    next_i = load_block(to, 1, size, x_r, rows, columns, some)
    next_f = load_block(to, 2, size, x_r, rows, columns, some)
    next_g = load_block(to, 3, size, x_r, rows, columns, some)
    factor = load_row(at(h, start, h_s), size, h_r, columns, inside & (start < end))
    for s in range(start, end):
        o, i, f, g = (
            next_o + o_bias * factor, next_i + i_bias * factor,
            next_f + f_bias * factor, next_g + g_bias * factor,
        )  # fmt: skip
        more, to = mask & (s + 1 < end), at(x, s + 1, x_s)
        next_o = load_block(to, 0, size, x_r, rows, columns, more)
        next_i = load_block(to, 1, size, x_r, rows, columns, more)
        next_f = load_block(to, 2, size, x_r, rows, columns, more)
        next_g = load_block(to, 3, size, x_r, rows, columns, more)
        factor = load_row(at(h, s + 1, h_s), size, h_r, columns, inside & (s + 1 < end))
        i = sigmoid(product(i_high, i_low, state, i, MODE))
        g = tanh(product(g_high, g_low, state, g, MODE))
        f = sigmoid(product(f_high, f_low, state, f, MODE))
        o = sigmoid(product(o_high, o_low, state, o, MODE))
        cell = f * cell + i * g
        state = o * tanh(cell)
        store_block(at(h, s + 1, h_s), 0, size, h_r, rows, columns, mask, state)
        to = at(v, s, v_s)
        store_block(to, 0, size, v_r, rows, columns, mask, o)
        store_block(to, 1, size, v_r, rows, columns, mask, i)
        store_block(to, 2, size, v_r, rows, columns, mask, f)
        store_block(to, 3, size, v_r, rows, columns, mask, g)
        store_block(to, 4, size, v_r, rows, columns, mask, cell)


@triton.jit(do_not_specialize=INTEGERS)
def backward(
    g, g_d, g_s, g_r, h, h_d, h_s, h_r, v, v_d, v_s, v_r, out, out_d, out_s, out_r,
    w, w_d, u, u_d, spans, steps, size, batch,
    UNIT: tl.constexpr, HEIGHT: tl.constexpr, WIDTH: tl.constexpr, MODE: tl.constexpr,
    HAS_SPANS: tl.constexpr, RELU: tl.constexpr,
):  # fmt: skip
    """Compute the gradient of the projection. `h`, `u` and `RELU` are not used."""
    d = tl.program_id(0)
    rows, columns = tl.arange(0, HEIGHT), tl.program_id(1) * WIDTH + tl.arange(0, WIDTH)
    mask = (rows < size)[:, None] & (columns < batch * UNIT)[None, :]
    g_s, g_r, v_s, v_r, out_s, out_r = (
        g_s * UNIT, g_r * UNIT, v_s * UNIT, v_r * UNIT, out_s * UNIT, out_r * UNIT
    )  # fmt: skip
    g, v, out = at(g, d, g_d * UNIT), at(v, d, v_d * UNIT), at(out, d, out_d * UNIT)
    w = at(w, d, w_d)
    start, end = load_span(spans, d, steps, HAS_SPANS)
    clear_outside(out, start, end, steps, out_s, 4, size, out_r, rows, columns, mask)
    o_high, o_low = transposed_weights(w, 0, size, rows, MODE)
    i_high, i_low = transposed_weights(w, 1, size, rows, MODE)
    f_high, f_low = transposed_weights(w, 2, size, rows, MODE)
    g_high, g_low = transposed_weights(w, 3, size, rows, MODE)
    some, to = mask & (start < end), at(v, end - 1, v_s)
    carry = load_block(at(g, end - 1, g_s), 0, size, g_r, rows, columns, some)
    next_o = load_block(to, 0, size, v_r, rows, columns, some)
    next_i = load_block(to, 1, size, v_r, rows, columns, some)
    next_f = load_block(to, 2, size, v_r, rows, columns, some)
    next_g = load_block(to, 3, size, v_r, rows, columns, some)
    cell = load_block(to, 4, size, v_r, rows, columns, some)
    cell_carry = tl.full((HEIGHT, WIDTH), 0, carry.dtype)
    before = load_block(at(v, end - 2, v_s), 4, size, v_r, rows, columns, mask & (end - 1 > start))
    for index in range(end - start):
        s = end - 1 - index
        o, i, f, new, cell_before = next_o, next_i, next_f, next_g, before
        more, to = mask & (s > start), at(v, s - 1, v_s)
        next_grad = load_block(at(g, s - 1, g_s), 0, size, g_r, rows, columns, more)
        next_o = load_block(to, 0, size, v_r, rows, columns, more)
        next_i = load_block(to, 1, size, v_r, rows, columns, more)
        next_f = load_block(to, 2, size, v_r, rows, columns, more)
        next_g = load_block(to, 3, size, v_r, rows, columns, more)
        before = load_block(at(v, s - 2, v_s), 4, size, v_r, rows, columns, mask & (s - 1 > start))
        curved = tanh(cell)
        by_o = carry * curved * o * (1 - o)
        by_cell = cell_carry + carry * o * (1 - curved * curved)
        by_i = by_cell * new * i * (1 - i)
        by_f = by_cell * cell_before * f * (1 - f)
        by_g = by_cell * i * (1 - new * new)
        cell_carry, cell = by_cell * f, cell_before
        to = at(out, s, out_s)
        store_block(to, 0, size, out_r, rows, columns, mask, by_o)
        store_block(to, 1, size, out_r, rows, columns, mask, by_i)
        store_block(to, 2, size, out_r, rows, columns, mask, by_f)
        store_block(to, 3, size, out_r, rows, columns, mask, by_g)
        scale, inverse = column_scale(tl.maximum(tl.abs(carry), tl.abs(by_cell)), MODE)
        passed = tl.full((HEIGHT, WIDTH), 0, carry.dtype)
        passed = product(o_high, o_low, by_o * scale, passed, MODE)
        passed = product(i_high, i_low, by_i * scale, passed, MODE)
        passed = product(f_high, f_low, by_f * scale, passed, MODE)
        passed = product(g_high, g_low, by_g * scale, passed, MODE)
        carry = next_grad + passed * inverse
