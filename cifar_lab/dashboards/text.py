"""The page "Text": what a run was told and what it ran on, as Markdown."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping


def code_block(text: str) -> str:
    """Lines that are shown as they stand."""
    return textwrap.indent(text.rstrip("\n"), "    ")


def table(rows: Mapping[str, object]) -> str:
    """Two columns: what, and its value."""
    lines = [f"| {name} | {_cell(value)} |" for name, value in rows.items()]
    return "\n".join(["| what | value |", "|---|---|", *lines])


def _cell(value: object) -> str:
    return " ".join(str(value).split()).replace("|", "\\|")
