"""``scripts/ablate.py``: what each part of a fast recipe is worth.

Nothing heavy is imported before the flags are read, so that ``--help`` answers at once.
"""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Sequence
from typing import Any

from cifar_lab.command_flags import Parser, add_data, add_hardware, add_json, expanded, flags_of
from cifar_lab.command_line import command, print_json
from cifar_lab.errors import UserError
from cifar_lab.integers import integers

DESCRIPTION = """\
Trains a fast recipe, shortened unless --whole is given, as it is and with one part left out or
changed at a time, with the same seeds, and prints how much accuracy on the validation split each
part brings, with its 95 % interval over the seeds, and what it costs in time. Runs that --log_dir
holds already are not run again. Exit status: 0 done, 1 a training failed, 2 wrong input, 130
interrupted; the same command goes on."""


@command("ablate.py", "Interrupted; the same command goes on.")
def main(argv: Sequence[str]) -> int:
    """Runs the command.

    Args:
        argv: the words behind the script's name; default: the process's own.

    Returns:
        The exit status.
    """
    options = _parse(argv)
    words = shlex.join(["scripts/ablate.py", *argv])
    print_json(options, lambda: {"command": words, **_run(options)})
    return 0


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = Parser("ablate.py", DESCRIPTION)
    add = parser.add_argument
    add("--model", default="fast_cnn", metavar="NAME", help="(default: %(default)s)")
    add("--seeds", default="0,1,2", metavar="N,N", help="at least two (default: %(default)s)")
    add("--only", metavar="N,N", help="variants by their numbers; 0 lists them (default: all)")
    add("--whole", action="store_true", help="train whole runs: for a GPU, or many hours")
    add_hardware(parser)
    add(
        "--log_dir",
        default="lightning_logs/ablation",
        type=expanded,
        metavar="FOLDER",
        help="of the runs (default: %(default)s)",
    )
    add_data(parser)
    add_json(parser)
    return parser.parse(argv)


def _run(options: argparse.Namespace) -> dict[str, Any]:
    from cifar_lab.parsing import unknown
    from cifar_lab.studies.ablation import STUDIES, run_study, table

    if options.model not in STUDIES:
        raise UserError(unknown("--model", options.model, list(STUDIES)))
    study = STUDIES[options.model]
    names = list(study.variants)
    seeds = integers("--seeds", options.seeds)
    if len(seeds) < 2:
        raise UserError(f"--seeds {options.seeds}: expected at least two different ones")
    wanted = list(range(1, len(names) + 1))
    if options.only:
        wanted = integers("--only", options.only)
    if not set(wanted) <= set(range(1, len(names) + 1)):
        listed = "; ".join(f"{number} {name}" for number, name in enumerate(names, 1))
        raise UserError(f"--only {options.only}: expected numbers of {listed}")
    flags = flags_of(options, "source", "data_dir", "log_dir", "accelerator", "precision")
    chosen = [names[number - 1] for number in wanted]
    found = run_study(options.model, seeds, chosen, flags, options.whole)
    print(f"\n{options.model} {found['shortened'] or 'in whole runs'}; seeds {options.seeds}")
    print(f"{found['data']}; {found['hardware']}\n\n{table(found)}")
    return found
