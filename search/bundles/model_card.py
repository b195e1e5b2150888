"""The pages of a bundle for its readers: the model card, and the terms of the data."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any

from celltune.data_prep.config import DataConfig
from celltune.data_prep.dataset.tensorized import PreparedData
from celltune.data_prep.extensions import SOURCES
from celltune.data_prep.text.tokenizers import has_subwords
from celltune.printable import quoted
from celltune.search.baselines.comparison import noise_text
from celltune.search.bundles.model_card_sections import (
    decision_sentences,
    usage,
    wide_section,
)
from celltune.search.bundles.trial_model import TrialModel
from celltune.search.escaping import (
    markdown_code,
    markdown_strong,
    markdown_table,
    markdown_text,
)
from celltune.search.ledger.evaluations import BaselineReported, EvaluationReported
from celltune.search.ledger.events import BaselineValidated
from celltune.search.metrics import difference_error
from celltune.search.objective import BY_ACCURACY, sign
from celltune.search.types import TRAINING_SPLITS, Metric
from celltune.search.version import VERSION
from celltune.search.wording import (
    CROSS_FITTED,
    NOT_ABOVE_MAJORITY,
    NOT_ABOVE_WIDE,
    WIDE_ONLY,
    counted,
    describe_architecture,
    difference_text,
    metric_range,
    metric_text,
    percent_text,
)

_ACCURACY = "valid_accuracy"


def model_card(model: TrialModel, data: PreparedData, *, has_onnx: bool) -> str:
    """Return the model card, in Markdown.

    Args:
        model: the exported model.
        data: the prepared data that it was trained on.
        has_onnx: whether the bundle contains model.onnx.
    """
    architecture = describe_architecture(model.architecture)
    sections = [
        f"# {markdown_text(f'{model.experiment}, trial {model.trial.number}: {architecture}')}",
        _introduction(model, data),
        "## Quality",
        _quality_table(model),
        _limits(model, data.classes),
        *wide_section(model, data),
        "## Training data",
        training_data(model.config.data, data, wide=model.architecture.wide),
        "## Usage",
        usage(data.num_classes, has_onnx=has_onnx, has_wide=model.architecture.wide != "none"),
        "## Hyperparameters",
        _hyperparameters(model),
    ]
    return "\n\n".join(sections) + "\n"


def data_terms(data: DataConfig) -> str:
    """Return the page about the origin and the terms of the data, in Markdown."""
    provenance = SOURCES.load(data.source).provenance(data)
    paragraphs = [
        "# Terms of the data",
        f"The model was trained on {markdown_text(provenance.description, links=True)}.",
        markdown_text(provenance.terms, links=True),
        "`vocabulary.json` contains single words of these texts, but no complete text.",
    ]
    if data.wide is not None:
        paragraphs.append(
            "`wide.safetensors`, if the model has a wide part, contains words and n-grams of at "
            f"most {data.wide.words} words, but no complete text that is longer."
        )
    if data.vectors is not None:
        settings = markdown_code(
            json.dumps(data.vectors.model_dump(mode="json", exclude_none=True))
        )
        paragraphs.append(
            f"Training started from word vectors (`data.vectors`: {settings}). If they were "
            "published by others, their terms apply as well. The GloVe vectors are in the public "
            "domain (PDDL)."
        )
    return "\n\n".join(paragraphs) + "\n"


def _introduction(model: TrialModel, data: PreparedData) -> str:
    names = ", ".join(map(markdown_code, data.classes))
    kind = {
        "none": "recurrent text classifier",
        "add": "recurrent text classifier with a wide part",
        "only": "linear text classifier",
    }[model.architecture.wide]
    metric = markdown_text(model.config.metric)
    weights = (
        f"Its weights are those of trial {model.trial.number} after epoch {model.epoch.epoch} of "
        f"{model.trial.epochs_done}, the trial's best epoch by {metric}."
    )
    if model.classifier is None:
        weights = (
            f"It is trial {model.trial.number}, {WIDE_ONLY}, which was fitted to the training "
            "split when the data was prepared."
        )
    return (
        f"A {kind} for the classes {names}. It was found by a search of "
        f"{counted(model.config.budget.trials, 'trial')} with celltune {VERSION}. {weights}"
    )


def _quality_table(model: TrialModel) -> str:
    metrics = model.epoch.metrics
    formats: dict[str, tuple[str, Callable[[float], str]]] = {
        "valid_accuracy": ("Validation accuracy", percent_text),
        "valid_loss": ("Validation cross-entropy", "{:.4f}".format),
        "train_accuracy": ("Training accuracy (during the epoch, with dropout)", percent_text),
        "parameters": ("Parameters", "{:,.0f}".format),
        "seconds": ("Training time per epoch, in seconds", "{:.1f}".format),
    }
    if model.classifier is None:
        formats["train_accuracy"] = (CROSS_FITTED, percent_text)
        del formats["seconds"]  # of reading the outputs; the model was fitted with the data
    metric = model.config.metric
    formats.setdefault(metric, (metric, partial(metric_text, metric)))
    rows = [
        (label, to_text(metrics[name]))
        for name, (label, to_text) in formats.items()
        if name in metrics
    ]
    created = model.created
    if created is not None and created.majority_accuracy is not None:
        rows.insert(1, majority_row(created.majority_class, created.majority_accuracy))
    rows[1:1] = validated_rows(model.validated)
    rows += _others_by_metric(model)
    rows += _test_rows(model.evaluations, metric)
    rows += baseline_rows(model.baselines, metric)
    return metrics_table(rows)


def metrics_table(rows: Sequence[tuple[str, str]]) -> str:
    """Return names of metrics and their values as a table in Markdown."""
    return markdown_table(("metric", "value"), rows)


def majority_row(label: str | None, accuracy: float) -> tuple[str, str]:
    """Return the validation accuracy of always predicting one class."""
    name = f"Validation accuracy of always predicting {quoted(label or '')}"
    return name, percent_text(accuracy)


def validated_rows(baselines: Iterable[BaselineValidated]) -> list[tuple[str, str]]:
    """Return the validation accuracy of each baseline."""
    return [
        (
            f"Validation accuracy of the linear baseline {quoted(event.name)}",
            percent_text(event.valid_accuracy),
        )
        for event in baselines
    ]


def _others_by_metric(model: TrialModel) -> Iterator[tuple[str, str]]:
    """Yield the scores of simpler models by the search's metric, if it is not accuracy or loss."""
    metric = model.config.metric
    if metric in BY_ACCURACY:
        return
    majority = model.created.majority_score(metric) if model.created else None
    if model.created is not None and majority is not None:
        label = quoted(model.created.majority_class or "")
        yield f"{metric} of always predicting {label}", metric_text(metric, majority)
    for event in model.validated:
        if (value := event.score(metric)) is not None:
            name = f"{metric} of the linear baseline {quoted(event.name)}"
            yield name, metric_text(metric, value)


