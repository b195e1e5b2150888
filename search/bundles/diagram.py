"""A picture of a model: layers, shapes and weights, from text to probability.

Drawn with matplotlib from the classifier's own parameters, so it needs no program beside Python.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from celltune.models.config import ModelConfig
from celltune.search.config.loading import resolve
from celltune.search.config.schema import SearchConfig
from celltune.search.config.space import Choice, Dimension, split
from celltune.search.errors import ModelError, OptionError
from celltune.search.storage.base import storage_root
from celltune.search.storage.locate import find_experiment
from celltune.search.wording import describe_params
from celltune.spelling import closest_match

if TYPE_CHECKING:
    from celltune.models.network.classifier import TextClassifier

FORMATS = ("png", "svg", "pdf")
_READOUTS = {
    "final": "each direction's final state",
    "mean": "mean over the words",
    "max": "maximum over the words",
    "last_two_layers": "final states of the last two layers",
}
_COLOURS = {
    "text": "#f2f2f2",
    "embedding": "#d7e8f7",
    "recurrent": "#fde3c0",
    "readout": "#e3f1d9",
    "output": "#ecdff2",
}
_WIDTH, _HEIGHT, _GAP = 3.5, 0.78, 0.46
"""Of a box, and between two rows, in inches."""


@dataclass(frozen=True)
class Box:
    """One part of a model."""

    kind: str
    title: str
    about: str
    weights: int = 0


@dataclass(frozen=True)
class Row:
    """Parts side by side, and the shape of what leaves them."""

    boxes: tuple[Box, ...]
    leaves: str


@dataclass(frozen=True)
class _Subject:
    model: ModelConfig
    vocabulary_size: int
    classes: int
    max_tokens: int
    title: str
    note: str


@dataclass(frozen=True)
class Drawing:
    """A drawn model."""

    picture: bytes
    """The content of the picture file."""
    title: str
    """The model in words."""


def draw(
    source: str,
    form: str,
    *,
    trial: int | None = None,
    overrides: Sequence[str] = (),
    storage: Path | str | None = None,
) -> Drawing:
    """Draw the model of a config or of an experiment's trial.

    Args:
        source: a YAML file, or the name of an experiment.
        form: the picture's format, one of `FORMATS`.
        trial: number of the experiment's trial; None: the best one.
        overrides: of the config, `key.path=value` each.
        storage: the folder of experiments; None: $CELLTUNE_STORAGE or ~/celltune_results.

    Raises:
        InputError: an argument is invalid.
    """
    if form not in FORMATS:
        raise OptionError(f"'{form}' is not a picture format. {closest_match(form, FORMATS)}")
    is_config = source.endswith((".yaml", ".yml"))
    if is_config and trial is not None:
        raise OptionError("trial selects a trial of an experiment; a config has none. Omit it.")
    if not is_config and overrides:
        raise OptionError("overrides change a config; a trial is fixed. Omit them.")
    subject = _of_config(source, overrides) if is_config else _of_trial(source, trial, storage)
    return Drawing(_picture(subject, form), subject.title)


def _of_trial(name: str, number: int | None, storage: Path | str | None) -> _Subject:
    from celltune.search.bundles.export import load_best_epoch

    found = load_best_epoch(find_experiment(name, storage_root(storage)), number)
    return _Subject(
        found.model,
        len(found.tensors["embedding"]),
        found.classes,
        found.config.data.max_tokens,
        f"{name}, trial {found.trial.number}: {_described(found.model)}",
        f"weights of epoch {found.epoch.epoch}",
    )


def _of_config(path: str, overrides: Sequence[str]) -> _Subject:
    config = resolve(path, overrides)
    params = {**config.space.fixed}
    params.update({name: middle(each) for name, each in config.space.searched.items()})
    model = split(params)[0]
    searched = [name for name in ModelConfig.model_fields if name in config.space.searched]
    note = f"one model of the space; searched: {', '.join(searched)}" if searched else ""
    size = _vector_size(config)
    return _Subject(
        model.model_copy(update={"embedding_size": size}) if size else model,
        config.data.vocabulary_size + 2,
        len(config.data.classes or ("0", "1")),
        config.data.max_tokens,
        f"{config.name}: {_described(model)}",
        note,
    )


def _vector_size(config: SearchConfig) -> int | None:
    """The size of the config's word vectors where it is known without reading them."""
    vectors = config.data.vectors
    if vectors is None or "embedding_size" in config.space.fixed:
        return None
    if vectors.train is not None:
        return vectors.size
    named = re.search(r"(\d+)d$", vectors.name or "")
    return int(named[1]) if named else None


def middle(dimension: Dimension) -> Any:
    """The first of a choice; the middle of a range, on its own scale."""
    if isinstance(dimension, Choice):
        return dimension.values[0]
    low, high = dimension.low, dimension.high
    value = (low * high) ** 0.5 if dimension.log else (low + high) / 2
    if dimension.step is not None:
        value = low + round((value - low) / dimension.step) * dimension.step
    return round(value) if dimension.integer else value


def _described(model: ModelConfig) -> str:
    names = ("cell", "hidden_size", "num_layers", "bidirectional")
    return describe_params({name: getattr(model, name) for name in names})


