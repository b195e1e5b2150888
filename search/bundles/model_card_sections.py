"""Parts of a model card: the wide part, the decision, and the usage of the bundle."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import cast

from celltune.data_prep.dataset.tensorized import PreparedData
from celltune.data_prep.wide_config import WideConfig
from celltune.search.bundles.trial_model import TrialModel
from celltune.search.decisions import Decision
from celltune.search.escaping import markdown_code
from celltune.search.wording import percent_text

_FITTED = ("valid_ece", "valid_calibrated_ece", "valid_loss", "valid_calibrated_loss")
_TESTED = ("test_uncalibrated_ece", "test_ece")


def wide_section(model: TrialModel, data: PreparedData) -> Iterator[str]:
    """Yield the heading and the text about the wide part, if the model has one.

    Args:
        model: the exported model.
        data: the prepared data that it was trained on.
    """
    settings = model.config.data.wide
    if model.architecture.wide == "none" or settings is None:
        return
    yield "## Wide part"
    facts = cast("dict[str, float]", data.info["wide"])
    yield "\n".join(
        [
            "A linear model on n-grams with naive Bayes log-count ratios (Wang & Manning 2012). It "
            "reads the whole text, not only the words of the vocabulary.",
            "",
            *ngram_lines(settings, facts),
            *_alone(facts),
            *_in_the_model(model, data),
        ]
    )


def ngram_lines(settings: WideConfig, facts: dict[str, float]) -> Iterator[str]:
    """Yield the number of n-grams of each kind, as items of a list.

    Args:
        settings: of the wide part.
        facts: what `PreparedData.info` says about it.
    """
    yield f"- {facts['words']:,} n-grams of 1 to {settings.words} words and punctuation marks"
    if settings.characters:
        yield (
            f"- {facts['characters']:,} n-grams of 2 to {settings.characters} characters within "
            "words"
        )


def _alone(facts: dict[str, float]) -> Iterator[str]:
    yield (
        f"- Validation accuracy of the wide part alone: {percent_text(facts['valid_accuracy'])}, "
        f"validation cross-entropy {facts['valid_loss']:.4f}. The strength of its L2 penalty was "
        f"chosen by this cross-entropy. Fitted in {facts['seconds']:.1f} s."
    )


def _in_the_model(model: TrialModel, data: PreparedData) -> Iterator[str]:
    if model.classifier is None:
        yield "- The wide part is the whole model; there is no network."
        return
    own = sum(values.numel() for values in model.classifier.parameters())
    share = data.wide_parameters / (data.wide_parameters + own)
    yield (
        f"- Its outputs, times {model.classifier.wide_scale.item():.3f}, are added to those of the "
        f"network. It has {percent_text(share, digits=1)} of the model's weights."
    )
    metrics = model.epoch.metrics
    if "wide_gain" in metrics:
        yield (
            f"- The network lowers the validation cross-entropy of the wide part by "
            f"{metrics['wide_gain']:.4f}, with a standard error of "
            f"{metrics['wide_gain_error']:.4f}."
        )


def decision_sentences(
    decision: Decision,
    classes: Sequence[str],
    fitted: Mapping[str, float],
    tested: Sequence[Mapping[str, float]],
) -> Iterator[str]:
    """Yield how probabilities are calibrated and become predictions, in Markdown.

    Args:
        decision: of the model.
        classes: their names.
        fitted: the metrics of the validation split that it was fitted to.
        tested: the metrics of each model that was evaluated on the test split.
    """
    if decision.threshold is not None:
        yield (
            f"{markdown_code(classes[1])} is predicted if its probability is at least "
            f"{decision.threshold:.4f}, a threshold that was chosen on the validation split."
        )
    if decision.temperature == 1:
        yield "The probabilities are not calibrated."
        return
    yield (
        f"The probabilities are calibrated: the logits are divided by the temperature "
        f"{decision.temperature:.4f}, which was fitted to the validation split (Guo et al. 2017)."
    )
    if all(name in fitted for name in _FITTED):
        ece, calibrated_ece, loss, calibrated_loss = (fitted[name] for name in _FITTED)
        yield (
            "The expected calibration error (15 bins of equal width) changes from "
            f"{percent_text(ece)} to {percent_text(calibrated_ece)} there, and the cross-entropy "
            f"from {loss:.4f} to {calibrated_loss:.4f}."
        )
    known = (scores for scores in tested if all(name in scores for name in _TESTED))
    pairs = [[scores[name] for name in _TESTED] for scores in known]
    if pairs:
        before, after = (sum(values) / len(pairs) for values in zip(*pairs, strict=True))
        yield (
            f"On the test split, the error changes from {percent_text(before)} to "
            f"{percent_text(after)}."
        )


def usage(num_classes: int, *, has_onnx: bool, has_wide: bool) -> str:
    """Return how to use the bundle.

    Args:
        num_classes: number of classes.
        has_onnx: whether the bundle contains model.onnx.
        has_wide: whether the model has a wide part.
    """
    text = """```sh
celltune predict ./THIS-FOLDER "a text of your own"
celltune predict ./THIS-FOLDER --file documents.csv --text-column text --format csv
```

```python
from celltune import load_model

load_model("./THIS-FOLDER").predict(["a text of your own"])
```"""
    if not has_onnx:
        return text
    logits = "(batch,)" if num_classes == 2 else f"(batch, {num_classes})"
    outputs = 1 if num_classes == 2 else num_classes
    wide = ""
    if has_wide:
        wide = f"""
The third input is `wide` (batch, {outputs}), float32: the outputs of the wide part for the original
texts. celltune computes them: `load_model("./THIS-FOLDER").wide.logits(texts)`."""
    return f"""{text}

The inputs of `model.onnx` are `ids` (batch, time), int64 and padded at the end, and `lengths`
(batch,), int64 and at least 1. Its outputs are `logits` {logits} and `probabilities`
(batch, {num_classes}), which are calibrated if the model has a temperature, unlike the logits; a
threshold is in `config.json` only. The id of a word is its index in `vocabulary.json`, 0 if it is
not there; padding is 1. `text` in `config.json` contains the rules by which texts are split into
words.
{wide}""".rstrip()
