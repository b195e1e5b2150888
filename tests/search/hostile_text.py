"""Hostile text, an experiment and a model that contain it, and what is safe in each format."""

from __future__ import annotations

import csv
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from markdown_it import MarkdownIt

from celltune.data_prep.preparation import selection
from celltune.printable import printable, printable_lines
from celltune.search.ledger.events import (
    BaselineValidated,
    EpochReported,
    ExperimentCreated,
    RunEnded,
    RunStarted,
    TrialCreated,
    TrialFailed,
    TrialStopped,
    WorkerLost,
)
from celltune.search.storage.local import LocalExperiment
from celltune.search.storage.locate import new_experiment
from tests.search.evaluation.test_summaries import baseline, result_fields, retrained
from tests.search.simulated_search import make_config
from tests.search.trained_experiment import make_experiment

ESCAPES = (
    "\x1b[35;7mcolour\x1b[0m",
    "\x1b]8;;https://evil.example\x1b\\link\x1b]8;;\x07",
    "\x1b]0;title\x07 \x1bP+q\x1b\\ \x1bc",
    "\x9b2J \x9d0;x\x9c \x85 \x00 \x7f \b\b\b",
)
LINES = ("one\nFORGED\r\nFORGED\rFORGED", "two\u2028FORGED\u2029FORGED\x0bFORGED\x0cFORGED")
INVISIBLE = ("\u202egnp.exe\u202c \u2066x\u2069 \u061c", "a\u200bb\ufeffc\xadd\u200de\U000e0041")
MARKUP = (
    "`code` ``two`` ```three",
    "a|b|c \\| d",
    "<script>alert(1)</script><img src=x onerror=alert(1)>",
    "</script></pre></td></table><svg onload=alert(1)>&lt;b&gt;",
    "[text](javascript:alert(1)) ![image](https://evil.example/x.png) [ref]: https://evil.example",
    "<https://evil.example> https://evil.example www.evil.example",
    "**bold** _it_ __b__ ~~s~~ $x^2$ $$ # h {#id} - item",
    "[bold red]rich[/] [link=https://evil.example]rich[/link] :smile: [/]",
    "<b>plotly</b><br><a href='javascript:alert(1)'>x</a><sup>y</sup>",
    'dot"];x->y [label="z"]//',
    r"\input{/etc/passwd} % & # _ ~ ^ \\ $\frac",
    "%s {0} {x!r} ${y}",
)
FORMULAS = ("=cmd|' /C calc'!A0", "+1+cmd", "-2+3", "@SUM(A1:A2)", "\t=1", "\r=1")
OTHERS = ("naïve 你好 👩\u200d👧 😀", "quote\" and ' and ,;")

HOSTILE = (*ESCAPES, *LINES, *INVISIBLE, *MARKUP, *FORMULAS, *OTHERS, "long" * 2_500)
EVERYTHING = f"a {' '.join(HOSTILE[:-1])} z".replace("\0", "")
"""All of `HOSTILE` that the name of a class can contain in a config."""


def hostile_experiment(storage: Path) -> LocalExperiment:
    """Create a finished experiment in which every text that others can choose is hostile."""
    classes = [EVERYTHING, f"{EVERYTHING}2"]
    data = {"source": "csv", "path": f"/none/{EVERYTHING}.csv", "classes": classes, "test_size": 9}
    config = make_config(name="hostile", data=data, budget={"trials": 40, "max_epochs": 1})
    fields = {**result_fields(300), "classes": classes}
    params = {"cell": "gru", "hidden_size": 8, "num_layers": 1, "layer_dropout": 0.25}
    trials: list[Any] = []
    for number in range(len(HOSTILE) + 6):
        trial = {**params, "learning_rate": 0.001 * (number + 1), "embedding_size": 8}
        trials.append(TrialCreated(at=2.0, number=number, params=trial, max_epochs=1))
        if number < len(HOSTILE):
            error = HOSTILE[number]
            trials.append(TrialFailed(at=3.0, number=number, error=error, details=EVERYTHING))
            continue
        if number == len(HOSTILE):
            trials.append(WorkerLost(at=3.0, number=number, error=EVERYTHING, cause="raised"))
        metrics = {"valid_accuracy": 0.5 + number / 100, "valid_loss": 0.5, "seconds": 1.0}
        trials.append(
            EpochReported(at=3.0, number=number, epoch=1, metrics=metrics, checkpoint="epoch-1")
        )
        trials.append(TrialStopped(at=3.0, number=number, reason="completed"))
    best = len(HOSTILE) + 5
    folder = new_experiment(config.name, storage)
    folder.create(
        config,
        ExperimentCreated(
            at=1.0,
            fingerprint="f",
            valid_reviews=100,
            majority_class=EVERYTHING,
            majority_accuracy=0.4,
        ),
        RunStarted(
            at=1.0, resumed=False, celltune="1", host=EVERYTHING, pid=1, versions={"os": EVERYTHING}
        ),
        BaselineValidated(
            at=1.0, name=EVERYTHING, valid_accuracy=0.6, valid_macro_f1=0.6, seconds=1.0
        ),
        *trials,
        *(retrained(best, seed, 300).model_copy(update=fields) for seed in (1, 2)),
        baseline("nb_svm", 300).model_copy(update={"classes": classes, "name": EVERYTHING}),
        RunEnded(at=4.0, reason="finished"),
    )
    return folder


