"""Every recurrent cell, forward and backward, beside torch's own modules.

Usage: python benchmarks/cells.py [--quick] [--device cpu]

Batch 64, 256 steps, 100 input features, hidden 16, 64 and 128, one and two threads. All sides of a
comparison run in turn in one process, and the medians of 5 runs are compared. Figures are time
ratios, the worst over the hidden sizes and the numbers of threads, below 1 is faster:
  gru, rnn, lstm                  ours to torch's module of that name
  gru_reset_before, mgu           ours to torch's nn.GRU
  bidirectional_vs_padded         two bidirectional gru layers, padding kept out, to nn.GRU over the
                                  padded batch, which reads padding as if it were text
  bidirectional_vs_packed         the same to nn.GRU over a PackedSequence
  optimizer_share                 Adam's share of a training step: 25,000 words, gru of 64
The details hold every time, the ratios to a plain Python loop, the share of SGD with momentum, and
the same without the native loops (`fallback`), which is what a machine without a compiler gets.
On another device than the CPU only the ratios of the cells are measured, with cuDNN's as the peers.
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

from celltune.models.layers.cells import CELLS
from celltune.models.layers.stack import RecurrentStack
from celltune.models.native import library as native

FEATURES = 100
PEERS = {"rnn": nn.RNN, "lstm": nn.LSTM}
Run = Callable[[], object]


def medians(sides: Mapping[str, Run], runs: int, device: torch.device) -> dict[str, float]:
    """Seconds of each side: the median of `runs`, in turn, after a round to warm up."""
    times: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(runs + 1):
        for name, run in sides.items():
            begun = time.perf_counter()
            run()
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            times[name].append(time.perf_counter() - begun)
    return {name: statistics.median(taken[1:]) for name, taken in times.items()}


def both_ways(
    forward: Callable[[], Tensor], grad: Tensor, inputs: Tensor, module: nn.Module
) -> Run:
    """Forward and backward to the inputs and all weights, adding to no older gradient."""
    sources = [inputs, *module.parameters()]
    return lambda: torch.autograd.grad(forward(), sources, grad)


def one_layer(
    cell: str, hidden: int, steps: int, batch: int, device: torch.device
) -> dict[str, Run]:
    """Ours, the peer, and a plain Python loop, over one layer without padding."""
    lengths = torch.full((batch,), steps)
    inputs = torch.randn(steps, batch, FEATURES, device=device, requires_grad=True)
    peer = PEERS.get(cell, nn.GRU)(FEATURES, hidden).to(device)
    ours = RecurrentStack(cell, FEATURES, hidden, generator=torch.Generator().manual_seed(1))
    ours.to(device)
    plain = plain_layer(cell, ours)
    wide = torch.randn(steps, batch, hidden, device=device)
    tall = torch.randn(steps, hidden, batch, device=device)

    def our_states() -> Tensor:
        return ours(inputs.transpose(1, 2), None, lengths=lengths)

    return {
        "ours": both_ways(our_states, tall, inputs, ours),
        "peer": both_ways(lambda: peer(inputs)[0], wide, inputs, peer),
        "plain": both_ways(lambda: plain(inputs), wide, inputs, ours),
    }


def two_layers(hidden: int, steps: int, batch: int, device: torch.device) -> dict[str, Run]:
    """Two bidirectional layers over reviews of half to full length."""
    lengths = torch.linspace(steps / 2, steps, batch).long().flip(0)  # the longest first
    real = (torch.arange(steps)[:, None] < lengths)[:, None].to(device)
    inputs = torch.randn(steps, batch, FEATURES, device=device, requires_grad=True)
    peer = nn.GRU(FEATURES, hidden, 2, bidirectional=True).to(device)
    ours = RecurrentStack(
        "gru",
        FEATURES,
        hidden,
        generator=torch.Generator().manual_seed(1),
        num_layers=2,
        bidirectional=True,
    ).to(device)
    tall = torch.randn(steps, 2 * hidden, batch, device=device).masked_fill(~real, 0)
    wide = tall.transpose(1, 2).contiguous()

    def our_states() -> Tensor:
        return ours(inputs.transpose(1, 2), real, lengths=lengths)

    def packed() -> Tensor:
        states, _ = peer(pack_padded_sequence(inputs, lengths))
        return pad_packed_sequence(states)[0]

    return {
        "ours": both_ways(our_states, tall, inputs, ours),
        "padded": both_ways(lambda: peer(inputs)[0], wide, inputs, peer),
        "packed": both_ways(packed, wide, inputs, peer),
    }


def measure(sizes: dict[str, Any], device: torch.device) -> dict[str, dict[str, float]]:
    """Milliseconds by comparison and side."""
    rows: dict[str, dict[str, float]] = {}
    for threads in sizes["threads"]:
        torch.set_num_threads(threads)
        for hidden in sizes["hidden"]:
            shape = (hidden, sizes["steps"], sizes["batch"], device)
            groups = {cell: one_layer(cell, *shape) for cell in CELLS}
            groups["bidirectional"] = two_layers(*shape)
            for name, sides in groups.items():
                seconds = medians(sides, sizes["runs"], device)
                taken = {side: 1000 * value for side, value in seconds.items()}
                rows[f"{name} hidden {hidden} threads {threads}"] = taken
                text = "  ".join(f"{side} {value:7.2f} ms" for side, value in taken.items())
                print(f"{name:17} hidden {hidden:3} threads {threads}  {text}", flush=True)
    return rows


def worst(rows: dict[str, dict[str, float]], start: str, peer: str) -> float:
    return max(
        row["ours"] / row[peer] for name, row in rows.items() if name.startswith(start + " ")
    )


def figures_of(rows: dict[str, dict[str, float]]) -> dict[str, float]:
    figures = {cell: worst(rows, cell, "peer") for cell in CELLS}
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
        "to_a_plain_loop": {cell: worst(rows[best], cell, "plain") for cell in CELLS},
    }
    finish("cells", figures, details, keep=not options.quick)


if __name__ == "__main__":
    main()
