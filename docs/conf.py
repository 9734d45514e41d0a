"""Settings of the documentation: `python -m sphinx -W docs build/docs` writes it as HTML.

The pages work without a network: formulas are drawn when they are built.
"""

import re
import sys
from pathlib import Path

HERE = Path(__file__).parent
README = HERE.parent / "README.md"
sys.path[:0] = [str(HERE / "_ext"), str(HERE.parent)]

from sphinx.application import Sphinx  # noqa: E402

from cifar_lab import __version__  # noqa: E402  # of this checkout, once its path is known

project = "cifar_lab"
author = "The cifar_lab developers"
copyright = author
version = release = __version__

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "offline_math",
    "command_reference",
]

nb_execution_mode = "auto"  # a notebook without outputs is executed
nb_execution_in_temp = True  # so that its runs do not lie in docs/
nb_execution_raise_on_error = True
nb_merge_streams = True
nb_execution_timeout = 600  # seconds for a cell
myst_enable_extensions = ["dollarmath"]
myst_fence_as_directive = ["math"]  # as GitHub writes a formula
myst_heading_anchors = 3

autodoc_default_options = {"members": True, "show-inheritance": True}
autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_format = "short"
autodoc_typehints_description_target = "documented"
autodoc_preserve_defaults = True
maximum_signature_line_length = 80
python_use_unqualified_type_names = True
add_module_names = False
napoleon_use_rtype = False

html_theme = "furo"
html_title = f"cifar_lab {version}"
html_show_sphinx = False
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sourcelink = False


def _read(app: Sphinx, page: str, source: list[str]) -> None:
    """Begin the first page with the README; links to files outside docs/ are no links here."""
    if page == "index":
        source[0] = README.read_text("utf-8").replace("](docs/", "](") + source[0]
    text = source[0].replace("](../README.md", "](index.md")
    source[0] = re.sub(r"\[([^\]]+)\]\((?:\.\./[^)]+|[A-Z]+\.(?:md|cff))\)", r"\1", text)


def _docstring(
    app: Sphinx, kind: str, name: str, of: object, options: object, lines: list[str]
) -> None:
    """Show what a docstring indents below a colon, such as formulas, as it stands there."""
    if kind == "property":  # napoleon would take the words before a colon for its type
        lines[:1] = [lines[0].replace(": ", " – ")]
    lines[:] = re.sub(r":\n(?=\n    )", "::\n", "\n".join(lines)).split("\n")


def setup(app: Sphinx) -> None:
    """Register what changes a page when it is read."""
    app.connect("source-read", _read)
    app.connect("autodoc-process-docstring", _docstring, priority=400)
