"""Pieces of the report's page that its sections share."""

from __future__ import annotations

import html

Section = tuple[str, str]
"""A heading, and the HTML below it."""


def paragraphs(*texts: str, lead: bool = False) -> str:
    """Give texts as paragraphs of HTML; with `lead` the first is the page's opening."""
    first = ' class="lead"' if lead else ""
    return "".join(
        f"<p{'' if index else first}>{html.escape(text.strip())}</p>"
        for index, text in enumerate(texts)
    )


def scrollable(label: str, table: str) -> str:
    """Let a wide table be scrolled by itself, also with the keyboard."""
    return f'<div class="wide" role="region" tabindex="0" aria-label="{label}">{table}</div>'