def rows(
    classifier: TextClassifier, vocabulary_size: int, classes: int, max_tokens: int
) -> list[Row]:
    """The parts of a classifier from text to probability; their weights add up to all it has."""
    config = classifier.config
    parts = [
        Row((Box("text", "text", f"at most {max_tokens} words, T of them"),), "T word ids"),
        Row(
            (
                Box(
                    "embedding",
                    "embedding",
                    f"{vocabulary_size:,} words x {config.embedding_size}{_drop(config.dropout)}",
                    classifier.embedding.numel(),
                ),
            ),
            f"T x {config.embedding_size}",
        ),
        *_layers(classifier),
    ]
    features = classifier.output_weight.shape[1]
    shape = _READOUTS[config.readout] + (", relu" if config.output_relu else "")
    parts.append(
        Row((Box("readout", "readout", f"{shape}{_drop(config.dropout)}"),), f"{features}")
    )
    logits, bias = classifier.output_weight, classifier.output_bias
    weights = logits.numel() + bias.numel()
    linear = Box("output", "output layer", f"{features} to {len(bias)}", weights)
    curve = "sigmoid" if classes == 2 else "softmax"
    return [
        *parts,
        Row((linear,), f"{len(bias)}"),
        Row((Box("text", curve, f"probabilities of {classes} classes"),), ""),
    ]


def _layers(classifier: TextClassifier) -> Iterator[Row]:
    config, stack = classifier.config, classifier.recurrent
    curve = " (relu)" if config.cell == "rnn" and config.nonlinearity == "relu" else ""
    for number, layer in enumerate(stack.layer_weights()):
        below = layer[0].weight_ih.shape[1]
        last = number == stack.num_layers - 1
        boxes = tuple(
            Box(
                "recurrent",
                f"{config.cell}{curve}, layer {number + 1}{way}",
                f"{below} to {config.hidden_size}{'' if last else _drop(config.between_layers)}",
                sum(values.numel() for values in weights if values is not None),
            )
            for weights, way in zip(layer, _ways(len(layer)), strict=True)
        )
        yield Row(boxes, f"T x {len(layer) * config.hidden_size}")


def _ways(directions: int) -> tuple[str, ...]:
    return ("",) if directions == 1 else (", forwards", ", backwards")


def _drop(share: float) -> str:
    return f", dropout {share:.2g}" if share else ""


def _picture(subject: _Subject, form: str) -> bytes:
    from celltune.models.network.classifier import TextClassifier

    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ModelError(
            "celltune graph needs matplotlib, which isn't installed; run "
            "pip install 'celltune[graph]'."
        ) from error
    classifier = TextClassifier(subject.model, subject.vocabulary_size, subject.classes)
    parts = rows(classifier, subject.vocabulary_size, subject.classes, subject.max_tokens)
    width = max(len(row.boxes) for row in parts) * (_WIDTH + _GAP) + 1.6
    height = len(parts) * (_HEIGHT + _GAP) + 0.9
    figure = Figure(figsize=(width, height))
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, width), ylim=(height, 0))
    axes.axis("off")
    total = sum(values.numel() for values in classifier.parameters())
    axes.text(width / 2, 0.3, subject.title, ha="center", va="center", size=12, weight="bold")
    under = ", ".join(part for part in (f"{total:,} weights", subject.note) if part)
    axes.text(width / 2, 0.58, under, ha="center", va="center", size=8.5, color="#555555")
    _draw_rows(axes, parts, width)
    content = io.BytesIO()
    figure.savefig(content, format=form, dpi=150)
    return content.getvalue()


def _draw_rows(axes: Any, parts: Sequence[Row], width: float) -> None:
    top, above = 0.85, list[float]()
    for number, row in enumerate(parts):
        count = len(row.boxes)
        centres = [width / 2 + (i - (count - 1) / 2) * (_WIDTH + _GAP) for i in range(count)]
        for centre, box in zip(centres, row.boxes, strict=True):
            _draw_box(axes, centre, top, box)
        for start in above:
            for end in centres:
                axes.annotate(
                    "", (end, top), (start, top - _GAP), arrowprops={"arrowstyle": "-|>", "lw": 1}
                )
        if above:
            side = max(*above, *centres)
            axes.text(side + 0.12, top - _GAP / 2, parts[number - 1].leaves, va="center", size=8.5)
        above, top = centres, top + _HEIGHT + _GAP


def _draw_box(axes: Any, centre: float, top: float, box: Box) -> None:
    from matplotlib.patches import FancyBboxPatch

    axes.add_patch(
        FancyBboxPatch(
            (centre - _WIDTH / 2, top),
            _WIDTH,
            _HEIGHT,
            boxstyle="round,pad=0,rounding_size=0.08",
            facecolor=_COLOURS[box.kind],
            edgecolor="#666666",
        )
    )
    lines = [box.about, *([f"{box.weights:,} weights"] if box.weights else [])]
    first = top + _HEIGHT / 2 - 0.1 * len(lines)
    axes.text(centre, first, box.title, ha="center", va="center", size=10, weight="bold")
    for number, line in enumerate(lines, 1):
        axes.text(centre, first + 0.2 * number, line, ha="center", va="center", size=8.5)
