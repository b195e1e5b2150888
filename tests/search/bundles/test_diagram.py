from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.text import Annotation

from celltune.models.config import ModelConfig
from celltune.models.extensions import CELLS, READOUTS
from celltune.models.network.classifier import TextClassifier
from celltune.search.bundles.bundle import write_bundle
from celltune.search.bundles.bundle_config import BundleConfig, BundleMember
from celltune.search.bundles.diagram import Diagram, WideAlone, _draw_stages, diagram, middle
from celltune.search.bundles.export import export
from celltune.search.config.space import Choice, Range
from celltune.search.errors import ConfigError, ModelError
from celltune.search.storage.local import LocalExperiment
from tests.search.bundles.test_wide import RULES, WIDE, WORDS
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
    shown = Diagram(classifier, 5, title="model", note="", wide_weights=100)
    output, wide = shown.stages()[-2].boxes
    assert (output.own_input, wide.own_input) == ("", "n-grams of the whole text")
    assert wide.weights == "101 weights, scaled by 1.00"
    drawn = sum(box.num_weights for stage in shown.stages() for box in stage.boxes)
    assert drawn == 100 + sum(tensor.numel() for tensor in classifier.parameters())
    assert shown.render("svg").startswith(b"<?xml")
    unknown = Diagram(classifier, 5, title="model", note="").stages()[-2].boxes[1]
    assert (unknown.num_weights, unknown.weights) == (1, "scaled by 1.00, a trained weight")


def test_arrows_lead_to_their_readers_and_labels_stand_beside_them() -> None:
    from matplotlib.figure import Figure

    classifier = TextClassifier(ModelConfig(cell="gru", hidden_size=60, wide="add"), 9, 2)
    axes = Figure().add_axes((0, 0, 1, 1))
    _draw_stages(axes, Diagram(classifier, 5, title="", note="").stages(), 9.0)
    arrows = [text for text in axes.texts if isinstance(text, Annotation)]
    places = {text.get_text(): text.get_position() for text in axes.texts}
    output, wide = (places[title][0] for title in ("output layer", "wide part"))
    (own,) = (arrow for arrow in arrows if arrow.xy[0] == arrow.get_position()[0] == wide)
    assert places["n-grams of the whole text"][0] == pytest.approx(wide + 0.12)
    assert output < places["60"][0] < wide - 1.5
    assert own.xy[1] > places["n-grams of the whole text"][1]


@pytest.mark.parametrize("trial", [0, 1], ids=["only", "add"])
def test_bundle_is_drawn_like_the_trial(
    trial: int, wide_trials: LocalExperiment, tmp_path: Path
) -> None:
    export("wide", tmp_path / "model", trial=trial)
    of_bundle, of_trial = diagram(str(tmp_path / "model")), diagram("wide", trial=trial)
    assert of_bundle.stages()[:-2] == of_trial.stages()[:-2]
    assert of_bundle.stages()[-1] == of_trial.stages()[-1]
    assert of_bundle.title == of_trial.title.replace(f"wide, trial {trial}", "model")
    assert re.fullmatch(rf"wide trial {trial} epoch \d", of_bundle.note)
    with pytest.raises(ModelError, match=r"`trial` is 1, but .* is a bundle, .* Omit `trial`"):
        diagram(str(tmp_path / "model"), trial=1)


def test_bundle_of_an_ensemble_is_not_drawn(tmp_path: Path) -> None:
    member = BundleMember(model=ModelConfig(wide="only"), weight=0.5)
    config = BundleConfig(members=(member, member), text=RULES, classes=("a", "b"))
    write_bundle(tmp_path / "model", config, WORDS, {}, {}, WIDE[2])
    with pytest.raises(ModelError, match=r"contains an ensemble of 2 models\. Give the bundle of"):
        diagram(str(tmp_path / "model"))
    with pytest.raises(ModelError, match=r"There is no bundle .*none\."):
        diagram(str(tmp_path / "none"))


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


def test_too_large_models_are_rejected_before_they_are_made(tmp_path: Path) -> None:
    config = tmp_path / "c.yaml"
    config.write_text(yaml.safe_dump(RAW))
    with pytest.raises(ConfigError, match=r"space\.hidden_size is 1e\+30\. It must be at most"):
        diagram(str(config), overrides=[f"space.hidden_size={10**30}"])


def test_missing_matplotlib_names_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    config = tmp_path / "demo.yaml"
    config.write_text(yaml.safe_dump(RAW))
    with pytest.raises(ModelError, match=r"pip install 'celltune\[graph\]'"):
        diagram(str(config)).render("png")
