"""``cifar-lab check-gradients``: a table with a row for each gradient written by hand."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from cifar_lab.cli.parser import Command
from cifar_lab.errors import FAILED, UserError
from cifar_lab.settings import setting, unknown

COLUMNS = "{:<26}{:<9}{:<15}{:>10}{:>13}  {}"


@dataclass(frozen=True)
class _Options:
    layer: str | None = setting(None, "only this name of the table's first column")
    dtype: Literal["float64", "float32"] = setting("float64", "precision that the layers use")


COMMAND = Command(
    "check-gradients",
    "Compares every gradient written by hand with autograd and with central differences.\n\n"
    "Exit status: 0 all right, 1 a gradient is wrong, 2 wrong input.",
    _Options,
    example="--layer batch_norm",
)


def run(options: Any, given: Mapping[str, str], command: str) -> int:
    """Run the command; return its exit status."""
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
