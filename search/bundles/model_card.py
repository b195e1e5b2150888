"""The pages that go with a model: what it is and how good, and the terms of its data."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from celltune.data_prep.config import DataConfig
from celltune.models.config import ModelConfig
from celltune.search.config.schema import SearchConfig
from celltune.search.ledger.events import EpochReported
from celltune.search.ledger.state import TrialRecord
from celltune.search.version import VERSION
from celltune.search.wording import describe_params, percent_range, percent_text

_SOURCES: Mapping[str, tuple[str, str]] = {
    "synthetic": (
        "reviews that celltune made from a small grammar",
        "No person wrote them, and there is nothing to ask for. They say nothing about real text: "
        "a model of them is for trying things out.",
    ),
    "imdb": (
        "the Large Movie Review Dataset (Maas et al., ACL 2011), "
        "https://ai.stanford.edu/~amaas/data/sentiment/",
        "Its authors ask that work which uses it cites: Andrew L. Maas, Raymond E. Daly, Peter T. "
        'Pham, Dan Huang, Andrew Y. Ng, Christopher Potts, "Learning Word Vectors for Sentiment '
        'Analysis", ACL 2011. The data set comes without a licence; the reviews were written by '
        "users of IMDb, who hold the rights in their texts.",
    ),
    "amazon": (
        "product reviews of Amazon as the DLStudio course gives them out (A. Kak, Purdue)",
        "They come without a licence; the reviews were written by customers of Amazon, who hold "
        "the rights in their texts. Use them for study, and ask before you publish.",
    ),
}
_OWN_FILE = (
    "The file is the exporter's own; celltune doesn't know its terms. Before this model is given "
    "on, write here on what terms the reviews may be used: whoever trained on them is bound."
)


@dataclass(frozen=True)
class Facts:
    """What a model card tells.

    Attributes:
        experiment: its name.
        config: of the search.
        trial: whose model it is.
        epoch: whose weights they are.
        model: what was built.
        classes: names of the classes.
        info: of the prepared data.
        evaluations: what the ledger holds of this trial's parameters on the test split: records
            with `on`, `test_confusion` and `metrics`.
        files: further files of the bundle.
    """

    experiment: str
    config: SearchConfig
    trial: TrialRecord
    epoch: EpochReported
    model: ModelConfig
    classes: Sequence[str]
    info: Mapping[str, Any]
    evaluations: Sequence[Any] = ()
    files: Sequence[str] = ()


def card(facts: Facts) -> str:
    """The model card, in Markdown."""
    parts = [
        f"# {facts.experiment}, trial {facts.trial.number}: {describe_params(_told(facts))}",
        _lead(facts),
        "## How good it is",
        _numbers(facts),
        _caution(facts),
        "## What it was trained on",
        _data(facts),
        "## How to use it",
        _use(facts),
        "## What it is",
        _settings(facts),
    ]
    return "\n\n".join(parts) + "\n"


def terms(data: DataConfig) -> str:
    """Where the data come from and on what terms, in Markdown."""
    what, note = _SOURCES.get(data.source, (f"a {data.source} file{_named(data)}", _OWN_FILE))
    lines = [
        "# The data's terms",
        f"The model was trained on {what}.",
        note,
        "The vocabulary in `vocabulary.json` holds words of these texts, no text as a whole.",
    ]
    if data.vectors is not None:
        lines.append(
            "The word vectors started from pretrained or learned ones (`data.vectors`: "
            f"{json.dumps(data.vectors.model_dump(mode='json', exclude_none=True))}); the terms of "
            "whoever published them hold as well. GloVe's are in the public domain (PDDL)."
        )
    return "\n\n".join(lines) + "\n"


def _named(data: DataConfig) -> str:
    return f" named `{data.path.name}`" if data.path else ""


def _told(facts: Facts) -> Mapping[str, Any]:
    wanted = ("cell", "hidden_size", "num_layers", "bidirectional")
    return {name: getattr(facts.model, name) for name in wanted}


def _lead(facts: Facts) -> str:
    names = ", ".join(f"`{name}`" for name in facts.classes)
    return (
        f"A recurrent text classifier that tells {names} apart, found by a search of celltune "
        f"{VERSION} over {facts.config.budget.trials} trials and taken from trial "
        f"{facts.trial.number} after its best epoch, {facts.epoch.epoch} of "
        f"{facts.trial.epochs_done}."
    )


def _numbers(facts: Facts) -> str:
    metrics, rows = facts.epoch.metrics, []
    shown = {
        "Validation accuracy": _percent(metrics.get("valid_accuracy")),
        "Validation cross-entropy": _number(metrics.get("valid_loss")),
        "Training accuracy, in the epoch, with dropout": _percent(metrics.get("train_accuracy")),
        "Parameters": _count(metrics.get("parameters")),
        "Seconds an epoch": _number(metrics.get("seconds"), 1),
    }
    rows += [(name, value) for name, value in shown.items() if value]
    rows += [
        (f"Test accuracy of the same settings trained anew on {on}, {_seeds(len(found))}", value)
        for on, found in _by_part(facts.evaluations).items()
        if (value := _percents(found))
    ]
    return "\n".join(["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows)])


def _by_part(evaluations: Sequence[Any]) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {}
    for each in evaluations:
        counts = getattr(each, "test_confusion", None)
        if counts:
            right = sum(row[index] for index, row in enumerate(counts))
            share = right / sum(map(sum, counts))
            found.setdefault(str(getattr(each, "on", "train")), []).append(share)
    return found


def _percents(shares: Sequence[float]) -> str:
    mean = percent_text(sum(shares) / len(shares))
    return f"{mean} ({percent_range(min(shares), max(shares))})" if len(shares) > 1 else mean


def _seeds(count: int) -> str:
    return "one seed" if count == 1 else f"mean of {count} seeds (smallest to largest)"


def _caution(facts: Facts) -> str:
    text = (
        f"Validation chose this trial and this epoch, by {facts.config.metric}, so its figures are "
        "a little better than what new reviews will give."
    )
    if not _by_part(facts.evaluations):
        text += " It wasn't measured on a test split."
    return f"{text} The probabilities aren't calibrated."


def _data(facts: Facts) -> str:
    info, data = facts.info, facts.config.data
    what, _ = _SOURCES.get(data.source, (f"a {data.source} file{_named(data)}", ""))
    lines = [f"From {what}; the terms are in [DATA-TERMS.md](DATA-TERMS.md)."]
    for name, use in (("train", "to learn from"), ("valid", "to choose by")):
        part = info.get(name)
        if isinstance(part, Mapping):
            classes = ", ".join(f"{key} {count:,}" for key, count in part["classes"].items())
            lines.append(
                f"- {part['reviews']:,} reviews {use} ({classes}), {part['tokens']:,} words, "
                f"{percent_text(part['unknown_share'], digits=1)} of them unknown, "
                f"{part['cut_reviews']:,} reviews cut"
            )
    lines.append(
        f"- Tokens by `{data.tokenizer}`; of a longer review {data.max_tokens} words are read "
        f"(`keep: {data.keep}`)."
    )
    return "\n".join(lines)


def _use(facts: Facts) -> str:
    lines = [
        "```sh",
        'celltune predict ./THIS-FOLDER "a text of your own"',
        "celltune predict ./THIS-FOLDER --file reviews.csv --text-column text --format csv",
        "```",
        "",
        "```python",
        "from celltune import load_model",
        "",
        'load_model("./THIS-FOLDER").predict(["a text of your own"])',
        "```",
    ]
    if "model.onnx" in facts.files:
        last = "(batch,)" if len(facts.classes) == 2 else f"(batch, {len(facts.classes)})"
        lines += [
            "",
            "`model.onnx` takes `ids` (batch, time) int64, padded at the end, and `lengths` "
            f"(batch,) int64, at least 1, and gives `logits` {last} and `probabilities` (batch, "
            f"{len(facts.classes)}). A word's id is its place in `vocabulary.json`, 0 if it isn't "
            "there; padding is 1. `config.json` says under `text` how texts are cut into words.",
        ]
    return "\n".join(lines)


def _settings(facts: Facts) -> str:
    settings = {**facts.model.model_dump(mode="json"), **facts.trial.params}
    return "```json\n" + json.dumps(settings, indent=2) + "\n```"


def _percent(value: float | None) -> str:
    return "" if value is None else percent_text(value)


def _number(value: float | None, digits: int = 4) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def _count(value: float | None) -> str:
    return "" if value is None else f"{int(value):,}"
