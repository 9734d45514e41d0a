"""The page: the table and the figures, as Markdown beside its pictures and as one HTML file."""

from __future__ import annotations

import re
from html import escape
from pathlib import Path

from cifar_lab.report.results import Results
from cifar_lab.report.table import COLUMNS, caption, cells, markdown

TITLE = "From an MLP in NumPy to a CNN: the report's systems on CIFAR-10"
STYLE = """\
body { font: 16px/1.5 system-ui, sans-serif; max-width: 76rem; margin: 2rem auto; padding: 0 1rem }
table { border-collapse: collapse; font-size: 14px }
td, th { border-bottom: 1px solid #ccc; padding: .3rem .6rem; text-align: left }
td:nth-child(n+4):nth-child(-n+9) { white-space: nowrap }
.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(30rem, 1fr)) }
svg { max-width: 100%; height: auto }"""


def write_pages(results: Results, figures: list[Path], folder: Path, command: str) -> list[Path]:
    """Writes ``report.md`` and ``report.html``.

    Args:
        results: of all systems.
        figures: PNG files in ``folder``, each with an SVG beside it.
        folder: of the pages.
        command: that wrote them.
    """
    pages = {
        folder / "report.md": _markdown(results, figures, command),
        folder / "report.html": _html(results, figures, command),
    }
    for path, text in pages.items():
        path.write_text(text, "utf-8")
    return list(pages)


def _markdown(results: Results, figures: list[Path], command: str) -> str:
    pictures = [f"![{path.stem.replace('_', ' ')}]({path.name})" for path in figures]
    return "\n\n".join([f"# {TITLE}", markdown(results), *pictures, f"Written by `{command}`.", ""])


def _html(results: Results, figures: list[Path], command: str) -> str:
    rows = [_row("th", list(COLUMNS)), *(_row("td", cells(s)) for s in results["systems"])]
    pictures = [_inline(path.with_suffix(".svg")) for path in figures]
    return "\n".join(
        [
            '<!DOCTYPE html>\n<html lang="en">\n<meta charset="utf-8">',
            f"<title>{escape(TITLE)}</title>\n<style>\n{STYLE}\n</style>",
            f"<h1>{escape(TITLE)}</h1>\n<p>{escape(caption(results))}</p>",
            "<table>",
            *rows,
            '</table>\n<div class="figures">',
            *pictures,
            f"</div>\n<p>Written by <code>{escape(command)}</code>.</p>\n</html>\n",
        ]
    )


def _row(tag: str, texts: list[str]) -> str:
    parts = [re.sub(r"`([^`]*)`", r"<code>\1</code>", escape(text)) for text in texts]
    return "<tr>" + "".join(f"<{tag}>{part}</{tag}>" for part in parts) + "</tr>"


def _inline(path: Path) -> str:
    """The SVG element of a file, with names of its own: two figures share a page."""
    svg = path.read_text("utf-8")
    svg = svg[svg.index("<svg") :]
    own = path.stem
    svg = re.sub(r'\bid="', f'id="{own}-', svg)
    return re.sub(r'(url\(#|href="#)', rf"\1{own}-", svg)
