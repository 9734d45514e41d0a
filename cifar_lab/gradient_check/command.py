"""`scripts/check_gradients.py`: prints a table, one row for each gradient.

Nothing heavy is imported before the flags are read, so that `--help` answers at once.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from cifar_lab.command_flags import Parser
from cifar_lab.command_line import command
from cifar_lab.errors import UserError

if TYPE_CHECKING:
    from cifar_lab.gradient_check.gradients import Row

DTYPES = ("float64", "float32")
COLUMNS = "{:<26}{:<9}{:<15}{:>10}{:>13}  {}"


@command("check_gradients.py")
def main(argv: Sequence[str]) -> int:
    """Run the command; return its exit status.

    Args:
        argv: the flags; default: those of the process.

    Returns:
        0 if every gradient is right, 1 if one is wrong, 2 if a flag is.
    """
    args = _parse(argv)
    return _check(args.layer, args.dtype)


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = Parser(
        "check_gradients.py",
        "Compare every gradient written by hand with autograd and with central\n"
        "differences. Exit status: 0 all right, 1 a gradient is wrong, 2 a flag is.",
    )
    parser.add_argument("--layer", metavar="NAME", help="only this row of the table's first column")
    parser.add_argument(
        "--dtype",
        default=DTYPES[0],
        metavar="|".join(DTYPES),
        help="what the layers compute in (default: %(default)s)",
    )
    args = parser.parse(argv)
    if args.dtype not in DTYPES:
        raise _unknown("--dtype", args.dtype, DTYPES)
    return args


def _check(layer: str | None, dtype: str) -> int:
    import numpy as np

    from cifar_lab.gradient_check.cases import CASES
    from cifar_lab.gradient_check.gradients import TOLERANCES, check_gradients
    from cifar_lab.gradient_check.torch_cases import TORCH_CASES

    builders = CASES | TORCH_CASES
    if layer is not None and layer not in builders:
        raise _unknown("--layer", layer, builders)
    limit, slope_limit = TOLERANCES[np.dtype(dtype)]
    print(f"Relative errors in {dtype}; allowed: {limit:g} and {slope_limit:g}.\n")
    print(COLUMNS.format("layer", "gradient", "shape", "autograd", "differences", "verdict"))
    rows: list[Row] = []
    for name in [layer] if layer else builders:
        rng = np.random.default_rng(0)
        new = check_gradients(builders[name](rng), rng, dtype)
        print("\n".join(_line(name, row) for row in new), flush=True)
        rows += new
    n_wrong = sum(not row.passed for row in rows)
    print(f"\n{len(rows)} rows, {n_wrong or 'none'} wrong.")
    return int(n_wrong > 0)


def _line(name: str, row: Row) -> str:
    shape = "×".join(map(str, row.shape)) or "1"
    slope = "–" if row.difference_error is None else f"{row.difference_error:.0e}"
    verdict = "right" if row.passed else "WRONG"
    return COLUMNS.format(name, row.name, shape, f"{row.autograd_error:.0e}", slope, verdict)


def _unknown(what: str, name: str, known: Iterable[str]) -> UserError:
    from cifar_lab.parsing import unknown

    return UserError(unknown(what, name, known))
