"""Comparing groups of runs: a difference of means, its interval, and an exact test.

Groups of runs are compared by their seeds: paired where both groups have the same seeds, and
otherwise by Welch's interval. Two checkpoints are compared by the same images (McNemar's test).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import sqrt
from statistics import fmean, variance
from typing import Any

import numpy as np
from scipy import stats

from cifar_lab.errors import UserError
from cifar_lab.experiments.tables import mean_and_deviation, paired, quantile, unpaired
from cifar_lab.files import shown
from cifar_lab.plan import decisive
from cifar_lab.run.run import Run, runs_in

MOST_SEEDS = 10_000


@dataclass(frozen=True)
class Group:
    """Finished runs that differ in their seeds alone.

    Attributes:
        name: text that named them.
        runs: runs by seed, in ascending order.
        split: "test" (of the best checkpoint, else the last point) or "val" (the best point).
    """

    name: str
    runs: dict[int, Run]
    split: str

    @property
    def accuracies(self) -> dict[int, float]:
        """The accuracy, a fraction, by seed."""
        return {seed: _accuracy(run, self.split) for seed, run in self.runs.items()}


def open_group(name: str, split: str) -> Group:
    """Return the finished runs in the folder of a run or of a model.

    Several folders are separated by commas.

    Raises:
        UserError: A folder holds no finished run, or the runs differ in more than their seeds.
    """
    found: dict[int, Run] = {}
    for run in (run for part in name.split(",") for run in _finished_in(part)):
        seed = run.summary["seed"]
        if seed in found:
            raise UserError(f"{shown(name)}: two runs have seed {seed}; name the runs one by one")
        found[seed] = run
    _check_alike(name, list(found.values()))
    return Group(name, dict(sorted(found.items())), split)


def _finished_in(name: str) -> list[Run]:
    found = [run for run in runs_in(name) if run.finished]
    if not found:
        raise UserError(f"{shown(name)}: no finished run here")
    return found


def _check_alike(name: str, runs: Sequence[Run]) -> None:
    first, *others = [decisive(run.config) for run in runs]
    for run, other in zip(runs[1:], others, strict=True):
        differing = sorted(n for n in first.keys() | other.keys() if first.get(n) != other.get(n))
        if differing != ["seed"]:
            raise UserError(
                f"{shown(name)}: {runs[0].path} and {run.path} are not runs of one group: they "
                f"differ in {', '.join(n for n in differing if n != 'seed')}"
            )


def _accuracy(run: Run, split: str) -> float:
    if split == "test":
        return run.accuracy
    if "val" not in run.summary["accuracy"]:
        raise UserError(f"{run.path}: has no validation split; use --split test")
    return float(run.summary["accuracy"]["val"]["best"])


def check_images(groups: Sequence[Group]) -> None:
    """Refuse groups that were not evaluated on the same images."""
    seen = {run.summary["data"]["fingerprint"] for group in groups for run in group.runs.values()}
    if len(seen) > 1:
        raise UserError(f"the runs saw different images (fingerprints {', '.join(sorted(seen))})")


def difference(base: Group, other: Group) -> dict[str, Any]:
    """Return the difference of two groups in plain values; accuracies are fractions.

    ``interval`` is half the width of the 95 % interval, or None where a group has one run.
    ``shown`` says whether the difference is significant. If it is not, ``more_seeds`` is the number
    of further seeds per group that would show a difference of this size with the same deviation, or
    None if no number is enough.
    """
    ours, theirs = other.accuracies, base.accuracies
    is_paired = ours.keys() == theirs.keys() and len(ours) > 1
    mean = fmean(ours.values()) - fmean(theirs.values())
    found: dict[str, Any] = {"difference": mean, "interval": None, "shown": None}
    found |= {"paired": is_paired, "more_seeds": None}
    if min(len(ours), len(theirs)) < 2:
        return found
    if is_paired:
        values, others = list(ours.values()), list(theirs.values())
        interval = paired(values, others)[1]
        spread = variance([a - b for a, b in zip(values, others, strict=True)])
    else:
        interval = unpaired(list(ours.values()), list(theirs.values()))[1]
        spread = variance(ours.values()) + variance(theirs.values())
    found |= {"interval": interval, "shown": abs(mean) > interval}
    if not found["shown"]:
        degrees = 1 if is_paired else 2
        needed = _seeds_needed(abs(mean), sqrt(spread), degrees)
        found["more_seeds"] = needed and max(1, needed - min(len(ours), len(theirs)))
    return found


def _seeds_needed(size: float, deviation: float, samples: int) -> int | None:
    """Return the smallest number of seeds whose interval would leave out 0, or None."""
    for seeds in range(2, MOST_SEEDS):
        if quantile(samples * (seeds - 1)) * deviation / sqrt(seeds) < size:
            return seeds
    return None


def mcnemar(first: np.ndarray, second: np.ndarray) -> dict[str, Any]:
    """Return McNemar's exact test of two models on the same images.

    Args:
        first: whether the first model classified each image correctly, bool (N,).
        second: whether the second model did, bool (N,).

    Returns:
        The numbers of images that only one of them classified correctly, and the two-sided ``p``:
        the probability of at least as uneven a division if both models are equally good.
    """
    only_first = int((first & ~second).sum())
    only_second = int((second & ~first).sum())
    both = only_first + only_second
    p = float(stats.binomtest(only_first, both).pvalue) if both else 1.0
    return {"only_first": only_first, "only_second": only_second, "p": p}


def describe_group(group: Group) -> str:
    """Return the accuracies of a group as a line for people."""
    values = list(group.accuracies.values())
    count = f"{len(values)} seeds" if len(values) > 1 else f"seed {next(iter(group.runs))}"
    return f"{mean_and_deviation(values)} %  ({count})  {group.name}"


def describe_difference(found: Mapping[str, Any]) -> str:
    """Return a difference, and whether it is significant, as a line for people."""
    size = 100 * found["difference"]
    if found["interval"] is None:
        return f"{size:+.2f} points; an interval needs several seeds of each"
    way = "paired by seed" if found["paired"] else "seeds not paired"
    text = f"{size:+.2f} ± {100 * found['interval']:.2f} points (95 %, {way}): "
    if found["shown"]:
        return f"{text}significant"
    if found["more_seeds"] is None:
        return f"{text}not significant"
    needed = f"{found['more_seeds']:,} more seeds"
    return f"{text}not significant; a difference of this size takes {needed}"
