"""The directive ``commands``: a section for each command, made from the parser of ``--help``."""

import re
from argparse import Action
from collections.abc import Iterator
from importlib import import_module

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from cifar_lab.cli.help import parser_of
from cifar_lab.cli.main import COMMANDS


class Commands(SphinxDirective):
    """Write usage, description, flags by group and example of every command."""

    def run(self) -> list[nodes.Node]:
        """Return the sections."""
        return [self._section(name) for name in COMMANDS]

    def _section(self, name: str) -> nodes.section:
        command = import_module(f"cifar_lab.cli.{name.replace('-', '_')}").COMMAND
        parser = parser_of(command, [], f"cifar-lab {name}")
        section = nodes.section(ids=[nodes.make_id(name)], names=[name])
        section += nodes.title("", f"cifar-lab {name}")
        section += _literal(parser.format_usage().removeprefix("usage: "))
        section += _paragraphs(parser.description)
        for group in parser._action_groups:
            if group._group_actions:
                section += nodes.rubric("", group.title.capitalize())
                section += nodes.definition_list(
                    "", *(_item(name, action) for action in group._group_actions)
                )
        section += nodes.rubric("", "Example")
        section += _literal(parser.epilog.removeprefix("example: "))
        return section


def _literal(text: str) -> nodes.literal_block:
    text = text.replace("%%", "%").strip()
    return nodes.literal_block(text, text, language="text")


def _paragraphs(text: str) -> Iterator[nodes.Node]:
    """Return the paragraphs of a description; an indented one, such as a list, as it stands."""
    for block in re.split(r"\n\n+", text.strip("\n")):
        is_layout = re.search(r"\S {2,}\S|^ ", block, re.MULTILINE)
        yield _literal(block) if is_layout else nodes.paragraph("", "", *_words(block))


def _words(text: str) -> Iterator[nodes.Node]:
    """Return a text with its flags as code."""
    for part in re.split(r"(--\w+)", " ".join(text.split())):
        yield nodes.literal("", part) if part.startswith("--") else nodes.Text(part)


def _item(command: str, action: Action) -> nodes.definition_list_item:
    """Return a flag and its help, with an address of its own."""
    name = " ".join(filter(None, [*action.option_strings, action.metavar])) or action.dest
    term = nodes.term("", "", nodes.literal("", name), ids=[nodes.make_id(f"{command}-{name}")])
    told = nodes.paragraph("", "", *_words((action.help or "").replace("%%", "%")))
    return nodes.definition_list_item("", term, nodes.definition("", told))


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the directive."""
    app.add_directive("commands", Commands)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
