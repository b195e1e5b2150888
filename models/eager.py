"""PyTorch's optimizers without its compiler.

The methods of an optimizer begin with an import of the compiler's front end, `torch._dynamo`, in
order to exclude themselves from compilation. It imports sympy and takes 1 s and 60 MB in every
worker, but nothing here is compiled. The classes call what these methods wrap.
"""

from __future__ import annotations

import inspect
from typing import Any

import torch


def _eager(optimizer: Any) -> Any:
    methods = {
        name: inspect.unwrap(getattr(optimizer, name)) for name in ("add_param_group", "zero_grad")
    }
    step = torch.no_grad()(inspect.unwrap(optimizer.step))
    return type(optimizer.__name__, (optimizer,), {**methods, "step": step})


SGD, Adam, AdamW = (
    _eager(optimizer) for optimizer in (torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW)
)
