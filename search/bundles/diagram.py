"""Diagrams of a model: its layers, their shapes and weights, from text to probability."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from celltune.models.config import ModelConfig
from celltune.printable import printable
from celltune.search.bundles.bundle import check_alone, is_bundle, user_path
from celltune.search.bundles.bundle_reading import load_classifier_of
from celltune.search.config.given import check_given
from celltune.search.config.loading import resolve
from celltune.search.config.space import Choice, Dimension, model_and_training
from celltune.search.errors import ModelError, OptionError
from celltune.search.storage.locate import find_experiment
from celltune.search.types import ParameterValue
from celltune.search.wording import counted, describe_architecture
from celltune.spelling import closest_match

if TYPE_CHECKING:
    from celltune.models.network.classifier import TextClassifier

FORMATS = ("png", "svg", "pdf")
_COLORS = {
    "text": "#f2f2f2",
    "embedding": "#d7e8f7",
    "recurrent": "#fde3c0",
    "readout": "#e3f1d9",
    "output": "#ecdff2",
    "wide": "#fbe0e0",
}
_BOX_WIDTH, _BOX_HEIGHT = 3.5, 0.78
"""Size of a box, in inches."""
_GAP = 0.46
"""Distance between two boxes, in inches."""
_LONGEST_TEXT = 120
"""Characters of a line of text."""
_LINEAR = "linear, with naive Bayes log-count ratios"
_NGRAMS = "n-grams of the whole text"


@dataclass(frozen=True)
class Box:
    """One component of a model."""

    kind: str
    """Key of `_COLORS`."""
    title: str
    description: str
    num_weights: int = 0
    weights: str = ""
    """Text about the weights; empty: their number."""
    own_input: str = ""
    """What it reads instead of the output of the previous stage."""


@dataclass(frozen=True)
class Stage:
    """Components that work side by side, such as the two directions of a layer."""

    boxes: tuple[Box, ...]
    output_shape: str


@dataclass(frozen=True)
class WideAlone:
    """A model that is the wide part alone."""

    num_classes: int
    num_weights: int
    """0 if it is unknown."""


@dataclass(frozen=True)
class Diagram:
    """A model to draw."""

    classifier: TextClassifier | WideAlone
    max_tokens: int
    """Number of words that the model reads of a text."""
    title: str
    """The model in words."""
    note: str
    """Origin of the model; may be empty."""
    wide_weights: int = 0
    """Number of weights of the wide part next to the network; 0 if it is unknown."""

    def stages(self) -> list[Stage]:
        """Return the components from text to probability.

        Their weights are all of the classifier's and, if they are known, those of the wide part.
        """
        if isinstance(self.classifier, WideAlone):
            return _wide_stages(self.classifier)
        classifier, config = self.classifier, self.classifier.config
        vocabulary_size, embedding_size = classifier.embedding.shape
        num_logits, features = classifier.output_weight.shape
        output_weights = classifier.output_weight.numel() + classifier.output_bias.numel()
        readout_weights = sum(values.numel() for values in classifier.readout.parameters())
        dropout = _dropout_text(config.dropout)
        activation = ", relu" if config.output_relu else ""
        table = f"{vocabulary_size:,} words x {embedding_size}{dropout}"
        readout = f"{classifier.readout.description or config.readout}{activation}{dropout}"
        output = Box("output", "output layer", f"{features} to {num_logits}", output_weights)
        return [
            Stage((Box("text", "text", f"at most {self.max_tokens} words (T)"),), "T word ids"),
            Stage(
                (Box("embedding", "embedding", table, classifier.embedding.numel()),),
                f"T x {embedding_size}",
            ),
            *_recurrent_stages(classifier),
            Stage((Box("readout", "readout", readout, readout_weights),), f"{features}"),
            Stage((output, *_wide_boxes(classifier, self.wide_weights)), f"{num_logits}"),
            _probabilities(classifier.num_classes),
        ]

    def render(self, picture_format: str) -> bytes:
        """Return the content of a picture file.

        Args:
            picture_format: one of `FORMATS`.

        Raises:
            ModelError: matplotlib is not installed.
        """
        try:
            from matplotlib.backends.backend_agg import FigureCanvasAgg
            from matplotlib.figure import Figure
        except ImportError as error:
            raise ModelError(
                "Diagrams need matplotlib, which is not installed. Run pip install "
                "'celltune[graph]'."
            ) from error
        stages = self.stages()
        width = max(len(stage.boxes) for stage in stages) * (_BOX_WIDTH + _GAP) + 1.6
        height = len(stages) * (_BOX_HEIGHT + _GAP) + 0.9
        figure = Figure(figsize=(width, height))
        FigureCanvasAgg(figure)
        axes: Any = figure.add_axes((0, 0, 1, 1))
        axes.set(xlim=(0, width), ylim=(height, 0))
        axes.axis("off")
        total = sum(box.num_weights for stage in stages for box in stage.boxes)
        has_wide = any(box.own_input for box in stages[-2].boxes)
        # A config or a bundle does not tell the number of weights of the wide part.
        beside = " and the wide part" if has_wide and not self.wide_weights else ""
        subtitle = ", ".join(text for text in (f"{total:,} weights{beside}", self.note) if text)
        _write(axes, width / 2, 0.3, self.title, size=12, weight="bold")
        _write(axes, width / 2, 0.58, subtitle, size=8.5, color="#555555")
        _draw_stages(axes, stages, width)
        content = io.BytesIO()
        with warnings.catch_warnings():
            # A name may contain letters that the font lacks; they are drawn as boxes.
            warnings.filterwarnings("ignore", "Glyph .* missing from")
            figure.savefig(content, format=picture_format, dpi=150)
        return content.getvalue()


def diagram(
    source: str,
    *,
    trial: int | None = None,
    overrides: Sequence[str] = (),
    storage: Path | str | None = None,
) -> Diagram:
    """Return the diagram of a trial's model, or of a model in the space of a config.

    A space contains many models. The one with the first value of each choice and the middle of each
    range is drawn.

    Args:
        source: path of a config (.yaml or .yml) or of a bundle, or name of an experiment.
        trial: number of the experiment's trial; None: the best trial.
        overrides: changes of the config, each `key.path=value` or `~key.path`.
        storage: folder or URI of the experiments; None: $CELLTUNE_STORAGE or ~/celltune_results.

    Raises:
        InputError: an argument is invalid.
    """
    if source.endswith((".yaml", ".yml")):
        if trial is not None:
            raise OptionError(
                f"`trial` is {trial}, but the config {source} has no trials. Omit it."
            )
        return _config_diagram(source, overrides)
    if overrides:
        raise OptionError(
            "`overrides` can change a config, but not a trained model. Omit `overrides`."
        )
    path = user_path(source, "source")
    if is_bundle(path) or "/" in source:
        check_alone(path, trial=trial)
        return _bundle_diagram(path)
    return _trial_diagram(source, trial, storage)


def check_picture_format(picture_format: str) -> None:
    """Check that a picture format is one of `FORMATS`.

    Raises:
        OptionError: it is not.
    """
    if picture_format not in FORMATS:
        raise OptionError(
            f"'{picture_format}' is not a picture format. {closest_match(picture_format, FORMATS)}"
        )


def _trial_diagram(name: str, number: int | None, storage: Path | str | None) -> Diagram:
    from celltune.search.bundles.trial_model import load_trial_model

    model = load_trial_model(find_experiment(name, storage), number)
    architecture = describe_architecture(model.architecture)
    num_weights = int(model.epoch.metrics.get("parameters", 0))
    return Diagram(
        model.classifier or WideAlone(model.sizes[1], num_weights),
        model.config.data.max_tokens,
        title=f"{name}, trial {model.trial.number}: {architecture}",
        note=f"after epoch {model.epoch.epoch}",
        wide_weights=int(model.epoch.metrics.get("wide_parameters", 0)),
    )


def _bundle_diagram(path: Path) -> Diagram:
    config, classifier = load_classifier_of(path)
    model = config.architectures[0]
    origin = [f"{key} {config.origin[key]}" for key in ("trial", "epoch") if key in config.origin]
    return Diagram(
        classifier or WideAlone(len(config.classes), 0),
        config.text.max_tokens,
        title=f"{path.name}: {describe_architecture(model)}",
        note=" ".join([str(config.origin.get("experiment", "")), *origin]).strip(),
    )


def _config_diagram(path: str, overrides: Sequence[str]) -> Diagram:
    from celltune.models.network.classifier import TextClassifier

    config = resolve(path, overrides)
    check_given(config)
    searched = config.space.searched
    params = {**config.space.fixed, **{name: middle(searched[name]) for name in searched}}
    model = model_and_training(params)[0]
    vectors = config.data.vectors
    if vectors is not None and vectors.dimensions is not None:
        model = model.model_copy(update={"embedding_size": vectors.dimensions})
    names = ", ".join(name for name in ModelConfig.model_fields if name in searched)
    # The vocabulary also contains the unknown word and padding. Without data, two classes are
    # assumed.
    num_classes = len(config.data.classes or "01")
    classifier = (
        WideAlone(num_classes, 0)
        if model.wide == "only"
        else TextClassifier(model, config.data.vocabulary_size + 2, num_classes)
    )
    return Diagram(
        classifier,
        config.data.max_tokens,
        title=f"{config.name}: {describe_architecture(model)}",
        note=f"one model of the space; searched: {names}" if names else "",
    )


def middle(dimension: Dimension) -> ParameterValue:
    """Return the first value of a choice, or the middle of a range on the range's own scale."""
    if isinstance(dimension, Choice):
        return dimension.values[0]
    low, high = dimension.low, dimension.high
    value = (low * high) ** 0.5 if dimension.log else (low + high) / 2
    if dimension.step is not None:
        value = low + round((value - low) / dimension.step) * dimension.step
    return round(value) if dimension.integer else value


