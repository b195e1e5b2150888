"""Exported models have the same logits in onnxruntime."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from celltune.models.config import ModelConfig
from celltune.models.extensions import CELLS, READOUTS
from celltune.models.network import onnx_export
from celltune.models.network.classifier import TextClassifier
from celltune.models.network.onnx_export import build_onnx

pytest.importorskip("onnx", reason="needs celltune[onnx]")
ort = pytest.importorskip("onnxruntime", reason="needs celltune[onnx]")

VOCABULARY = 23


def largest_difference(model: TextClassifier, batches: list[list[int]], extra: int) -> float:
    """Compare the logits; `extra` steps of padding follow the longest document."""
    session = ort.InferenceSession(
        build_onnx(model).SerializeToString(), providers=["CPUExecutionProvider"]
    )
    generator = torch.Generator().manual_seed(5)
    largest = 0.0
    for lengths in batches:
        shape = (max(lengths) + extra, len(lengths))
        ids = torch.randint(0, VOCABULARY, shape, generator=generator)
        feeds = {"ids": ids.t().contiguous().numpy(), "lengths": torch.tensor(lengths).numpy()}
        wide = None
        if model.config.wide == "add":
            wide = torch.randn(len(lengths), len(model.output_bias), generator=generator)
            feeds["wide"] = wide.numpy()
        with torch.inference_mode():
            expected = model.eval()(ids, torch.tensor(lengths), wide=wide)
        logits, probabilities = map(torch.from_numpy, session.run(None, feeds))
        assert logits.shape == expected.shape
        rows = expected
        if expected.dim() == 1:
            rows = torch.stack([torch.zeros_like(expected), expected], 1)
        torch.testing.assert_close(probabilities, rows.softmax(1), rtol=0, atol=1e-5)
        largest = max(largest, float((logits - expected).abs().max()))
    return largest


@pytest.mark.parametrize("cell", [*CELLS.names(), "rnn_relu"])
@pytest.mark.parametrize("bidirectional", [False, True])
@settings(max_examples=6, deadline=None)
@given(
    layers=st.integers(1, 3),
    readout=st.sampled_from(READOUTS.names()),
    classes=st.sampled_from([2, 3]),
    output_relu=st.booleans(),
    lengths=st.lists(st.integers(1, 9), min_size=1, max_size=5),
    extra=st.integers(0, 2),
)
def test_onnxruntime_computes_the_same_logits(
    cell: str,
    bidirectional: bool,
    layers: int,
    readout: str,
    classes: int,
    output_relu: bool,
    lengths: list[int],
    extra: int,
) -> None:
    name, nonlinearity = ("rnn", "relu") if cell == "rnn_relu" else (cell, "tanh")
    config = ModelConfig(
        cell=name,
        nonlinearity=nonlinearity,
        hidden_size=5,
        num_layers=2 if readout == "last_two_layers" else layers,
        bidirectional=bidirectional,
        embedding_size=4,
        embedding_std=1.0,
        readout=readout,
        output_relu=output_relu,
        dropout=0.3,
    )
    model = TextClassifier(config, VOCABULARY, classes)
    # The second batch has another shape: batch size and length are dynamic.
    assert largest_difference(model, [lengths, [2, 7]], extra) < 1e-5


@pytest.mark.parametrize("classes", [2, 3])
def test_outputs_of_the_wide_part_are_an_input(classes: int) -> None:
    model = TextClassifier(ModelConfig(wide="add", cell="gru", hidden_size=5), VOCABULARY, classes)
    model.wide_scale.data.fill_(0.7)
    assert largest_difference(model, [[3, 1], [2]], 1) < 1e-5


def test_weights_larger_than_one_file_are_rejected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_export, "MAX_BYTES", 1_000)
    model = TextClassifier(ModelConfig(cell="gru"), VOCABULARY, 2)
    with pytest.raises(ValueError, match="a single ONNX file can hold at most 1,000"):
        build_onnx(model)


@pytest.mark.parametrize("classes", [2, 3])
def test_probabilities_are_divided_by_the_temperature_and_logits_are_not(classes: int) -> None:
    generator = torch.Generator().manual_seed(1)
    config = ModelConfig(cell="gru", hidden_size=4, embedding_size=4)
    model = TextClassifier(config, VOCABULARY, classes, generator)
    exported = build_onnx(model, temperature=2.5).SerializeToString()
    session = ort.InferenceSession(exported, providers=["CPUExecutionProvider"])
    ids = torch.randint(0, VOCABULARY, (5, 3), generator=generator)
    lengths = torch.tensor([5, 2, 4])
    feeds = {"ids": ids.t().contiguous().numpy(), "lengths": lengths.numpy()}
    logits, probabilities = map(torch.from_numpy, session.run(None, feeds))
    with torch.inference_mode():
        torch.testing.assert_close(logits, model.eval()(ids, lengths), rtol=0, atol=1e-5)
    rows = torch.stack([torch.zeros_like(logits), logits], 1) if classes == 2 else logits
    torch.testing.assert_close(probabilities, (rows / 2.5).softmax(1), rtol=0, atol=1e-5)
