"""Untrusted text in markup: one function per format, which all writers of the format use.

Each function first makes the text printable (see `celltune.printable`), so its result is one line.
"""

from __future__ import annotations

import html
import re
from collections.abc import Collection, Iterable, Sequence

from celltune.printable import printable

_MARKUP = r"[\\`*{}\[\]<>#|!~&$]|(?<![^\W_])_|_(?![^\W_])"
_MARKDOWN = re.compile(rf"{_MARKUP}|(?<=:)//|(?<=\bwww)\.")
_MARKDOWN_WITH_LINKS = re.compile(_MARKUP)
_PLAIN_CODE = re.compile(r"[^`|\\<>&]+")
_LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "[": "{[}",  # after the end of a row, it would begin an argument
    **{character: f"\\{character}" for character in "&%$#_{}"},
}


def markdown_text(text: object, *, links: bool = False) -> str:
    """Return text that Markdown shows as it is, also in the cell of a table.

    Markup, HTML, mathematics and links of GitHub Flavored Markdown are escaped with backslashes.

    Args:
        text: the text.
        links: whether the text is ours, so that its URLs may become links.
    """
    pattern = _MARKDOWN_WITH_LINKS if links else _MARKDOWN
    return pattern.sub(r"\\\g<0>", printable(text))


def markdown_strong(text: str) -> str:
    """Return text that Markdown shows as it is, in bold."""
    return f"**{markdown_text(text)}**"


def markdown_code(text: object) -> str:
    """Return text as code in Markdown, also in the cell of a table.

    Code cannot contain some characters everywhere (CommonMark 0.31, 6.1), such as `|` in a table.
    A text with such a character is put in quotes instead.
    """
    shown = printable(text)
    is_plain = _PLAIN_CODE.fullmatch(shown) and shown == shown.strip()
    return f"`{shown}`" if is_plain else f"'{markdown_text(shown)}'"


def markdown_table(
    titles: Sequence[str], rows: Iterable[Iterable[object]], *, right: Collection[str] = ()
) -> str:
    """Return a table in Markdown, whose cells are shown as they are.

    Args:
        titles: of the columns.
        rows: the cells of each row.
        right: titles of the columns that are aligned to the right.
    """
    lines = [map(markdown_text, titles), ("---:" if title in right else "---" for title in titles)]
    lines += [map(markdown_text, cells) for cells in rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def html_text(text: object) -> str:
    """Return text for the content of an HTML element or a quoted attribute."""
    return html.escape(printable(text))


def html_lines(text: str) -> str:
    """Return text of several lines for a `pre` element."""
    return "\n".join(map(html_text, text.split("\n")))


def plotly_text(text: str) -> str:
    """Return text for a label of a Plotly figure, which interprets some HTML elements.

    Newlines begin a line of the label: data in the text has to be printable.
    """
    return "<br>".join(map(html_text, text.split("\n")))


def latex_text(text: object) -> str:
    """Return text that LaTeX shows as it is."""
    return re.sub(r"[\\~^<>|\[&%$#_{}]", lambda match: _LATEX[match[0]], printable(text))
