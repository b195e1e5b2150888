"""Kernels of the cells whose last gate reads a gated state: GRU with reset before, and MGU.

`tiles` explains the shapes and `launch` the arguments. `w` has the weights of the gates, `u` those
of n.

GRU: the blocks of the projection are r, z, n; saved are r, z, n after their activations.
MGU: the blocks of the projection are f, n; saved are f, n after their activations.
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
def gru_forward(
    x, x_d, x_s, x_r, h, h_d, h_s, h_r, v, v_d, v_s, v_r, w, w_d, u, u_d,
    spans, steps, size, batch,
    UNIT: tl.constexpr, HEIGHT: tl.constexpr, WIDTH: tl.constexpr, MODE: tl.constexpr,
    HAS_SPANS: tl.constexpr, RELU: tl.constexpr,
):  # fmt: skip
    """Compute all states and the saved values of a GRU. `RELU` is not used."""
    d = tl.program_id(0)
    rows, columns = tl.arange(0, HEIGHT), tl.program_id(1) * WIDTH + tl.arange(0, WIDTH)
    inside = columns < batch * UNIT
    mask = (rows < size)[:, None] & inside[None, :]
    x_s, x_r, h_s, h_r, v_s, v_r = (
        x_s * UNIT, x_r * UNIT, h_s * UNIT, h_r * UNIT, v_s * UNIT, v_r * UNIT
    )  # fmt: skip
    x, h, v = at(x, d, x_d * UNIT), at(h, d, h_d * UNIT), at(v, d, v_d * UNIT)
    w, u = at(w, d, w_d), at(u, d, u_d)
    start, end = load_span(spans, d, steps, HAS_SPANS)
    clear_outside(h + h_s, start, end, steps, h_s, 1, size, h_r, rows, columns, mask)
    # The weight gradient multiplies saved values by zero gradients.
    clear_outside(v, start, end, steps, v_s, 3, size, v_r, rows, columns, mask)
    r_high, r_low, r_bias = gate_weights(w, 0, size, rows, MODE)
    z_high, z_low, z_bias = gate_weights(w, 1, size, rows, MODE)
    n_high, n_low, n_bias = gate_weights(u, 0, size, rows, MODE)
    state = load_block(h, 0, size, h_r, rows, columns, mask & (start == 0))
    some, to = mask & (start < end), at(x, start, x_s)
    next_r = load_block(to, 0, size, x_r, rows, columns, some)
    next_z = load_block(to, 1, size, x_r, rows, columns, some)
    next_n = load_block(to, 2, size, x_r, rows, columns, some)
    factor = load_row(at(h, start, h_s), size, h_r, columns, inside & (start < end))
    for s in range(start, end):
        r, z, n = next_r + r_bias * factor, next_z + z_bias * factor, next_n + n_bias * factor
        more, to = mask & (s + 1 < end), at(x, s + 1, x_s)
        next_r = load_block(to, 0, size, x_r, rows, columns, more)
        next_z = load_block(to, 1, size, x_r, rows, columns, more)
        next_n = load_block(to, 2, size, x_r, rows, columns, more)
        factor = load_row(at(h, s + 1, h_s), size, h_r, columns, inside & (s + 1 < end))
        r = sigmoid(product(r_high, r_low, state, r, MODE))
        z = sigmoid(product(z_high, z_low, state, z, MODE))
        gated = r * state
        n = tanh(product(n_high, n_low, gated, n, MODE))
        # Exact for z = 1, which keeps the state at zero in leading padding.
        state = z * state + (1 - z) * n
        store_block(at(h, s + 1, h_s), 0, size, h_r, rows, columns, mask, state)
        to = at(v, s, v_s)
        store_block(to, 0, size, v_r, rows, columns, mask, r)
        store_block(to, 1, size, v_r, rows, columns, mask, z)
        store_block(to, 2, size, v_r, rows, columns, mask, n)


@triton.jit(do_not_specialize=INTEGERS)
def gru_backward(
    g, g_d, g_s, g_r, h, h_d, h_s, h_r, v, v_d, v_s, v_r, out, out_d, out_s, out_r,
    w, w_d, u, u_d, spans, steps, size, batch,
    UNIT: tl.constexpr, HEIGHT: tl.constexpr, WIDTH: tl.constexpr, MODE: tl.constexpr,
    HAS_SPANS: tl.constexpr, RELU: tl.constexpr,
):  # fmt: skip
    """Compute the gradient of the projection of a GRU. `RELU` is not used."""
    d = tl.program_id(0)
    rows, columns = tl.arange(0, HEIGHT), tl.program_id(1) * WIDTH + tl.arange(0, WIDTH)
    mask = (rows < size)[:, None] & (columns < batch * UNIT)[None, :]
    g_s, g_r, v_s, v_r, out_s, out_r = (
        g_s * UNIT, g_r * UNIT, v_s * UNIT, v_r * UNIT, out_s * UNIT, out_r * UNIT
    )  # fmt: skip
    h_s, h_r = h_s * UNIT, h_r * UNIT
    g, v, out = at(g, d, g_d * UNIT), at(v, d, v_d * UNIT), at(out, d, out_d * UNIT)
    h, w, u = at(h, d, h_d * UNIT), at(w, d, w_d), at(u, d, u_d)
    start, end = load_span(spans, d, steps, HAS_SPANS)
    clear_outside(out, start, end, steps, out_s, 3, size, out_r, rows, columns, mask)
    r_high, r_low = transposed_weights(w, 0, size, rows, MODE)
    z_high, z_low = transposed_weights(w, 1, size, rows, MODE)
    n_high, n_low = transposed_weights(u, 0, size, rows, MODE)
    some, to = mask & (start < end), at(v, end - 1, v_s)
    carry = load_block(at(g, end - 1, g_s), 0, size, g_r, rows, columns, some)
    next_r = load_block(to, 0, size, v_r, rows, columns, some)
    next_z = load_block(to, 1, size, v_r, rows, columns, some)
    next_n = load_block(to, 2, size, v_r, rows, columns, some)
    next_state = load_block(at(h, end - 1, h_s), 0, size, h_r, rows, columns, some)
    for index in range(end - start):
        s = end - 1 - index
        r, z, n, state = next_r, next_z, next_n, next_state
        more, to = mask & (s > start), at(v, s - 1, v_s)
        next_grad = load_block(at(g, s - 1, g_s), 0, size, g_r, rows, columns, more)
        next_r = load_block(to, 0, size, v_r, rows, columns, more)
        next_z = load_block(to, 1, size, v_r, rows, columns, more)
        next_n = load_block(to, 2, size, v_r, rows, columns, more)
        next_state = load_block(at(h, s - 1, h_s), 0, size, h_r, rows, columns, more)
        by_n = carry * (1 - z) * (1 - n * n)
        by_z = carry * (state - n) * z * (1 - z)
        scale, inverse = column_scale(carry, MODE)
        nothing = tl.full((HEIGHT, WIDTH), 0, carry.dtype)
        inner = product(n_high, n_low, by_n * scale, nothing, MODE) * inverse
        by_r = inner * state * r * (1 - r)
        to = at(out, s, out_s)
        store_block(to, 0, size, out_r, rows, columns, mask, by_r)
        store_block(to, 1, size, out_r, rows, columns, mask, by_z)
        store_block(to, 2, size, out_r, rows, columns, mask, by_n)
        passed = product(z_high, z_low, by_z * scale, nothing, MODE)
        passed = product(r_high, r_low, by_r * scale, passed, MODE)
        carry = next_grad + carry * z + inner * r + passed * inverse


@triton.jit(do_not_specialize=INTEGERS)
def mgu_forward(
    x, x_d, x_s, x_r, h, h_d, h_s, h_r, v, v_d, v_s, v_r, w, w_d, u, u_d,
    spans, steps, size, batch,
    UNIT: tl.constexpr, HEIGHT: tl.constexpr, WIDTH: tl.constexpr, MODE: tl.constexpr,
    HAS_SPANS: tl.constexpr, RELU: tl.constexpr,
):  # fmt: skip
    """Compute all states and the saved values of an MGU. `RELU` is not used."""
    d = tl.program_id(0)
    rows, columns = tl.arange(0, HEIGHT), tl.program_id(1) * WIDTH + tl.arange(0, WIDTH)
    inside = columns < batch * UNIT
    mask = (rows < size)[:, None] & inside[None, :]
    x_s, x_r, h_s, h_r, v_s, v_r = (
        x_s * UNIT, x_r * UNIT, h_s * UNIT, h_r * UNIT, v_s * UNIT, v_r * UNIT
    )  # fmt: skip
    x, h, v = at(x, d, x_d * UNIT), at(h, d, h_d * UNIT), at(v, d, v_d * UNIT)
    w, u = at(w, d, w_d), at(u, d, u_d)
    start, end = load_span(spans, d, steps, HAS_SPANS)
    clear_outside(h + h_s, start, end, steps, h_s, 1, size, h_r, rows, columns, mask)
    # The weight gradient multiplies saved values by zero gradients.
    clear_outside(v, start, end, steps, v_s, 2, size, v_r, rows, columns, mask)
    f_high, f_low, f_bias = gate_weights(w, 0, size, rows, MODE)
    n_high, n_low, n_bias = gate_weights(u, 0, size, rows, MODE)
    state = load_block(h, 0, size, h_r, rows, columns, mask & (start == 0))
    some, to = mask & (start < end), at(x, start, x_s)
    next_f = load_block(to, 0, size, x_r, rows, columns, some)
    next_n = load_block(to, 1, size, x_r, rows, columns, some)
    factor = load_row(at(h, start, h_s), size, h_r, columns, inside & (start < end))
    for s in range(start, end):
        f, n = next_f + f_bias * factor, next_n + n_bias * factor
        more, to = mask & (s + 1 < end), at(x, s + 1, x_s)
        next_f = load_block(to, 0, size, x_r, rows, columns, more)
        next_n = load_block(to, 1, size, x_r, rows, columns, more)
        factor = load_row(at(h, s + 1, h_s), size, h_r, columns, inside & (s + 1 < end))
        f = sigmoid(product(f_high, f_low, state, f, MODE))
        gated = f * state
        n = tanh(product(n_high, n_low, gated, n, MODE))
        # Exact for f = 0, which keeps the state at zero in leading padding.
        state = (1 - f) * state + f * n
        store_block(at(h, s + 1, h_s), 0, size, h_r, rows, columns, mask, state)
        to = at(v, s, v_s)
        store_block(to, 0, size, v_r, rows, columns, mask, f)
        store_block(to, 1, size, v_r, rows, columns, mask, n)


@triton.jit(do_not_specialize=INTEGERS)
def mgu_backward(
    g, g_d, g_s, g_r, h, h_d, h_s, h_r, v, v_d, v_s, v_r, out, out_d, out_s, out_r,
    w, w_d, u, u_d, spans, steps, size, batch,
    UNIT: tl.constexpr, HEIGHT: tl.constexpr, WIDTH: tl.constexpr, MODE: tl.constexpr,
    HAS_SPANS: tl.constexpr, RELU: tl.constexpr,
):  # fmt: skip
    """Compute the gradient of the projection of an MGU. `RELU` is not used."""
    d = tl.program_id(0)
    rows, columns = tl.arange(0, HEIGHT), tl.program_id(1) * WIDTH + tl.arange(0, WIDTH)
    mask = (rows < size)[:, None] & (columns < batch * UNIT)[None, :]
    g_s, g_r, v_s, v_r, out_s, out_r = (
        g_s * UNIT, g_r * UNIT, v_s * UNIT, v_r * UNIT, out_s * UNIT, out_r * UNIT
    )  # fmt: skip
    h_s, h_r = h_s * UNIT, h_r * UNIT
    g, v, out = at(g, d, g_d * UNIT), at(v, d, v_d * UNIT), at(out, d, out_d * UNIT)
    h, w, u = at(h, d, h_d * UNIT), at(w, d, w_d), at(u, d, u_d)
    start, end = load_span(spans, d, steps, HAS_SPANS)
    clear_outside(out, start, end, steps, out_s, 2, size, out_r, rows, columns, mask)
    f_high, f_low = transposed_weights(w, 0, size, rows, MODE)
    n_high, n_low = transposed_weights(u, 0, size, rows, MODE)
    some, to = mask & (start < end), at(v, end - 1, v_s)
    carry = load_block(at(g, end - 1, g_s), 0, size, g_r, rows, columns, some)
    next_f = load_block(to, 0, size, v_r, rows, columns, some)
    next_n = load_block(to, 1, size, v_r, rows, columns, some)
    next_state = load_block(at(h, end - 1, h_s), 0, size, h_r, rows, columns, some)
    for index in range(end - start):
        s = end - 1 - index
        f, n, state = next_f, next_n, next_state
        more, to = mask & (s > start), at(v, s - 1, v_s)
        next_grad = load_block(at(g, s - 1, g_s), 0, size, g_r, rows, columns, more)
        next_f = load_block(to, 0, size, v_r, rows, columns, more)
        next_n = load_block(to, 1, size, v_r, rows, columns, more)
        next_state = load_block(at(h, s - 1, h_s), 0, size, h_r, rows, columns, more)
        by_n = carry * f * (1 - n * n)
        scale, inverse = column_scale(carry, MODE)
        nothing = tl.full((HEIGHT, WIDTH), 0, carry.dtype)
        inner = product(n_high, n_low, by_n * scale, nothing, MODE) * inverse
        by_f = (carry * (n - state) + inner * state) * f * (1 - f)
        to = at(out, s, out_s)
        store_block(to, 0, size, out_r, rows, columns, mask, by_f)
        store_block(to, 1, size, out_r, rows, columns, mask, by_n)
        passed = product(f_high, f_low, by_f * scale, nothing, MODE)
        carry = next_grad + carry * (1 - f) + inner * f + passed * inverse
