"""One contract for every cell: onnxruntime gives the logits of the classifier itself."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from celltune.models.config import CELL_NAMES, ModelConfig
from celltune.models.network import onnx_export as onnx_graph
from celltune.models.network.classifier import TextClassifier
from celltune.models.network.onnx_export import build_onnx

pytest.importorskip("onnx", reason="needs celltune[onnx]")
ort = pytest.importorskip("onnxruntime", reason="needs celltune[onnx]")

VOCABULARY = 23
READOUTS = ("final", "mean", "max", "last_two_layers")


def largest_difference(model: TextClassifier, batches: list[list[int]], extra: int) -> float:
    """Between the two sides' logits; `extra` steps of padding stand behind the longest text."""
    session = ort.InferenceSession(
        build_onnx(model).SerializeToString(), providers=["CPUExecutionProvider"]
    )
    generator = torch.Generator().manual_seed(5)
    found = 0.0
    for lengths in batches:
        shape = (max(lengths) + extra, len(lengths))
        ids = torch.randint(0, VOCABULARY, shape, generator=generator)
        with torch.inference_mode():
            ours = model.eval()(ids, torch.tensor(lengths))
        given = {"ids": ids.t().contiguous().numpy(), "lengths": torch.tensor(lengths).numpy()}
        logits, probabilities = (torch.from_numpy(part) for part in session.run(None, given))
        assert logits.shape == ours.shape
        rows = torch.stack([torch.zeros_like(ours), ours], 1) if ours.dim() == 1 else ours
        torch.testing.assert_close(probabilities, rows.softmax(1), rtol=0, atol=1e-5)
        found = max(found, float((logits - ours).abs().max()))
    return found


@pytest.mark.parametrize("cell", [*CELL_NAMES, "rnn_relu"])
@pytest.mark.parametrize("both", [False, True], ids=["forwards", "both"])
@settings(max_examples=6, deadline=None)
@given(
    layers=st.integers(1, 3),
    readout=st.sampled_from(READOUTS),
    classes=st.sampled_from([2, 3]),
    output_relu=st.booleans(),
    lengths=st.lists(st.integers(1, 9), min_size=1, max_size=5),
    extra=st.integers(0, 2),
)
def test_onnxruntime_agrees_with_every_cell(
    cell: str,
    both: bool,
    layers: int,
    readout: str,
    classes: int,
    output_relu: bool,
    lengths: list[int],
    extra: int,
) -> None:
    name, curve = ("rnn", "relu") if cell == "rnn_relu" else (cell, "tanh")
    config = ModelConfig(
        cell=name,
        nonlinearity=curve,
        hidden_size=5,
        num_layers=2 if readout == "last_two_layers" else layers,
        bidirectional=both,
        embedding_size=4,
        embedding_std=1.0,
        readout=readout,
        output_relu=output_relu,
        dropout=0.3,
    )
    model = TextClassifier(config, VOCABULARY, classes)
    # A second batch of another shape: neither the batch nor the length is fixed.
    assert largest_difference(model, [lengths, [2, 7]], extra) < 1e-5


def test_weights_beyond_one_file_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_graph, "LARGEST_BYTES", 1_000)
    model = TextClassifier(ModelConfig(cell="gru"), VOCABULARY, 2)
    with pytest.raises(ValueError, match="one piece holds 1,000"):
        build_onnx(model)