def _shown_scores(metric: Metric) -> tuple[Metric, ...]:
    """Return the metrics whose values on the test split are shown."""
    return (_ACCURACY,) if metric in BY_ACCURACY else (_ACCURACY, metric)


def _test_rows(
    evaluations: Sequence[EvaluationReported], metric: Metric
) -> Iterator[tuple[str, str]]:
    """Yield the test scores of the retrained models, for each kind of training data."""
    for name in _shown_scores(metric):
        by_data: dict[str, list[float]] = {}
        for event in evaluations:
            if (value := event.score(name)) is not None:
                by_data.setdefault(event.on, []).append(value)
        for on, values in by_data.items():
            mean = metric_text(name, sum(values) / len(values))
            label = f"Test {name.removeprefix('valid_')} after retraining on {on}"
            if len(values) == 1:
                yield f"{label} (one seed)", mean
                continue
            bounds = metric_range(name, min(values), max(values))
            yield f"{label} (mean of {len(values)} seeds, minimum to maximum)", f"{mean} ({bounds})"


def baseline_rows(
    baselines: Sequence[BaselineReported], metric: Metric = _ACCURACY
) -> Iterator[tuple[str, str]]:
    """Yield the test scores of each baseline, for each kind of training data."""
    for event in sorted(baselines, key=lambda event: (event.on, event.name)):
        model = f"the linear baseline {quoted(event.name)}, trained on {event.on}"
        for name in _shown_scores(metric):
            if (value := event.score(name)) is not None:
                yield f"Test {name.removeprefix('valid_')} of {model}", metric_text(name, value)


