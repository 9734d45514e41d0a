"""A page of results as one HTML file that needs no other: a text, a table, notes and figures."""

import re
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

# On a narrow screen, a row of the table becomes a list with the heading before each cell.
CSS = """\
body { font: 16px/1.5 system-ui, sans-serif; max-width: 76rem; margin: 2rem auto; padding: 0 1rem;
  overflow-wrap: break-word }
h1 { line-height: 1.2 }
table { border-collapse: collapse; font-size: 14px; margin: 1.5rem 0 }
td, th { border-bottom: 1px solid #ccc; padding: .3rem .6rem; text-align: left }
.figures { display: grid; gap: 2rem 1.5rem; margin: 2.5rem 0;
  grid-template-columns: repeat(auto-fit, minmax(min(30rem, 100%), 1fr)) }
svg { max-width: 100%; height: auto }
@media (max-width: 48rem) {
  table, tbody, tr { display: block }
  tr { border-bottom: 1px solid #ccc; padding: .6rem 0 }
  tr:first-child { display: none }
  td { display: flex; border: 0; padding: .1rem 0 }
  td span { min-width: 0 }
  td::before { content: attr(data-heading); flex: 0 0 9rem; padding-right: .6rem; color: #666 }
}"""


def html_page(
    title: str,
    about: str,
    rows: Sequence[Mapping[str, str]],
    figures: Sequence[Path],
    command: str,
    notes: Sequence[str] = (),
) -> str:
    """Return a page.

    Args:
        title: heading of the page.
        about: what the numbers are.
        rows: cells of the table by the headings of their columns; `x` becomes code.
        figures: paths of SVG files.
        command: command that wrote the page.
        notes: sentences that stand below the table.
    """
    headings = "".join(f"<th>{_text(heading)}</th>" for heading in rows[0])
    lines = [
        '<!DOCTYPE html>\n<html lang="en">\n<meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{escape(title)}</title>\n<style>\n{CSS}\n</style>",
        f"<h1>{escape(title)}</h1>\n<p>{_text(about)}</p>\n<table>\n<tr>{headings}</tr>",
        *(f"<tr>{''.join(_cell(*cell) for cell in row.items())}</tr>" for row in rows),
        "</table>",
        *(f"<p>{_text(note)}</p>" for note in notes),
        '<div class="figures">',
        *(_inline(path) for path in figures),
        f"</div>\n<p>Written by <code>{escape(command)}</code>.</p>\n</html>\n",
    ]
    return "\n".join(lines)


def _cell(heading: str, text: str) -> str:
    return f'<td data-heading="{escape(heading)}"><span>{_text(text)}</span></td>'


def _text(text: str) -> str:
    unbroken = text.replace(" ± ", "\N{NO-BREAK SPACE}±\N{NO-BREAK SPACE}")
    return re.sub(r"`([^`]*)`", r"<code>\1</code>", escape(unbroken))


def _inline(path: Path) -> str:
    """Return the SVG element of a file; its names are made unique on a page of several figures."""
    svg = path.read_text("utf-8")
    svg = re.sub(r'\bid="', f'id="{path.stem}-', svg[svg.index("<svg") :])
    return re.sub(r'(url\(#|href="#)', rf"\1{path.stem}-", svg)
