"""The HTML page of a report, which needs no other file and no network."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import resources
from itertools import count
from string import Template

from celltune.search.escaping import html_text
from celltune.search.report.finishing import finished
from celltune.search.report.markup import FigureBlock, Section, scrollable
from celltune.search.report.sections import SECTIONS
from celltune.search.report.top import top
from celltune.search.storage.snapshot import Snapshot

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
<p class="soft">$subtitle</p>
</header>
<main>
$top
<nav aria-label="Sections">$links</nav>
$sections
</main>
<script>
$js
</script>
</body>
</html>
""")

_SUBTITLE = "Report of a celltune hyperparameter search"
_RUNNING = "The search was still running when this page was written"


def page(snapshot: Snapshot) -> str:
    """Return the page as HTML.

    It contains plotly (4 to 5 MB) if at least one figure is shown.
    """
    sections = [section for make in SECTIONS if (section := make(snapshot)) is not None]
    has_figures = any(
        isinstance(block, FigureBlock) for section in sections for block in section.blocks
    )
    figure_numbers = count(1)
    return _PAGE.substitute(
        title=html_text(snapshot.name),
        subtitle=f"{_SUBTITLE}. {_RUNNING}." if snapshot.running else f"{_SUBTITLE}.",
        css=_file("report.css"),
        js=_file("report.js") if has_figures else "",
        plotly=_plotly() if has_figures else "",
        top=top(snapshot),
        links=" ".join(
            f'<a href="#s{index}">{html_text(section.title)}</a>'
            for index, section in enumerate(sections)
        ),
        sections="\n".join(
            _section_html(index, section, figure_numbers) for index, section in enumerate(sections)
        ),
    )


def _section_html(index: int, section: Section, figure_numbers: Iterator[int]) -> str:
    body = "".join(
        block if isinstance(block, str) else _figure_html(block, next(figure_numbers))
        for block in section.blocks
    )
    heading = f'<h2 id="s{index}">{html_text(section.title)}</h2>'
    return f'<section aria-labelledby="s{index}">{heading}{body}</section>'


def _figure_html(block: FigureBlock, number: int) -> str:
    import plotly.io

    content = plotly.io.to_html(
        finished(block.figure),
        full_html=False,
        include_plotlyjs=False,
        div_id=f"figure-{number}",
        config={"displaylogo": False, "responsive": True, "displayModeBar": False},
    )
    label = html_text(f"{block.title}. {block.caption}")
    picture = f'<div role="img" aria-label="{label}">{content}</div>'
    if block.min_width:
        picture = f'<div style="min-width:{block.min_width}px">{picture}</div>'
        picture = scrollable(block.title, picture)
    return f"<figure>{picture}<figcaption>{html_text(block.caption)}</figcaption></figure>"


def _file(name: str) -> str:
    return resources.files("celltune.search.report").joinpath(name).read_text("utf-8")


def _plotly() -> str:
    from plotly.offline import get_plotlyjs

    script: str = get_plotlyjs()
    return script
