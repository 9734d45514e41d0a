"""What the small commands' flags share: a parser that speaks like that of ``fit.py``, and values.

Light to import, so that ``--help`` answers at once.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from cifar_lab.errors import UserError


class Parser(argparse.ArgumentParser):
    """An argument parser without abbreviations that raises UserError, with the nearest match.

    Args:
        prog: name of the script.
        description: what its help says first.
    """

    def __init__(self, prog: str, description: str) -> None:
        super().__init__(
            prog=prog,
            description=description,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )

    def parse(self, argv: Sequence[str]) -> argparse.Namespace:
        """Reads the words; dashes and underscores are the same.

        Raises:
            UserError: a flag that is not known, or a value of the wrong kind.
        """
        options, others = self.parse_known_args(underscored(argv))
        for word in others:
            raise unknown_flag(word, self.flags)
        return options

    @property
    def flags(self) -> list[str]:
        """All flags, with their dashes."""
        return [flag for action in self._actions for flag in action.option_strings]

    def error(self, message: str) -> NoReturn:
        """Raises the error instead of leaving the process."""
        raise UserError(message)


def underscored(argv: Sequence[str]) -> list[str]:
    """The words with the dashes inside of flags' names turned into underscores."""
    words = []
    flags_end = [*argv, "--"].index("--")
    for place, word in enumerate(argv):
        name, equals, value = word.partition("=")
        if name.startswith("--") and place < flags_end:
            word = "--" + name[2:].replace("-", "_") + equals + value
        words.append(word)
    return words


def unknown_flag(word: str, flags: Sequence[str]) -> UserError:
    """The error for a word that no flag takes."""
    from cifar_lab.parsing import unknown

    if not word.startswith("-"):
        return UserError(f"{word!r}: not expected here; --help shows what is")
    return UserError(unknown("flag", word.partition("=")[0], flags))


def add_checkpoint(parser: Parser) -> None:
    """Adds the positional argument CKPT."""
    parser.add_argument(
        "checkpoint", metavar="CKPT", type=a_path, help="checkpoint file, or the folder of a run"
    )


def add_device(parser: Parser, batch_size: int = 500) -> None:
    """Adds ``--accelerator`` and ``--batch_size``."""
    parser.add_argument(
        "--accelerator",
        choices=("auto", "cpu", "gpu", "mps"),
        default="auto",
        help="what computes; auto: the best there is",
    )
    parser.add_argument(
        "--batch_size",
        type=positive_int,
        default=batch_size,
        metavar="N",
        help="images at a time (default: %(default)s)",
    )


def add_hardware(parser: Parser) -> None:
    """Adds ``--accelerator`` and ``--precision``, for commands that hand them to training."""
    parser.add_argument(
        "--accelerator", metavar="auto|cpu|gpu|mps", help="what trains (default: auto)"
    )
    parser.add_argument(
        "--precision", metavar="NAME", help="as scripts/fit.py takes it (default: auto)"
    )


def add_data(
    parser: Parser,
    auto: str = "find, else download, else synthetic",
    folder: str = "$CIFAR_LAB_DATA, else ./data",
) -> None:
    """Adds ``--data_dir`` and ``--source``; the help says what their defaults do."""
    parser.add_argument("--data_dir", metavar="FOLDER", help=f"default: {folder}")
    parser.add_argument(
        "--source",
        choices=("auto", "cifar10", "synthetic"),
        help=f"auto, the default: {auto}",
    )


def add_output(parser: Parser, what: str) -> None:
    """Adds ``--output`` and ``--json``; ``what`` is written, beside the checkpoint by default."""
    parser.add_argument(
        "--output",
        type=expanded,
        metavar="FOLDER",
        help=f"of {what} (default: beside the checkpoint)",
    )
    add_json(parser)


def add_json(parser: Parser) -> None:
    """Adds ``--json``."""
    parser.add_argument("--json", action="store_true", help="print JSON, and nothing else")


def flags_of(options: argparse.Namespace, *names: str) -> list[str]:
    """Flags with these names and the values that were given, to hand them on; none for None."""
    values = {name: getattr(options, name) for name in names}
    return [word for name, v in values.items() if v is not None for word in (f"--{name}", str(v))]


def a_path(text: str) -> Path:
    """A path, for ``type=``; not "", which would be the present folder."""
    if not text:
        raise argparse.ArgumentTypeError("expected a path, got nothing")
    return Path(text)


def expanded(text: str) -> Path:
    """A path with ``~`` written out, for ``type=``; not ""."""
    try:
        return a_path(text).expanduser()
    except RuntimeError as error:
        raise argparse.ArgumentTypeError(f"{text}: {error}") from error


def positive_int(text: str) -> int:
    """A positive integer, for ``type=``."""
    number = int(text) if text.isascii() and text.isdigit() else 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"expected a positive integer, got {text!r}")
    return number