def _comparison(model: TrialModel) -> Iterator[str]:
    """Yield sentences on whether a simpler model was better."""
    if model.beats_majority is False:
        yield f"**The model is {NOT_ABOVE_MAJORITY}; it should not be used.**"
    if model.beats_wide is False:
        yield (
            f"**The model is {NOT_ABOVE_WIDE}.** The wide part alone is a trial of the same "
            "search, and simpler."
        )
    if model.comparison is not None:
        sentence = model.comparison.sentence("The model")
        yield (markdown_strong if model.comparison.linear_wins else markdown_text)(sentence)
    yield from _better_baselines(model)
    if model.evaluations and not model.baselines:
        yield "The model was not compared with a linear baseline on the test split."


def _better_baselines(model: TrialModel) -> Iterator[str]:
    """Yield which baseline was better on the test split, for each kind of training data."""
    results = [*model.evaluations, *model.baselines]
    *_, by = _shown_scores(model.config.metric)
    if any(event.score(by) is None for event in results):
        by = _ACCURACY
    for on in TRAINING_SPLITS:
        own = [event.score(by) or 0.0 for event in model.evaluations if event.on == on]
        others = [(event, event.score(by) or 0.0) for event in model.baselines if event.on == on]
        if not own or not others:
            continue
        best, value = max(others, key=lambda item: sign(by) * item[1])
        mean = sum(own) / len(own)
        difference = sign(by) * (value - mean)
        if difference <= 0:
            continue
        error = difference_error(value, mean, best.documents)
        noise = f"; {noise_text(difference, error)}" if by == _ACCURACY else ""
        yield (
            f"**A linear baseline was better:** trained on {on}, {markdown_code(best.name)} "
            f"exceeds the retrained model by {difference_text(by, difference).removeprefix('+')} "
            f"of test {by.removeprefix('valid_')}{noise}."
        )


def _limits(model: TrialModel, classes: Sequence[str]) -> str:
    chosen = "trial was" if model.classifier is None else "trial and the epoch were"
    sentences = [
        *_comparison(model),
        f"The {chosen} chosen by {markdown_text(model.config.metric)}, so the validation figures "
        "are slightly better than the figures to expect on new texts.",
    ]
    if not model.evaluations:
        sentences.append("The model was not evaluated on a test split.")
    tested = [event.metrics for event in model.evaluations]
    sentences += decision_sentences(model.decision, classes, model.epoch.metrics, tested)
    return " ".join(sentences)


def training_data(config: DataConfig, data: PreparedData, *, wide: str = "none") -> str:
    """Return the section about the documents that a model was trained on.

    Args:
        config: of the data.
        data: the prepared data.
        wide: `ModelConfig.wide` of the model. The wide part reads the whole texts.
    """
    provenance = SOURCES.load(config.source).provenance(config)
    subwords = has_subwords(config.tokenizer)
    subject = "For the network, texts" if wide == "add" else "Texts"
    parts, further = ("subwords", ", and words into subwords") if subwords else ("words", "")
    lines = [
        f"The texts are {markdown_text(provenance.description, links=True)}; their terms are in "
        "[DATA-TERMS.md](DATA-TERMS.md).",
        "",
        *(
            _split_line(name, data.info[name], wide)
            for name in ("train", "valid")
            if name in data.info
        ),
        "- The whole texts are read; none is truncated."
        if wide == "only"
        else f"- {subject} are split into words by the tokenizer "
        f"{markdown_code(config.tokenizer)}{further}, and truncated to {config.max_tokens} {parts} "
        f"(`keep: {config.keep}`).",
    ]
    return "\n".join(lines)


def _split_line(name: str, counts: Any, wide: str) -> str:
    classes = ", ".join(
        f"{markdown_text(label)}: {count:,}" for label, count in counts["classes"].items()
    )
    documents = f"- {name}: {counted(counts['reviews'], 'document')} ({classes})"
    if wide == "only":
        return documents
    unknown = percent_text(counts["unknown_share"], digits=1)
    return (
        f"{documents} with "
        f"{counted(counts['tokens'], 'word')}, {unknown} of them unknown; "
        f"{counted(counts['cut_reviews'], 'document')} truncated"
    )


def _hyperparameters(model: TrialModel) -> str:
    settings = model.trial.params
    if model.classifier is not None:
        settings = {**model.architecture.model_dump(mode="json"), **model.trial.params}
    return "```json\n" + json.dumps(settings, indent=2) + "\n```"
