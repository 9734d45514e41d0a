"""``cifar-lab check-gradients``: a table with a row for each gradient written by hand.

That is every layer of the package or, with ``--file``, those in a student's file.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from cifar_lab.cli.parser import Command
from cifar_lab.errors import FAILED, UserError
from cifar_lab.settings import PositiveFloat, setting, unknown

COLUMNS = "{:<26}{:<9}{:<15}{:>10}{:>13}  {}"


@dataclass(frozen=True)
class _Options:
    file: Path | None = setting(
        None, "Python file with classes of the course; its code is executed"
    )
    layer: str | None = setting(
        None, "only this name in the table's first column; with --file also linear, elu, batch_norm"
    )
    dtype: Literal["float64", "float32"] = setting(
        "float64", "precision of the package's own layers"
    )
    seconds: PositiveFloat = setting(20.0, "with --file, time limit for the check of a class")


COMMAND = Command(
    "check-gradients",
    "Compares every gradient written by hand with autograd and with central differences.\n\n"
    "With --file it checks a file of your own that has the course's class names: LinearModule,\n"
    "ReLUModule, LeakyReLUModule, ELUModule, SoftMaxModule, CrossEntropyModule, MLP in NumPy, and\n"
    "the forms of CustomBatchNorm and CustomLayerNorm (Autograd, ManualFunction, ManualModule).\n"
    "A wrong answer is compared with a catalogue of common mistakes, and the one that it matches\n"
    "is named. The file is executed with your permissions, in a process of its own: read a\n"
    "stranger's file first.\n\n"
    "Exit status: 0 nothing is wrong (stubs may be left to do), 1 something is, 2 wrong input.",
    _Options,
    example="--file modules.py --layer linear",
)


def run(options: Any, given: Mapping[str, str], command: str) -> int:
    """Run the command; return its exit status."""
    if options.file is not None:
        return _check_file(options)
    return _check_package(options)


def _check_package(options: Any) -> int:
    """Check the layers of the package."""
    import numpy as np

    from cifar_lab.gradient_check.cases import CASES
    from cifar_lab.gradient_check.gradients import TOLERANCES, check_gradients
    from cifar_lab.gradient_check.torch_cases import TORCH_CASES

    builders = CASES | TORCH_CASES
    if options.layer is not None:
        if options.layer not in builders:
            raise UserError(unknown("--layer", options.layer, builders))
        builders = {options.layer: builders[options.layer]}
    limit, slope_limit = TOLERANCES[np.dtype(options.dtype)]
    print(f"Relative errors in {options.dtype}; allowed: {limit:g} and {slope_limit:g}.\n")
    print(COLUMNS.format("layer", "gradient", "shape", "autograd", "differences", "verdict"))
    passed: list[bool] = []
    for name, build in builders.items():
        rng = np.random.default_rng(0)
        for row in check_gradients(build(rng), rng, options.dtype):
            shape = "×".join(map(str, row.shape)) or "1"
            exact = f"{row.autograd_error:.0e}"
            slope = "–" if row.difference_error is None else f"{row.difference_error:.0e}"
            verdict = "right" if row.passed else "WRONG"
            print(COLUMNS.format(name, row.name, shape, exact, slope, verdict), flush=True)
            passed.append(row.passed)
    print(f"\n{len(passed)} rows, {passed.count(False) or 'none'} wrong.")
    return 0 if all(passed) else FAILED


def _check_file(options: Any) -> int:
    """Check the classes in a student's file."""
    from cifar_lab.gradient_check.student_check import WRONG
    from cifar_lab.gradient_check.student_file import check_file
    from cifar_lab.gradient_check.student_table import table

    found = check_file(options.file, options.layer, options.seconds)
    print(table(found, options.file))
    return FAILED if any(row.verdict == WRONG for rows in found.values() for row in rows) else 0
