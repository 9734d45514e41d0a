"""The results of a sweep: the best trials as a table, the winner on the test set, and a figure."""

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullFormatter
from optuna.distributions import CategoricalDistribution
from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances
from optuna.trial import FrozenTrial, TrialState

from cifar_lab.errors import UserError
from cifar_lab.experiments.page import html_page
from cifar_lab.experiments.space import describe_params, plan_of_params
from cifar_lab.experiments.sweep import FINISHED, Sweep
from cifar_lab.experiments.tables import markdown_table, mean_and_deviation
from cifar_lab.experiments.trials import RESUMES
from cifar_lab.files import write_atomically, write_json
from cifar_lab.inference.evaluation import evaluate_logits
from cifar_lab.inference.known_data import load_split
from cifar_lab.inference.logits import split_logits
from cifar_lab.run.folder import RunFolder
from cifar_lab.run.plot import BLUE, GREY, VERMILION, save_figure, style
from cifar_lab.run.run import Run

SHOWN_TRIALS = 10
EVALUATION_BATCH = 500  # images; no number depends on it
WINNER = "winner"  # attribute of a study: the trial that was tested, and its accuracies


def finish(sweep: Sweep) -> dict[str, Any]:
    """Test the winner, write the files of the sweep, and return its results in plain values.

    The files in its folder are ``sweep.json``, ``best.yaml``, which ``--config`` takes, the figure
    ``sweep.png`` and ``sweep.svg``, and the page ``sweep.html``. Accuracies are fractions.

    Raises:
        UserError: No trial is complete.
    """
    study = sweep.open()
    trials = [trial for trial in study.get_trials(deepcopy=False) if trial.state in FINISHED]
    complete = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    if not complete:
        raise UserError(f"{sweep.folder}: no trial is complete")
    winner = max(complete, key=lambda trial: trial.value or 0.0)
    results = {
        "study": sweep.name,
        "command": sweep.command,
        "space": list(sweep.words),
        "seeds": list(sweep.seeds),
        "complete": len(complete),
        "pruned": len(trials) - len(complete),
        "trials": [_row(trial) for trial in trials],
        WINNER: _tested(sweep, study, winner),
    }
    best = plan_of_params(sweep.plan, winner.params)
    write_atomically(sweep.folder / "best.yaml", best.as_yaml().encode("utf-8"))
    write_json(sweep.folder / "sweep.json", results)
    figure = draw(study, trials)
    for suffix in (".png", ".svg"):
        save_figure(figure, sweep.folder / f"sweep{suffix}", sweep.name)
    _write_page(results, sweep.folder)
    return results


def _write_page(results: Mapping[str, Any], folder: Path) -> None:
    about = f"Accuracies on the validation split. {_counts(results)}. "
    about += f"{_winner(results).capitalize()}."
    figures = [folder / "sweep.svg"]
    title = f"Sweep {results['study']}"
    page = html_page(title, about, _best(results), figures, results["command"])
    write_atomically(folder / "sweep.html", page.encode("utf-8", "backslashreplace"))


def _row(trial: FrozenTrial) -> dict[str, Any]:
    names = {"number": trial.number, "state": trial.state.name.lower(), "value": trial.value}
    runs = {"runs": trial.user_attrs.get("runs", []), RESUMES: trial.user_attrs.get(RESUMES)}
    return {**names, "params": trial.params, **runs}


def _tested(sweep: Sweep, study: optuna.Study, winner: FrozenTrial) -> dict[str, Any]:
    """Return the test accuracies of the winner's runs; they are computed once."""
    with sweep.lock:
        known = study.user_attrs.get(WINNER)
        if known is None or known["number"] != winner.number:
            known = {"number": winner.number, "params": winner.params, "val": winner.value}
            known["test"] = [_test(sweep, run) for run in winner.user_attrs["runs"]]
            study.set_user_attr(WINNER, known)
    return known


def _test(sweep: Sweep, name: str) -> float:
    settings = sweep.plan.settings
    run = Run(RunFolder.at(sweep.folder / name), sweep.plan.own_model)
    model = run.load_model("best", settings.accelerator)
    known = load_split(model, "test", settings.data_dir, settings.source)
    return evaluate_logits(*split_logits(model, known, EVALUATION_BATCH, "none")).accuracy


