"""The model card of a linear model."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from celltune.search.baselines.comparison import compare_score, noise_text
from celltune.search.bundles.model_card import (
    majority_row,
    metrics_table,
    training_data,
    validated_rows,
)
from celltune.search.bundles.model_card_sections import ngram_lines, usage
from celltune.search.escaping import markdown_code, markdown_text
from celltune.search.metrics import difference_error
from celltune.search.types import is_wide_only
from celltune.search.version import VERSION
from celltune.search.wording import counted, percent_text, points_text

if TYPE_CHECKING:
    from celltune.search.bundles.linear import LinearModel


def linear_card(model: LinearModel) -> str:
    """Return the model card, in Markdown."""
    sections = [
        f"# {markdown_text(model.experiment)}: linear model on n-grams",
        _introduction(model),
        "## Quality",
        metrics_table(list(_rows(model))),
        " ".join(_sentences(model)),
        "## N-grams",
        "\n".join(ngram_lines(model.settings, model.info)),
        "## Training data",
        training_data(model.config.data, model.data, wide="only"),
        "## Usage",
        usage(model.data.num_classes, has_onnx=False, has_wide=True),
    ]
    return "\n\n".join(sections) + "\n"


def versus_best_trial(model: LinearModel) -> str:
    """Return a sentence that compares the model with the best trial; empty if there is none."""
    ranked = model.state.ranked(model.config.metric)
    best = ranked[0].best(model.config.metric) if ranked else None
    accuracy = best.metrics.get("valid_accuracy") if best else None
    if accuracy is None:
        return ""
    if is_wide_only(ranked[0].params):
        return f"The linear model is the best trial ({ranked[0].number})."
    documents, difference = len(model.data.valid), model.valid_accuracy - accuracy
    trial = f"the best trial ({ranked[0].number}, {percent_text(accuracy)})"
    where = f"on {counted(documents, 'validation document')}"
    if difference == 0:
        return f"The linear model is as good as {trial} {where}."
    points = points_text(abs(difference)).removeprefix("+")
    noise = noise_text(difference, difference_error(model.valid_accuracy, accuracy, documents))
    word = "better" if difference > 0 else "worse"
    return f"The linear model is {points} {word} than {trial} {where}; {noise}."


def _introduction(model: LinearModel) -> str:
    names = ", ".join(map(markdown_code, model.data.classes))
    return (
        f"A linear text classifier for the classes {names}: a logistic regression on n-grams of "
        f"words and characters, weighted by naive Bayes log-count ratios (Wang & Manning 2012). It "
        f"was fitted to the training split of the search {markdown_code(model.experiment)} with "
        f"celltune {VERSION}. {_same_trial(model)}"
    )


def _same_trial(model: LinearModel) -> str:
    """Return which trial the model is, as a sentence."""
    trials = model.state.trials
    same = next((trial.number for trial in trials if is_wide_only(trial.params)), None)
    return "It is none of its trials." if same is None else f"It is the model of its trial {same}."


def _rows(model: LinearModel) -> Iterator[tuple[str, str]]:
    yield "Validation accuracy", percent_text(model.valid_accuracy)
    yield "Validation cross-entropy", f"{model.valid_loss:.4f}"
    created = model.state.created
    if created is not None and created.majority_accuracy is not None:
        yield majority_row(created.majority_class, created.majority_accuracy)
    yield from validated_rows(model.state.validated.values())


def _sentences(model: LinearModel) -> Iterator[str]:
    if sentence := versus_best_trial(model):
        yield sentence
    comparison = compare_score(model.state, model.valid_accuracy, "valid_accuracy", is_wide=True)
    if comparison is not None:
        yield markdown_text(f"{comparison.clause('The linear model')}.")
    yield (
        "The strength of the L2 penalty was chosen by the validation cross-entropy, so the "
        "validation figures are slightly better than the figures to expect on new texts. The model "
        "was not evaluated on a test split. The probabilities are not calibrated."
    )
