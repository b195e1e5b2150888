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
from celltune.search.bundles.diagram import Diagram, diagram, middle
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