def _wide_stages(model: WideAlone) -> list[Stage]:
    """Return the components of a model that is the wide part alone."""
    num_logits = 1 if model.num_classes == 2 else model.num_classes
    return [
        Stage((Box("text", "text", "the whole text"),), _NGRAMS),
        Stage((Box("wide", "wide part", _LINEAR, model.num_weights),), f"{num_logits}"),
        _probabilities(model.num_classes),
    ]


def _wide_boxes(classifier: TextClassifier, num_weights: int) -> Iterator[Box]:
    if classifier.config.wide == "add":
        scale = f"scaled by {classifier.wide_scale.item():.2f}"
        total = num_weights + classifier.wide_scale.numel()
        yield Box(
            "wide",
            "wide part",
            _LINEAR,
            total,
            weights=f"{total:,} weights, {scale}" if num_weights else f"{scale}, a trained weight",
            own_input=_NGRAMS,
        )


def _probabilities(num_classes: int) -> Stage:
    link = "sigmoid" if num_classes == 2 else "softmax"
    return Stage((Box("text", link, f"probabilities of {num_classes} classes"),), "")


def _recurrent_stages(classifier: TextClassifier) -> Iterator[Stage]:
    config, stack = classifier.config, classifier.recurrent
    relu = " (relu)" if config.cell == "rnn" and config.nonlinearity == "relu" else ""
    for number, layer in enumerate(stack.layer_weights(), start=1):
        input_size = layer[0].weight_ih.shape[1]
        dropout = _dropout_text(config.between_layers) if number < stack.num_layers else ""
        directions = ("",) if len(layer) == 1 else (", forward", ", backward")
        boxes = tuple(
            Box(
                "recurrent",
                f"{config.cell}{relu}, layer {number}{direction}",
                f"{input_size} to {config.hidden_size}{dropout}",
                sum(tensor.numel() for tensor in weights if tensor is not None),
            )
            for weights, direction in zip(layer, directions, strict=True)
        )
        yield Stage(boxes, f"T x {len(layer) * config.hidden_size}")


