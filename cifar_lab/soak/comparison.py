"""Whether two runs ended the same, bit by bit."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import torch

from cifar_lab.checkpoint_file import read_checkpoint

PARTS = ("state_dict", "optimizer_states", "global_step", "epoch")  # of a checkpoint
SPEED = "speed/images_per_second"


def differences(first: Path, second: Path) -> list[str]:
    """What differs between the newest runs in two log folders: lines for people.

    Weights, optimizer and counts of the last checkpoints are compared, and metrics.csv without the
    speed.
    """
    tables = [sorted(folder.glob("*/version_*/metrics.csv"))[-1] for folder in (first, second)]
    folders = [path.parent for path in tables]
    checkpoints = [read_checkpoint(folder / "checkpoints" / "last.ckpt") for folder in folders]
    found = [part for part in PARTS if not _same(*(content[part] for content in checkpoints))]
    rows = [_table(path) for path in tables]
    if rows[0] != rows[1]:
        found.append(f"metrics.csv: {len(rows[0])} and {len(rows[1])} rows")
    return found


def _same(first: Any, second: Any) -> bool:
    if isinstance(first, torch.Tensor):
        # A zero with a minus is equal to one without, but not bit by bit.
        return torch.equal(first, second) and torch.equal(first.signbit(), second.signbit())
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(_same(first[k], second[k]) for k in first)
    if isinstance(first, list | tuple):
        return len(first) == len(second) and all(map(_same, first, second))
    return bool(first == second)


def _table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return [{k: v for k, v in row.items() if k != SPEED} for row in csv.DictReader(file)]
