"""``cifar-lab exercise``: stubs of layers to fill in, which ``check-gradients --file`` grades."""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cifar_lab.cli.parser import Command
from cifar_lab.settings import MISSING, Setting, setting

FOLDER = Setting(
    "folder", Path, MISSING, "folder of the file, which is made if need be", "arguments"
)


@dataclass(frozen=True)
class _Options:
    layer: list[str] = setting(
        [],
        "only these, separated by commas: linear, relu, leaky_relu, elu, softmax, cross_entropy, "
        "batch_norm, layer_norm (default: all)",
    )


COMMAND = Command(
    "exercise",
    "Writes modules.py: the layers of the course with their signatures, their definitions, and\n"
    "the gradients to derive. The code is yours to write. check-gradients --file says what is\n"
    "right, what is wrong and what is not done yet. A file that exists is never overwritten.\n\n"
    "Exit status: 0 done, 2 wrong input.",
    _Options,
    positionals=(FOLDER,),
    example="week1 --layer linear,relu",
)


def run(options: Any, given: Mapping[str, str], command: str) -> int:
    """Run the command; return its exit status."""
    from cifar_lab.cli.main import program
    from cifar_lab.gradient_check.exercise import write_exercise

    path = write_exercise(options.folder, options.layer)
    print(f"{path}: written. Fill it in, and check it as often as you like:")
    print(f"{program('check-gradients')} --file {shlex.quote(str(path))}")
    return 0
