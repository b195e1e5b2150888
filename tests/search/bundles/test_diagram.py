from __future__ import annotations

import sys
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from celltune.models.config import ModelConfig
from celltune.models.extensions import CELLS, READOUTS
from celltune.models.network.classifier import TextClassifier
from celltune.search.bundles.diagram import Diagram, WideAlone, diagram, middle
from celltune.search.config.space import Choice, Range
from celltune.search.errors import ModelError
from tests.search.simulated_search import RAW


@settings(max_examples=25, deadline=None)
@given(
    cell=st.sampled_from(CELLS.names()),
    layers=st.integers(2, 3),
    both=st.booleans(),
    classes=st.integers(2, 4),
    readout=st.sampled_from(READOUTS.names()),
)
def test_diagram_contains_every_weight(
    cell: str, layers: int, both: bool, classes: int, readout: str
) -> None:
    config = ModelConfig(
        cell=cell, hidden_size=3, num_layers=layers, bidirectional=both, readout=readout
    )
    classifier = TextClassifier(config, 9, classes)
    stages = Diagram(classifier, 5, title="", note="").stages()
    drawn = sum(box.num_weights for stage in stages for box in stage.boxes)
    assert drawn == sum(tensor.numel() for tensor in classifier.parameters())
    assert [len(stage.boxes) for stage in stages].count(2) == (layers if both else 0)
    assert stages[-2].output_shape == str(1 if classes == 2 else classes)


def test_wide_part_is_drawn_next_to_the_output_layer() -> None:
    classifier = TextClassifier(ModelConfig(cell="gru", hidden_size=3, wide="add"), 9, 2)
    shown = Diagram(classifier, 5, title="model", note="")
    output, wide = shown.stages()[-2].boxes
    assert (output.reads_previous, wide.reads_previous) == (True, False)
    assert wide.description == "n-grams of the whole text, scaled by 1.00"
    drawn = sum(box.num_weights for stage in shown.stages() for box in stage.boxes)
    assert drawn == sum(tensor.numel() for tensor in classifier.parameters())
    assert shown.render("svg").startswith(b"<?xml")


@pytest.mark.parametrize("classes", [2, 3])
def test_wide_part_alone_is_drawn_without_a_network(classes: int) -> None:
    shown = Diagram(WideAlone(classes, 7), 5, title="model", note="")
    boxes = [box for stage in shown.stages() for box in stage.boxes]
    assert [box.title for box in boxes[:2]] == ["text", "wide part"]
    assert boxes[2].description == f"probabilities of {classes} classes"
    assert sum(box.num_weights for box in boxes) == 7
    assert shown.render("svg").startswith(b"<?xml")


@pytest.mark.parametrize(
    ("dimension", "value"),
    [
        (Choice(("lstm", "gru")), "lstm"),
        (Range(16, 64, log=True, integer=True), 32),
        (Range(0.0, 0.5), 0.25),
        (Range(0, 10, step=4, integer=True), 4),
    ],
)
def test_middle_of_choices_and_ranges(dimension: Choice | Range, value: object) -> None:
    assert middle(dimension) == value


def test_missing_matplotlib_names_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    config = tmp_path / "demo.yaml"
    config.write_text(yaml.safe_dump(RAW))
    with pytest.raises(ModelError, match=r"pip install 'celltune\[graph\]'"):
        diagram(str(config)).render("png")