def _dropout_text(share: float) -> str:
    return f", dropout {share:.2g}" if share else ""


def _draw_stages(axes: Any, stages: Sequence[Stage], width: float) -> None:
    top = 0.85
    previous_centers: list[float] = []
    for index, stage in enumerate(stages):
        count = len(stage.boxes)
        centers = [
            width / 2 + (place - (count - 1) / 2) * (_BOX_WIDTH + _GAP) for place in range(count)
        ]
        for center, box in zip(centers, stage.boxes, strict=True):
            _draw_box(axes, center, top, box)
        boxes = list(zip(centers, stage.boxes, strict=True))
        readers = [center for center, box in boxes if not box.own_input]
        if previous_centers:
            shape = stages[index - 1].output_shape
            _draw_arrows(axes, top, previous_centers, readers, shape)
        for center, box in boxes:
            if box.own_input:
                _draw_arrows(axes, top, [center], [center], box.own_input)
        previous_centers, top = centers, top + _BOX_HEIGHT + _GAP


def _draw_arrows(
    axes: Any, top: float, starts: Sequence[float], ends: Sequence[float], label: str
) -> None:
    """Draw an arrow from each start to each end, whose boxes begin at `top`, and their label."""
    for start in starts:
        for end in ends:
            arrow = {"arrowstyle": "-|>", "lw": 1}
            axes.annotate("", (end, top), (start, top - _GAP), arrowprops=arrow)
    _write(axes, max(*starts, *ends) + 0.12, top - _GAP / 2, label, ha="left", size=8.5)


def _draw_box(axes: Any, center: float, top: float, box: Box) -> None:
    from matplotlib.patches import FancyBboxPatch

    axes.add_patch(
        FancyBboxPatch(
            (center - _BOX_WIDTH / 2, top),
            _BOX_WIDTH,
            _BOX_HEIGHT,
            boxstyle="round,pad=0,rounding_size=0.08",
            facecolor=_COLORS[box.kind],
            edgecolor="#666666",
        )
    )
    lines = [box.description]
    if box.num_weights:
        lines.append(box.weights or counted(box.num_weights, "weight"))
    title_y = top + _BOX_HEIGHT / 2 - 0.1 * len(lines)
    _write(axes, center, title_y, box.title, size=10, weight="bold")
    for number, line in enumerate(lines, start=1):
        _write(axes, center, title_y + 0.2 * number, line, size=8.5)


def _write(axes: Any, x: float, y: float, text: str, **style: Any) -> None:
    """Write one line of text, centered, whose `$` do not begin a formula."""
    shown = printable(text, _LONGEST_TEXT)
    axes.text(x, y, shown, **{"ha": "center", "va": "center", "parse_math": False, **style})
