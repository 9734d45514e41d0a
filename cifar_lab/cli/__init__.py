"""The command line: one parser, exit statuses, one-line errors, and a short module per command."""

from cifar_lab.cli.main import main

__all__ = ["main"]
