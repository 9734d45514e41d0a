"""One set of settings with several seeds: ``scripts/fit.py --seeds 0..4``.

Each seed is a run of its own, as ``--seed`` makes it; what they reached is shown together.
"""

from __future__ import annotations

from collections.abc import Sequence

from cifar_lab.data.image_set import SYNTHETIC_NOTE
from cifar_lab.errors import UserError
from cifar_lab.parsing import FitPlan
from cifar_lab.report.results import mean_and_deviation
from cifar_lab.report.runs import Run, find, images_of, train
from cifar_lab.training.summary import NAMES


def fit_seeds(plans: Sequence[FitPlan]) -> int:
    """Trains the plans that have no finished run yet, and shows the accuracies of all.

    Args:
        plans: that differ by their seeds.

    Returns:
        The exit status, 0.

    Raises:
        UserError: settings or data that are wrong.
        TrainingEndedError: a training failed or was interrupted.
    """
    if plans[0].settings.fast_dev_run:
        raise UserError("--fast_dev_run and --seeds: several seeds are trained in whole runs")
    images = images_of(plans[0])
    runs = []
    for plan in plans:
        run = find(plan, images)
        state = f"is there: {run.path}" if run else "is trained"
        print(f"\n--- seed {plan.settings.seed} {state}", flush=True)
        runs.append(run or train(plan, images))
    print(table(runs))
    return 0


def table(runs: Sequence[Run]) -> str:
    """The accuracies of the runs, mean ± sample standard deviation, as lines for people."""
    summaries = [run.summary for run in runs]
    seeds = ", ".join(str(summary["seed"]) for summary in summaries)
    lines = [f"\nseeds {seeds}, mean ± standard deviation"]
    if summaries[0]["data"]["source"] == "synthetic":
        lines.append(SYNTHETIC_NOTE)
    for split, points in summaries[0]["accuracy"].items():
        for which, name in NAMES.items():
            if which in points:
                values = [summary["accuracy"][split][which] for summary in summaries]
                title = f"{split} accuracy, {name}"
                lines.append(f"  {title:<40}{mean_and_deviation(values)} %")
    return "\n".join(lines)
