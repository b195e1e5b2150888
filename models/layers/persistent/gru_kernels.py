"""Kernels of the GRU with the reset gate after the product, `q = U_n h + b_hn`.

`tiles` explains the shapes and `launch` the arguments. The blocks of the projection are n, r, z,
those of the weights r, z, q. Saved are n, r, z after their activations, and q. The blocks of the
gradient are n, r, z, q: the projection has the first three, the product the last three.
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
    r_high, r_low, r_bias = gate_weights(w, 0, size, rows, MODE)
    z_high, z_low, z_bias = gate_weights(w, 1, size, rows, MODE)
    q_high, q_low, q_bias = gate_weights(w, 2, size, rows, MODE)
    state = load_block(h, 0, size, h_r, rows, columns, mask & (start == 0))
    some, to = mask & (start < end), at(x, start, x_s)
    next_n = load_block(to, 0, size, x_r, rows, columns, some)
    next_r = load_block(to, 1, size, x_r, rows, columns, some)
    next_z = load_block(to, 2, size, x_r, rows, columns, some)
    factor = load_row(at(h, start, h_s), size, h_r, columns, inside & (start < end))
    for s in range(start, end):
        n, r, z = next_n, next_r + r_bias * factor, next_z + z_bias * factor
        q = tl.full((HEIGHT, WIDTH), 0, n.dtype) + q_bias * factor
        more, to = mask & (s + 1 < end), at(x, s + 1, x_s)
        next_n = load_block(to, 0, size, x_r, rows, columns, more)
        next_r = load_block(to, 1, size, x_r, rows, columns, more)
        next_z = load_block(to, 2, size, x_r, rows, columns, more)
        factor = load_row(at(h, s + 1, h_s), size, h_r, columns, inside & (s + 1 < end))
        r = sigmoid(product(r_high, r_low, state, r, MODE))
        q = product(q_high, q_low, state, q, MODE)
        z = sigmoid(product(z_high, z_low, state, z, MODE))
        n = tanh(n + r * q)
        # Exact for z = 1, which keeps the state at zero in leading padding.
        state = z * state + (1 - z) * n
        store_block(at(h, s + 1, h_s), 0, size, h_r, rows, columns, mask, state)
        to = at(v, s, v_s)
        store_block(to, 0, size, v_r, rows, columns, mask, n)
        store_block(to, 1, size, v_r, rows, columns, mask, r)
        store_block(to, 2, size, v_r, rows, columns, mask, z)
        store_block(to, 3, size, v_r, rows, columns, mask, q)


@triton.jit(do_not_specialize=INTEGERS)
def backward(
    g, g_d, g_s, g_r, h, h_d, h_s, h_r, v, v_d, v_s, v_r, out, out_d, out_s, out_r,
    w, w_d, u, u_d, spans, steps, size, batch,
    UNIT: tl.constexpr, HEIGHT: tl.constexpr, WIDTH: tl.constexpr, MODE: tl.constexpr,
    HAS_SPANS: tl.constexpr, RELU: tl.constexpr,
):  # fmt: skip
    """Compute the gradients of the projection and of q. `u` and `RELU` are not used."""
    d = tl.program_id(0)
    rows, columns = tl.arange(0, HEIGHT), tl.program_id(1) * WIDTH + tl.arange(0, WIDTH)
    mask = (rows < size)[:, None] & (columns < batch * UNIT)[None, :]
    g_s, g_r, v_s, v_r, out_s, out_r = (
        g_s * UNIT, g_r * UNIT, v_s * UNIT, v_r * UNIT, out_s * UNIT, out_r * UNIT
    )  # fmt: skip
    h_s, h_r = h_s * UNIT, h_r * UNIT
    g, v, out = at(g, d, g_d * UNIT), at(v, d, v_d * UNIT), at(out, d, out_d * UNIT)
    h, w = at(h, d, h_d * UNIT), at(w, d, w_d)
    start, end = load_span(spans, d, steps, HAS_SPANS)
    clear_outside(out, start, end, steps, out_s, 4, size, out_r, rows, columns, mask)
    r_high, r_low = transposed_weights(w, 0, size, rows, MODE)
    z_high, z_low = transposed_weights(w, 1, size, rows, MODE)
    q_high, q_low = transposed_weights(w, 2, size, rows, MODE)
    some, to = mask & (start < end), at(v, end - 1, v_s)
    carry = load_block(at(g, end - 1, g_s), 0, size, g_r, rows, columns, some)
    next_n = load_block(to, 0, size, v_r, rows, columns, some)
    next_r = load_block(to, 1, size, v_r, rows, columns, some)
    next_z = load_block(to, 2, size, v_r, rows, columns, some)
    next_q = load_block(to, 3, size, v_r, rows, columns, some)
    next_state = load_block(at(h, end - 1, h_s), 0, size, h_r, rows, columns, some)
    for index in range(end - start):
        s = end - 1 - index
        n, r, z, q, state = next_n, next_r, next_z, next_q, next_state
        more, to = mask & (s > start), at(v, s - 1, v_s)
        next_grad = load_block(at(g, s - 1, g_s), 0, size, g_r, rows, columns, more)
        next_n = load_block(to, 0, size, v_r, rows, columns, more)
        next_r = load_block(to, 1, size, v_r, rows, columns, more)
        next_z = load_block(to, 2, size, v_r, rows, columns, more)
        next_q = load_block(to, 3, size, v_r, rows, columns, more)
        next_state = load_block(at(h, s - 1, h_s), 0, size, h_r, rows, columns, more)
        by_n = carry * (1 - z) * (1 - n * n)
        by_q = by_n * r
        by_r = by_q * q * (1 - r)
        by_z = carry * (state - n) * z * (1 - z)
        to = at(out, s, out_s)
        store_block(to, 0, size, out_r, rows, columns, mask, by_n)
        store_block(to, 1, size, out_r, rows, columns, mask, by_r)
        store_block(to, 2, size, out_r, rows, columns, mask, by_z)
        store_block(to, 3, size, out_r, rows, columns, mask, by_q)
        scale, inverse = column_scale(carry, MODE)
        passed = tl.full((HEIGHT, WIDTH), 0, carry.dtype)
        passed = product(q_high, q_low, by_q * scale, passed, MODE)
        passed = product(r_high, r_low, by_r * scale, passed, MODE)
        passed = product(z_high, z_low, by_z * scale, passed, MODE)
        carry = next_grad + carry * z + passed * inverse
