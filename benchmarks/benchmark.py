"""Compare the speed of cifar_lab with plain loops: ``python benchmarks/benchmark.py --help``.

Nothing heavy is imported before the flags are parsed.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cifar_lab.cli.output import check_writable, print_json, writing
from cifar_lab.cli.parser import Command
from cifar_lab.errors import UserError
from cifar_lab.files import write_json
from cifar_lab.settings import PositiveInt, setting, unknown
from program import run

USUAL = ("training", "batch_normalization", "loader", "arithmetic", "start_up")
SECTIONS = (*USUAL, "peer", "drift")  # the last two take a quarter of an hour or more


@dataclass(frozen=True)
class Options:
    """The flags of the benchmark, apart from those of data and hardware."""

    only: list[str] = setting([*USUAL], f"any of {', '.join(SECTIONS)}")
    quick: bool = setting(False, "fewer rounds and shorter runs: under two minutes")
    rounds: PositiveInt | None = setting(None, "number of rounds (10; with --quick 2)")
    output: Path | None = setting(None, "file for the JSON")
    json: bool = setting(False, "print only JSON")


COMMAND = Command(
    "benchmark",
    "Compares training with all features, a plain PyTorch loop and Lightning's tutorial loop;\n"
    "batch normalization by hand and PyTorch's; the loader with each augmentation; arithmetic and\n"
    "this machine's best; start-up. Contenders take turns. Ratios are medians over the rounds,\n"
    "with their 95 % intervals. Two sections are measured only on request: peer compares seconds\n"
    "and accuracy of fast_cnn and of a published speed-run, a whole training of each per round;\n"
    "drift compares the losses of the forms of batch normalization over 200 steps.\n\n"
    "Exit status: 0 done, 1 a training failed, 2 wrong input, 130 interrupted.",
    Options,
    shared=("accelerator", "precision", "data_dir", "source"),
    example="--quick --only training",
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark; return the exit status.

    Args:
        argv: command-line arguments; the default is those of the process.
    """
    return run(COMMAND, _run, argv)


def _run(words: Sequence[str]) -> int:
    options, given = COMMAND.parse(words)
    chosen = _chosen(options.only)
    check_writable("--output", options.output)
    command = shlex.join(["benchmarks/benchmark.py", *words])
    try:
        print_json(options.json, lambda: _measure(chosen, options, given, command))
    except SystemExit as left:  # so Lightning leaves after Ctrl-C
        raise KeyboardInterrupt from left
    return 0


def _chosen(names: Sequence[str]) -> list[str]:
    for name in names:
        if name not in SECTIONS:
            raise UserError(unknown("--only", name, SECTIONS))
    if "arithmetic" in names and "training" not in names:
        raise UserError("--only arithmetic: needs the section training beside it")
    return [name for name in SECTIONS if name in names]


def _measure(
    chosen: Sequence[str], options: Any, given: Mapping[str, str], command: str
) -> dict[str, Any]:
    """Measure the chosen sections; print each one, and write it, when it is done."""
    import sections
    from contenders import Setting
    from tables import lines

    rounds = options.rounds or (2 if options.quick else 10)
    shared = Setting("mlp", 1, given)
    if shared.data.image_set.source == "synthetic":
        given = {**given, "source": "synthetic"}  # so that nothing is searched for and said again
    found: dict[str, Any] = {"command": command, "rounds": rounds, **sections.describe(shared)}
    measures = {
        "training": lambda: sections.training(given, rounds, options.quick),
        "batch_normalization": lambda: sections.batch_normalization(shared.device, rounds),
        "loader": lambda: sections.loader(shared, rounds),
        "arithmetic": lambda: sections.arithmetic(given, found["training"]),
        "start_up": lambda: sections.start_up(given),
        "peer": lambda: sections.peer(given, rounds),
        "drift": lambda: sections.drift(given),
    }
    print("\n".join(f"{name:<9}{found[name]}" for name in ("machine", "data", "versions")))
    for name in chosen:
        found[name] = measures[name]()
        if options.output:
            with writing("--output", options.output):
                write_json(options.output, found)
        print("\n".join(["", *lines(name, found[name])]), flush=True)
    return found


if __name__ == "__main__":
    sys.exit(main())
