"""Time of every recurrent cell, forward and backward, compared with torch's modules.

Usage: python benchmarks/cells.py [--quick] [--device cpu]

Batch size 64, 256 time steps, 100 input features, hidden sizes 16, 64 and 128, one and two
threads. The compared modules run alternately in one process; the medians of 5 runs are compared.
The figures are time ratios, the worst over hidden sizes and numbers of threads; below 1 means
faster than torch:
  gru, rnn, lstm                  celltune to the torch module of the same name
  gru_reset_before, mgu           celltune to `nn.GRU`
  bidirectional_vs_padded         two bidirectional gru layers that skip padding, to `nn.GRU` on the
                                  padded batch, which processes padding like text
  bidirectional_vs_packed         the same, to `nn.GRU` on a PackedSequence
  optimizer_share                 share of Adam in a training step: 25,000 words, gru of size 64
The details contain all times, the ratios to a plain Python loop, the share of SGD with momentum,
and the results without the native loops (`fallback`), as on a machine without a compiler. On a GPU,
only the ratios of the cells are measured, and torch's modules use cuDNN.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from _measure import finish
from _optimizer_share import optimizer_shares
from _plain_cells import plain_layer
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from celltune.models.extensions import CELLS
from celltune.models.layers.stack import RecurrentStack
from celltune.models.native import library as native

FEATURES = 100
PEERS = {"rnn": nn.RNN, "lstm": nn.LSTM}
Run = Callable[[], object]


def medians(sides: Mapping[str, Run], runs: int, device: torch.device) -> dict[str, float]:
    """Return the median seconds of each side over `runs` alternating runs after a warm-up."""
    times: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(runs + 1):
        for name, run in sides.items():
            started = time.perf_counter()
            run()
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            times[name].append(time.perf_counter() - started)
    return {name: statistics.median(seconds[1:]) for name, seconds in times.items()}


def forward_and_backward(
    forward: Callable[[], Tensor], grad: Tensor, inputs: Tensor, module: nn.Module
) -> Run:
    """Return a function that computes the gradients of the inputs and all weights."""
    sources = [inputs, *module.parameters()]
    return lambda: torch.autograd.grad(forward(), sources, grad)


def one_layer(
    cell: str, hidden: int, steps: int, batch: int, device: torch.device
) -> dict[str, Run]:
    """Return runs of one layer without padding: celltune, torch, and a plain Python loop."""
    inputs = torch.randn(steps, batch, FEATURES, device=device, requires_grad=True)
    peer = PEERS.get(cell, nn.GRU)(FEATURES, hidden).to(device)
    ours = RecurrentStack(
        CELLS.load(cell)(), FEATURES, hidden, generator=torch.Generator().manual_seed(1)
    ).to(device)
    plain = plain_layer(ours)
    wide = torch.randn(steps, batch, hidden, device=device)
    tall = torch.randn(steps, hidden, batch, device=device)

    def our_states() -> Tensor:
        return ours(inputs.transpose(1, 2), None)

    return {
        "ours": forward_and_backward(our_states, tall, inputs, ours),
        "peer": forward_and_backward(lambda: peer(inputs)[0], wide, inputs, peer),
        "plain": forward_and_backward(lambda: plain(inputs), wide, inputs, ours),
    }


def two_layers(hidden: int, steps: int, batch: int, device: torch.device) -> dict[str, Run]:
    """Return runs of two bidirectional layers on documents of half to full length."""
    lengths = torch.linspace(steps / 2, steps, batch).long().flip(0)  # longest first
    real = (torch.arange(steps)[:, None] < lengths)[:, None].to(device)
    inputs = torch.randn(steps, batch, FEATURES, device=device, requires_grad=True)
    peer = nn.GRU(FEATURES, hidden, 2, bidirectional=True).to(device)
    ours = RecurrentStack(
        CELLS.load("gru")(),
        FEATURES,
        hidden,
        generator=torch.Generator().manual_seed(1),
        num_layers=2,
        bidirectional=True,
    ).to(device)
    tall = torch.randn(steps, 2 * hidden, batch, device=device).masked_fill(~real, 0)
    wide = tall.transpose(1, 2).contiguous()

    def our_states() -> Tensor:
        return ours(inputs.transpose(1, 2), real)

    def packed() -> Tensor:
        states, _ = peer(pack_padded_sequence(inputs, lengths))
        return pad_packed_sequence(states)[0]

    return {
        "ours": forward_and_backward(our_states, tall, inputs, ours),
        "padded": forward_and_backward(lambda: peer(inputs)[0], wide, inputs, peer),
        "packed": forward_and_backward(packed, wide, inputs, peer),
    }


def measure(sizes: dict[str, Any], device: torch.device) -> dict[str, dict[str, float]]:
    """Return milliseconds by comparison and side."""
    rows: dict[str, dict[str, float]] = {}
    for threads in sizes["threads"]:
        torch.set_num_threads(threads)
        for hidden in sizes["hidden"]:
            shape = (hidden, sizes["steps"], sizes["batch"], device)
            groups = {cell: one_layer(cell, *shape) for cell in CELLS.names()}
            groups["bidirectional"] = two_layers(*shape)
            for name, sides in groups.items():
                seconds = medians(sides, sizes["runs"], device)
                milliseconds = {side: 1000 * value for side, value in seconds.items()}
                rows[f"{name} hidden {hidden} threads {threads}"] = milliseconds
                text = "  ".join(f"{side} {value:7.2f} ms" for side, value in milliseconds.items())
                print(f"{name:17} hidden {hidden:3} threads {threads}  {text}", flush=True)
    return rows


def worst(rows: dict[str, dict[str, float]], start: str, peer: str) -> float:
    return max(
        row["ours"] / row[peer] for name, row in rows.items() if name.startswith(start + " ")
    )


def figures_of(rows: dict[str, dict[str, float]]) -> dict[str, float]:
    figures = {cell: worst(rows, cell, "peer") for cell in CELLS.names()}
    figures["bidirectional_vs_padded"] = worst(rows, "bidirectional", "padded")
    figures["bidirectional_vs_packed"] = worst(rows, "bidirectional", "packed")
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="small shapes, under a minute")
    parser.add_argument("--device", type=torch.device, default=torch.device("cpu"))
    options = parser.parse_args()
    torch.manual_seed(1)
    sizes: dict[str, Any] = (
        {"hidden": [16], "threads": [1], "steps": 64, "batch": 64, "runs": 3}
        if options.quick
        else {"hidden": [16, 64, 128], "threads": [1, 2], "steps": 256, "batch": 64, "runs": 5}
    )
    if options.device.type != "cpu":
        sizes["threads"] = [torch.get_num_threads()]
        times = measure(sizes, options.device)
        details = {"device": str(options.device), "sizes": sizes, "milliseconds": times}
        finish("cells_gpu", figures_of(times), details, keep=not options.quick)
        return
    rows: dict[str, dict[str, dict[str, float]]] = {}
    shares: dict[str, dict[str, float]] = {}
    kinds: list[tuple[str, AbstractContextManager[object]]] = [("fallback", native.disabled())]
    if native.available():
        kinds.append(("native", nullcontext()))
    for kind, setting in kinds:
        print(f"-- {kind}")
        with setting:
            rows[kind] = measure(sizes, options.device)
            shares[kind] = optimizer_shares(sizes)
        print(shares[kind])
    best = kinds[-1][0]
    figures = {**figures_of(rows[best]), "optimizer_share": shares[best]["adam"]}
    details = {
        "loops": best,
        "sizes": sizes,
        "milliseconds": rows,
        "optimizer_shares": shares,
        "fallback": {**figures_of(rows["fallback"]), "optimizer_share": shares["fallback"]["adam"]},
        "to_a_plain_loop": {cell: worst(rows[best], cell, "plain") for cell in CELLS.names()},
    }
    finish("cells", figures, details, keep=not options.quick)


if __name__ == "__main__":
    main()
