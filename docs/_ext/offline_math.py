"""Formulas as SVG images, drawn when the pages are built: to read them takes no network."""

from xml.etree import ElementTree

import ziamath
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.writers.html5 import HTML5Translator

SIZE = 18  # units of the drawing in an em of the page; the font's own em is 20


def _svg(node: nodes.Element, inline: bool) -> str:
    """Return a formula in the colour and size of the text around it.

    The inline form of GitHub has backquotes between the dollars, which are not of the formula.
    """
    latex = node.astext().strip("`").replace(r"\mathbb{1}", "𝟙")  # latex2mathml has letters only
    svg = ziamath.Latex(latex, size=20, color="currentColor", inline=inline).svgxml()
    _, top, width, height = (float(number) / SIZE for number in svg.attrib["viewBox"].split())
    svg.attrib |= {"width": f"{width:.3f}em", "height": f"{height:.3f}em"}
    svg.attrib |= {"style": f"vertical-align: {-(top + height):.3f}em"}  # the baseline is at 0
    svg.attrib |= {"role": "img", "aria-label": latex}
    return ElementTree.tostring(svg, encoding="unicode")


def _visit_inline(self: HTML5Translator, node: nodes.math) -> None:
    self.body.append(_svg(node, inline=True))
    raise nodes.SkipNode


def _visit_block(self: HTML5Translator, node: nodes.math_block) -> None:
    self.body.append(f'<div class="formula">{_svg(node, inline=False)}</div>')
    raise nodes.SkipNode


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the renderer."""
    app.add_html_math_renderer("svg", (_visit_inline, None), (_visit_block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
