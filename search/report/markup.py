"""Sections of the report page and the HTML elements that they share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from celltune.search.escaping import html_text

if TYPE_CHECKING:
    from plotly.graph_objects import Figure


@dataclass(frozen=True)
class FigureBlock:
    """A figure in a section."""

    figure: Figure
    title: str
    caption: str
    """A description of the figure, also for readers who cannot see it."""
    min_width: int = 0
    """Pixels below which the figure scrolls instead of becoming narrower."""


@dataclass(frozen=True)
class Section:
    """A section of the page: a heading, and HTML and figures below it."""

    title: str
    blocks: Sequence[str | FigureBlock]


def paragraphs(*texts: str, lead: bool = False) -> str:
    """Return texts as HTML paragraphs; with `lead`, the first one is set larger."""
    first = ' class="lead"' if lead else ""
    return "".join(
        f"<p{'' if index else first}>{html_text(text.strip())}</p>"
        for index, text in enumerate(texts)
    )


def scrollable(label: str, table: str) -> str:
    """Return a table in a region that scrolls horizontally, also with the keyboard.

    Args:
        label: what the table shows, for screen readers; plain text.
        table: HTML.
    """
    escaped = html_text(label)
    return f'<div class="wide" role="region" tabindex="0" aria-label="{escaped}">{table}</div>'


def collapsed(summary: str, content: str) -> str:
    """Return HTML content that is hidden until the reader opens it.

    Args:
        summary: the visible line; plain text.
        content: HTML.
    """
    return f"<details><summary>{html_text(summary)}</summary>{content}</details>"
