"""``scripts/benchmark.py``: measures the sections, prints tables, writes JSON.

Nothing heavy is imported before the flags are read, so that ``--help`` answers at once.
"""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Sequence
from typing import Any

from cifar_lab.command_flags import (
    Parser,
    add_data,
    add_hardware,
    add_json,
    expanded,
    flags_of,
    positive_int,
)
from cifar_lab.command_line import check_writable, command, print_json, writing
from cifar_lab.errors import UserError
from cifar_lab.parsing import unknown

USUAL = ("training", "batch_normalization", "loader", "arithmetic", "start_up")
SECTIONS = (*USUAL, "drift")  # which takes a quarter of an hour, and says nothing about speed
DESCRIPTION = """\
Compares, taking turns in one run: scripts/fit.py with everything on against a plain PyTorch loop
and Lightning's tutorial loop; batch normalization by hand against PyTorch's; the loader with each
augmentation; arithmetic against this machine's best; start-up. Ratios are medians over the rounds,
with their 95 % intervals. The section drift, only when asked for, compares the losses of the forms
of batch normalization over 200 steps. Exit status: 0 done, 1 a training failed, 2
wrong input, 130 interrupted."""


@command("benchmark.py")
def main(argv: Sequence[str]) -> int:
    """Runs the command.

    Args:
        argv: the words behind the script's name; default: the process's own.

    Returns:
        The exit status.
    """
    options = _parse(argv)
    chosen = _chosen(options.only)
    words = shlex.join(["scripts/benchmark.py", *argv])
    print_json(options, lambda: _measure(chosen, options, words))
    return 0


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = Parser("benchmark.py", DESCRIPTION)
    add = parser.add_argument
    add("--only", default=",".join(USUAL), metavar="NAME,NAME", help="sections (%(default)s)")
    add("--quick", action="store_true", help="fewer rounds and shorter runs: under two minutes")
    add("--rounds", type=positive_int, metavar="N", help="(default: 10; with --quick 2)")
    add_hardware(parser)
    add_data(parser)
    add("--output", type=expanded, metavar="FILE", help="write the JSON here too")
    add_json(parser)
    return parser.parse(argv)


def _chosen(text: str) -> list[str]:
    words = [word.strip() for word in text.split(",")]
    for word in words:
        if word not in SECTIONS:
            raise UserError(unknown("--only", word, SECTIONS))
    if "arithmetic" in words and "training" not in words:
        raise UserError("--only arithmetic: needs the section training beside it")
    return [name for name in SECTIONS if name in words]


def _measure(chosen: list[str], options: argparse.Namespace, words: str) -> dict[str, Any]:
    from cifar_lab.atomic import write_json
    from cifar_lab.benchmark import drift, sections
    from cifar_lab.benchmark.contenders import Setting
    from cifar_lab.benchmark.machine import describe
    from cifar_lab.benchmark.tables import lines

    flags = flags_of(options, "accelerator", "precision", "source", "data_dir")
    rounds = options.rounds or (2 if options.quick else 10)
    setting = Setting("mlp", 1, flags)
    if setting.data.image_set.source == "synthetic":
        flags += ["--source", "synthetic"]  # looked for once, said once
    found: dict[str, Any] = {"command": words, "rounds": rounds, **describe(setting)}
    measures = {
        "training": lambda: sections.training(flags, rounds, options.quick),
        "batch_normalization": lambda: sections.batch_normalization(setting.device, rounds),
        "loader": lambda: sections.loader(setting, rounds),
        "arithmetic": lambda: sections.arithmetic(flags, found["training"]),
        "start_up": lambda: sections.start_up(flags),
        "drift": lambda: drift.measure(flags),
    }
    print("\n".join(f"{name:<9}{found[name]}" for name in ("machine", "data", "versions")))
    check_writable("--output", options.output)
    for name in chosen:
        found[name] = measures[name]()
        if options.output:
            with writing("--output", options.output):
                write_json(options.output, found)
        print("\n".join(["", *lines(name, found[name])]), flush=True)
    return found
