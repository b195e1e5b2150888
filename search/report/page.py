"""Write the HTML page of a report."""

from __future__ import annotations

import html
from importlib import resources
from string import Template
from typing import TYPE_CHECKING

from celltune.search.report.sections import (
    SECTIONS,
    facts,
    headline,
)
from celltune.search.report.subject import Subject

if TYPE_CHECKING:
    pass


# ---------------------------------------------------------------------------------------------


_PAGE = Template("""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; script-src 'unsafe-inline'\
 'unsafe-eval'; style-src 'unsafe-inline'; img-src data: blob:; font-src data:">
<title>$title</title>
<style>
$css
</style>
<script>$plotly</script>
</head>
<body>
<header>
<h1>$title</h1>
<p class="soft">A celltune search$standing</p>
</header>
<main>
$headline
$facts
<nav aria-label="Sections">$links</nav>
$sections
</main>
<script>
$js
</script>
</body>
</html>
""")


def page(subject: Subject) -> str:
    """Write the page.

    Args:
        subject: what it is about.

    Returns:
        HTML that needs no other file and no network; plotly alone is 4 to 5 MB of it.
    """
    written = [section for make in SECTIONS if (section := make(subject)) is not None]
    links = "".join(
        f'<a href="#s{index}">{html.escape(title)}</a>' for index, (title, _) in enumerate(written)
    )
    sections = "\n".join(
        f'<section aria-labelledby="s{index}"><h2 id="s{index}">{html.escape(title)}</h2>'
        f"{body}</section>"
        for index, (title, body) in enumerate(written)
    )
    return _PAGE.substitute(
        title=html.escape(subject.name),
        css=_file("report.css"),
        js=_file("report.js") if subject.figures else "",
        plotly=_plotly() if subject.figures else "",
        standing=", still running: the page shows what was known when it was written"
        if subject.running
        else "",
        headline=headline(subject),
        facts=facts(subject),
        links=links,
        sections=sections,
    )


def _file(name: str) -> str:
    return resources.files("celltune.search.report").joinpath(name).read_text("utf-8")


def _plotly() -> str:
    from plotly.offline import get_plotlyjs

    script: str = get_plotlyjs()
    return script
