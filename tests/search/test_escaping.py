"""Untrusted text in markup: what a reader sees is the printable text."""

from __future__ import annotations

import html
import re
from html.parser import HTMLParser

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from celltune.printable import printable
from celltune.search.escaping import (
    html_lines,
    html_text,
    latex_text,
    markdown_code,
    markdown_strong,
    markdown_table,
    markdown_text,
    plotly_text,
)
from tests.search.hostile_text import HOSTILE

PARSER = MarkdownIt("commonmark").enable(["table", "strikethrough"])
texts = st.text(
    st.one_of(st.sampled_from("\\`*_{}[]()<>#+-=.!|~&$:/\"' \n\tab0"), st.characters()), max_size=30
) | st.sampled_from(HOSTILE[:-1])


class _Text(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.data = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_data(self, data: str) -> None:
        self.data += data


def seen(page: str) -> tuple[str, set[str]]:
    """Return the text that a page shows, with single spaces, and its elements."""
    parser = _Text()
    parser.feed(page)
    parser.close()
    return " ".join(parser.data.split()), set(parser.tags)


def spaced(text: str) -> str:
    return " ".join(printable(text).split())


@given(texts)
@example("\\|")
@example("a\\")
@example("`|`")
@example("_a_ a_b __c__")
def test_markdown_shows_the_text(text: str) -> None:
    before = "The name is "
    assert seen(PARSER.render(before + markdown_text(text))) == (spaced(before + text), {"p"})
    table = PARSER.render(markdown_table(["title", text], [[text, "x"]], right=["title"]))
    shown, tags = seen(table)
    assert shown == " ".join(f"title {spaced(text)} {spaced(text)} x".split())
    assert tags == {"table", "thead", "tbody", "tr", "th", "td"}


@given(texts)
def test_code_and_bold_text_in_markdown_show_the_text(text: str) -> None:
    shown, tags = seen(PARSER.render(f"The name is {markdown_code(text)}."))
    assert shown in (
        f"The name is {spaced(text)}.",
        " ".join(f"The name is '{printable(text)}'.".split()),
    )
    assert tags <= {"p", "code"}
    assert seen(PARSER.render(f"x {markdown_strong(f'a{text}z')}")) == (
        spaced(f"x a{text}z"),
        {"p", "strong"},
    )


@given(texts)
def test_html_shows_the_text(text: str) -> None:
    assert seen(f'<p title="{html_text(text)}">{html_text(text)}</p>') == (spaced(text), {"p"})
    lines = [printable(line) for line in text.split("\n")]
    assert html.unescape(html_lines(text)).split("\n") == lines
    labels = plotly_text(text).split("<br>")
    assert [html.unescape(label) for label in labels] == lines
    assert not any("<" in label for label in labels)


@given(texts)
def test_latex_has_no_commands_of_the_text(text: str) -> None:
    written = latex_text(text)
    ours = r"\\text(backslash|asciitilde|asciicircum|less|greater|bar)\{\}|\\[&%$#_{}]|\{\[\}"
    assert not set(re.sub(ours, "", written)) & set("\\~^<>|[&%$#_{}")


@pytest.mark.parametrize(
    ("text", "code"),
    [("neg", "`neg`"), ("a b", "`a b`"), ("a|b", r"'a\|b'"), (" a", "' a'"), ("", "''")],
)
def test_names_are_code_if_code_can_contain_them(text: str, code: str) -> None:
    assert markdown_code(text) == code


def test_only_our_own_links_stay_links() -> None:
    assert markdown_text("https://x.example www.x.example") == r"https:\//x.example www\.x.example"
    assert markdown_text("see https://x.example", links=True) == "see https://x.example"