def table(results: Mapping[str, Any]) -> str:
    """Return the best trials in Markdown, and the winner's test accuracy."""
    return f"{_counts(results)}\n\n{markdown_table(_best(results))}\n\n{_winner(results)}"


def _counts(results: Mapping[str, Any]) -> str:
    return f"{results['complete']} trials complete, {results['pruned']} pruned or failed"


def _winner(results: Mapping[str, Any]) -> str:
    winner = results[WINNER]
    return (
        f"winner: trial {winner['number']}, {mean_and_deviation(winner['test'])} % on the test set"
    )


def _best(results: Mapping[str, Any]) -> list[dict[str, str]]:
    """Return the best trials as rows of a table."""
    complete = [row for row in results["trials"] if row["state"] == "complete"]
    complete.sort(key=lambda row: -row["value"])
    return [
        {
            "trial": str(row["number"]),
            "validation accuracy (%)": f"{100 * row['value']:.2f}",
            "settings": describe_params(row["params"]),
            "runs": ", ".join(row["runs"]),
        }
        for row in complete[:SHOWN_TRIALS]
    ]


def draw(study: optuna.Study, trials: Sequence[FrozenTrial]) -> Figure:
    """Draw the history, the importance of each setting, and the accuracy over each setting."""
    complete = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    names = list(dict.fromkeys(name for trial in complete for name in trial.params))
    columns = max(2, min(3, len(names)))
    rows = 1 + -(-len(names) // columns)
    figure = Figure(figsize=(4.2 * columns, 3.2 * rows), layout="constrained")
    grid = figure.add_gridspec(rows, columns)
    _draw_history(figure.add_subplot(grid[0, : columns - 1]), complete)
    _draw_importances(figure.add_subplot(grid[0, columns - 1]), study, complete)
    for place, name in enumerate(names):
        axes = figure.add_subplot(grid[1 + place // columns, place % columns])
        _draw_slice(axes, name, complete)
    return figure


def _draw_history(axes: Axes, complete: Sequence[FrozenTrial]) -> None:
    numbers = [trial.number for trial in complete]
    values = 100 * np.array([trial.value for trial in complete])
    axes.plot(numbers, values, "o", color=GREY, label="trial")
    best = np.maximum.accumulate(values)
    axes.step(numbers, best, where="post", color=VERMILION, label="best so far")
    style(axes, "trial", "validation accuracy (%)", "history")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(frameon=False)


def _draw_importances(axes: Axes, study: optuna.Study, complete: Sequence[FrozenTrial]) -> None:
    """Draw the importances by PED-ANOVA (https://arxiv.org/abs/2304.10255)."""
    style(axes, "share", "", "importance")
    if len(complete) < 2:
        axes.text(0.5, 0.5, "needs two trials", ha="center", transform=axes.transAxes)
        return
    with warnings.catch_warnings():  # that trials of equal results say nothing, is to be seen
        warnings.simplefilter("ignore", UserWarning)
        found = get_param_importances(study, evaluator=PedAnovaImportanceEvaluator())
    axes.barh(list(reversed(found)), list(reversed(found.values())), color=BLUE)


def _draw_slice(axes: Axes, name: str, complete: Sequence[FrozenTrial]) -> None:
    found = [trial for trial in complete if name in trial.params]
    values = [100 * (trial.value or 0.0) for trial in found]
    places: list[float] = [trial.params[name] for trial in found]
    searched = found[0].distributions[name]
    if isinstance(searched, CategoricalDistribution):
        choices = list(searched.choices)
        places = [choices.index(place) for place in places]
        axes.set_xticks(range(len(choices)), map(str, choices))
        axes.set_xlim(-0.5, len(choices) - 0.5)
    elif getattr(searched, "log", False):
        axes.set_xscale("log")
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set_xlim(searched.low / 1.1, searched.high * 1.1)  # type: ignore[attr-defined]
    axes.scatter(places, values, color=BLUE, s=18)
    style(axes, name, "validation accuracy (%)")