def allow_any_class(monkeypatch: Any) -> None:
    """Prepare data like releases that did not check the names of classes."""
    monkeypatch.setattr(selection, "check_classes", lambda *_: None)


def hostile_model(storage: Path, cache: Path, monkeypatch: Any) -> LocalExperiment:
    """Train an experiment whose classes have hostile names, as data of earlier releases may."""
    allow_any_class(monkeypatch)
    storage.mkdir(parents=True)
    path = storage.parent / "reviews <b>`x`|y.csv"
    classes = [f"{EVERYTHING}-", f"{EVERYTHING}+"]
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label"])
        for number in range(120):
            word = ("awful", "great")[number % 2]
            writer.writerow([f"the plot was {word} {number} .", classes[number % 2]])
    return make_experiment(storage, cache, source="csv", path=str(path), classes=classes)


# ---------------------------------------------------------------------------------------------
# What is safe in a format


def assert_printable(text: str) -> None:
    """Check text that people read: nothing but printable lines, none of which data began."""
    assert printable_lines(text) == text
    assert not re.search(r"^FORGED", text, re.MULTILINE)


def assert_safe_terminal(text: str) -> None:
    """Check what a terminal receives: only colours of rich between printable texts."""
    assert "\x1b[35;7m" not in text
    plain = re.sub(r"\x1b\[\d+(;\d+)*m", "", text)
    assert printable_lines(plain) == plain


def assert_safe_markdown(text: str) -> None:
    """Check Markdown: no HTML, images or links but ours, and tables with equal rows."""
    assert_printable(text)
    parser = MarkdownIt("commonmark").enable(["table", "strikethrough"])
    tokens = parser.parse(text)
    inline = [child for token in tokens for child in token.children or ()]
    kinds = {token.type for token in (*tokens, *inline)}
    assert not kinds & {"html_block", "html_inline", "image", "s_open", "blockquote_open"}
    links = {str(token.attrs["href"]) for token in inline if token.type == "link_open"}
    assert links <= {"DATA-TERMS.md"}
    headings = [
        t for t, before in zip(tokens[1:], tokens, strict=False) if "heading" in before.type
    ]
    assert not any("FORGED" in token.content.partition(":")[0] for token in headings)
    for line in parser.render(text).split("</tr>"):
        assert line.count("<td") in (0, *range(2, 30))


ALLOWED_TAGS = re.compile(
    "html|head|meta|title|style|script|body|header|h1|h2|h3|p|main|ul|li|strong|span|nav|a|section|"
    "figure|div|figcaption|table|thead|tbody|tr|th|td|details|summary|pre"
)


class _Strict(HTMLParser):
    """Raises an error for every element and attribute that the report does not contain."""

    def __init__(self) -> None:
        super().__init__()
        self.text: list[str] = []
        self._open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert ALLOWED_TAGS.fullmatch(tag), tag
        for name, value in attrs:
            assert not name.startswith("on"), name
            assert name != "src", name
            assert name != "href" or re.fullmatch(r"#s\d+", value or ""), value
        if tag != "meta":
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] not in ("script", "style"):
            self.text.append(data)

    def close(self) -> None:
        super().close()
        assert self._open == []


def assert_safe_html(text: str) -> str:
    """Check a page, and return its text."""
    parser = _Strict()
    parser.feed(text)
    parser.close()
    shown = "".join(parser.text)
    assert_printable(shown)
    return shown


def plotly_labels(text: str) -> list[str]:
    """Return all strings of the figures of a page that may contain hostile text."""
    calls = re.findall(r"Plotly\.newPlot\((.*?)\);?\s*\}", text, re.DOTALL)
    strings = re.findall(r'"((?:[^"\\]|\\.)*)"', " ".join(calls))
    return [string.encode().decode("unicode_escape") for string in strings]


def assert_safe_svg(content: bytes) -> None:
    """Check a picture: well-formed, without scripts and links."""
    for element in ElementTree.fromstring(content).iter():  # noqa: S314 (written by the test)
        assert "script" not in str(element.tag)
        for name, value in element.attrib.items():
            assert not name.startswith("on")
            assert not name.endswith("href") or value.startswith("#")


def shown(text: str) -> str:
    """Return how a hostile text appears on a line."""
    return printable(text)
