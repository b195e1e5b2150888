"""The model card of an ensemble."""

from __future__ import annotations

from collections.abc import Iterator

from celltune.search.baselines.comparison import (
    Comparison,
    best_linear_model,
    compared_metric,
)
from celltune.search.bundles.ensemble_model import EnsembleModel
from celltune.search.bundles.model_card import (
    baseline_rows,
    majority_row,
    metrics_table,
    training_data,
    validated_rows,
)
from celltune.search.bundles.model_card_sections import decision_sentences, usage
from celltune.search.ensembles.wording import (
    ensemble_sentences,
    ensemble_title,
    member_name,
)
from celltune.search.escaping import (
    markdown_code,
    markdown_strong,
    markdown_table,
    markdown_text,
)
from celltune.search.ledger.ensembles import total_parameters
from celltune.search.objective import sign
from celltune.search.types import Metric
from celltune.search.version import VERSION
from celltune.search.wording import (
    describe_params,
    loss_text,
    metric_text,
    percent_text,
    points_text,
)


def ensemble_card(model: EnsembleModel) -> str:
    """Return the model card, in Markdown."""
    title = ensemble_title(model.selected)
    has_wide = model.wide is not None
    sections = [
        f"# {markdown_text(f'{model.experiment}, {title}')}",
        _introduction(model),
        "## Quality and cost",
        _quality_table(model),
        " ".join(
            [
                *_comparison(model),
                *map(markdown_text, ensemble_sentences(model.selected)),
                *_limits(model),
            ]
        ),
        "## Members",
        _members_table(model),
        "## Training data",
        training_data(model.config.data, model.data, wide="add" if has_wide else "none"),
        "## Usage",
        usage(model.data.num_classes, has_onnx=False, has_wide=has_wide),
    ]
    return "\n\n".join(sections) + "\n"


def _introduction(model: EnsembleModel) -> str:
    names = ", ".join(map(markdown_code, model.data.classes))
    return (
        f"An ensemble of text classifiers for the classes {names}: the weighted average of their "
        f"probabilities. They were trained by a search with celltune {VERSION} and selected by "
        "greedy forward selection with replacement (Caruana et al., ICML 2004) on the validation "
        "split. They share one vocabulary."
    )


def _quality_table(model: EnsembleModel) -> str:
    selected, state = model.selected, model.state
    single = f"the best single trial ({member_name(selected.best)})"
    rows = [
        ("Estimated validation accuracy", percent_text(selected.ensemble.estimated_accuracy)),
        (f"The same of {single}", percent_text(selected.single.estimated_accuracy)),
        ("Estimated validation cross-entropy", loss_text(selected.ensemble.estimated_loss)),
        (f"The same of {single}", loss_text(selected.single.estimated_loss)),
        ("Parameters", f"{total_parameters(selected.members):,}"),
        (f"Parameters of {single}", f"{selected.best.parameters:,}"),
    ]
    created, scores = state.created, state.ensemble_scores
    if (value := selected.fitted.get(selected.metric)) is not None:
        name = f"{selected.metric} on the documents that selected it"
        rows.append((name, metric_text(selected.metric, value)))
    if created is not None and created.majority_accuracy is not None:
        rows.append(majority_row(created.majority_class, created.majority_accuracy))
    rows += validated_rows(state.validated.values())
    if scores is not None:
        rows.append(("Test accuracy", percent_text(scores.metrics["test_accuracy"])))
        rows.append(("Test cross-entropy", loss_text(scores.metrics["test_loss"])))
    rows += baseline_rows([event for event in state.baselines if event.on == "train"])
    return metrics_table(rows)


def _compared_value(model: EnsembleModel) -> tuple[Metric, float]:
    """Return the metric by which the ensemble is compared with simpler models, and its value."""
    selected = model.selected
    by = compared_metric(model.state, selected.metric)
    if by in selected.fitted:
        return by, selected.fitted[by]
    return "valid_accuracy", selected.ensemble.estimated_accuracy


def _comparison(model: EnsembleModel) -> Iterator[str]:
    """Yield sentences on whether a simpler model is as good."""
    selected, state = model.selected, model.state
    by, value = _compared_value(model)
    majority = state.created.majority_score(by) if state.created else None
    if majority is not None and sign(by) * value <= sign(by) * majority:
        yield "**The ensemble is no better than the majority class; it should not be used.**"
    by_accuracy = selected.metric == "valid_accuracy"
    decisive = selected.accuracy_gain if by_accuracy else selected.loss_gain
    if not decisive.is_clear:
        yield "**A single model is as good, within noise.**"
    if (linear := best_linear_model(state, by)) is not None:
        compared = Comparison(value, linear, selected.documents)
        is_estimate = by == "valid_accuracy"
        basis = "By its estimate" if is_estimate else "On the documents that selected it"
        sentence = compared.sentence(f"{basis}, the ensemble")
        yield (markdown_strong if compared.linear_wins else markdown_text)(sentence)
    scores = state.ensemble_scores
    baselines = [event for event in state.baselines if event.on == "train"]
    if scores is None:
        return
    if not baselines:
        yield "The ensemble was not compared with a linear baseline on the test split."
        return
    best = max(baselines, key=lambda event: event.metrics["test_accuracy"])
    difference = best.metrics["test_accuracy"] - scores.metrics["test_accuracy"]
    if difference > 0:
        yield (
            f"**A linear baseline was better:** {markdown_code(best.name)} exceeds the ensemble by "
            f"{points_text(difference).removeprefix('+')} of test accuracy."
        )


def _limits(model: EnsembleModel) -> Iterator[str]:
    yield "Epochs and hyperparameters of the members were chosen by the same validation documents."
    if model.state.ensemble_scores is None:
        yield "The ensemble was not evaluated on a test split."
    fitted = {**model.selected.fitted, "valid_loss": model.selected.ensemble.loss}
    scores = model.state.ensemble_scores
    tested = [] if scores is None else [scores.metrics]
    yield from decision_sentences(model.decision, model.data.classes, fitted, tested)


def _members_table(model: EnsembleModel) -> str:
    titles = ("member", "epoch", "weight", "validation accuracy", "parameters", "hyperparameters")
    rows = [
        [
            member_name(member),
            str(member.epoch),
            f"{member.weight:.3f}",
            percent_text(member.valid_accuracy),
            f"{member.parameters:,}",
            describe_params(member.params),
        ]
        for member in model.selected.members
    ]
    return markdown_table(titles, rows, right=titles[1:-1])
