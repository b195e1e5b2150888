"""Sentences about an ensemble, for all outputs."""

from __future__ import annotations

from celltune.search.ledger.ensembles import EnsembleMember, ValidScores, total_parameters
from celltune.search.ledger.events import EnsembleSelected
from celltune.search.wording import counted, loss_text, percent_text


def ensemble_title(event: EnsembleSelected) -> str:
    """Return the name of an ensemble: `ensemble of 8 (5 models)`."""
    return f"ensemble of {event.size} ({counted(len(event.members), 'model')})"


def member_name(member: EnsembleMember) -> str:
    """Return the name of a member: `trial 7`, or with the experiment if it is another one."""
    trial = f"trial {member.number}"
    return trial if member.experiment is None else f"{trial} of {member.experiment}"


def scores_sentence(event: EnsembleSelected) -> str:
    """Return the estimated scores of an ensemble and of the best single trial."""
    return (
        f"The {ensemble_title(event)} has an estimated validation accuracy of "
        f"{_estimate(event.ensemble)}; the best single trial ({member_name(event.best)}) "
        f"{_estimate(event.single)}."
    )


def _estimate(scores: ValidScores) -> str:
    accuracy, loss = percent_text(scores.estimated_accuracy), loss_text(scores.estimated_loss)
    return f"{accuracy} (loss {loss})"


def gain_sentence(event: EnsembleSelected) -> str:
    """Return whether an ensemble is better than the best single trial beyond noise.

    The conclusion is about the accuracy or, if trials are ranked by another metric, about the loss.
    """
    accuracy, loss = event.accuracy_gain, event.loss_gain
    differences = (
        f"accuracy {100 * accuracy.mean:+.2f} ± {100 * accuracy.error:.2f} points, "
        f"loss {-loss.mean:+.4f} ± {loss.error:.4f} (difference ± standard error)."
    )
    decisive = accuracy if event.metric == "valid_accuracy" else loss
    if decisive.is_clear:
        return f"It is better than the best single trial: {differences}"
    advice = "Its probabilities are better" if loss.is_clear else "Prefer the single trial"
    return f"It is not better than the best single trial beyond noise: {differences} {advice}."


def cost_sentence(event: EnsembleSelected) -> str:
    """Return what an ensemble costs in comparison with the best single trial."""
    total = total_parameters(event.members)
    return (
        f"Its {counted(len(event.members), 'model')} have {total:,} parameters together; "
        f"{member_name(event.best)} has {event.best.parameters:,}. A prediction needs all of them."
    )


def selection_sentence(event: EnsembleSelected) -> str:
    """Return what the ensemble was selected from, and by what."""
    return (
        f"Selected from {counted(event.candidates, 'model')} by the cross-entropy of "
        f"{counted(event.documents, 'validation document')}; the estimates are free of the bias of "
        "this selection."
    )


def ensemble_sentences(event: EnsembleSelected | None) -> list[str]:
    """Return the estimated scores of an ensemble, its gain, its cost and its selection.

    Args:
        event: the ensemble; None: there is none, and nothing to say.
    """
    sentences = (scores_sentence, gain_sentence, cost_sentence, selection_sentence)
    return [] if event is None else [sentence(event) for sentence in sentences]
