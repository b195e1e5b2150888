"""The optimizer step of several trials as one GPU kernel. Importing this module imports Triton.

Shapes: N trials, n values of one parameter of one trial, W settings.
"""

from __future__ import annotations

import triton
import triton.language as tl

WIDTH = 7
"""W. The settings of a trial for one step: whether it takes part (1 or 0), step size, weight of the
L2 penalty, the factor of the new first moment, that of the old one, the factor of the root of the
second moment, and the factor of the value by decoupled weight decay."""


@triton.jit
def update(
    values, grads, first, second, settings, clip, count, beta2, rest2, eps,
    ADAM: tl.constexpr, SHRINKS: tl.constexpr, COLUMNS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Update one parameter of all trials, in place.

    Adam (Kingma & Ba 2015) or SGD with momentum, both with an L2 penalty in the gradient, or AdamW
    (Loshchilov & Hutter 2019), as in PyTorch. `values`, `grads`, `first` and `second` are (N, n),
    `settings` (N, W) and `clip` (N,), the factor that limits the norm of the gradient. `rest2` is
    1 - `beta2`, of which float32 has only four digits if the kernel subtracts. SGD ignores
    `second`.
    """
    trial = tl.program_id(1)
    row = settings + trial * COLUMNS
    if tl.load(row) != 0:
        offsets = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
        inside = offsets < count
        at = trial.to(tl.int64) * count + offsets
        old = tl.load(values + at, inside)
        grad = tl.load(grads + at, inside) * tl.load(clip + trial)
        grad = grad + tl.load(row + 2) * old
        if SHRINKS:
            old = old * tl.load(row + 6)
        moment = tl.load(row + 4) * tl.load(first + at, inside) + tl.load(row + 3) * grad
        tl.store(first + at, moment, inside)
        change = moment
        if ADAM:
            square = beta2 * tl.load(second + at, inside) + rest2 * grad * grad
            tl.store(second + at, square, inside)
            change = tl.div_rn(moment, tl.sqrt_rn(square) * tl.load(row + 5) + eps)
        tl.store(values + at, old - tl.load(row + 1) * change, inside)
