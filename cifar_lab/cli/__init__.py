"""The command line: one parser, exit statuses, errors in a line, and a thin file a command."""

from cifar_lab.cli.main import main

__all__ = ["main"]
