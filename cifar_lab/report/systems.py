"""The eight systems of the report, in its order, and the figures that show them."""

from __future__ import annotations

from dataclasses import dataclass

from cifar_lab.errors import UserError
from cifar_lab.parsing import FitPlan, parse_fit, unknown

# ``--quick`` divides the steps by this and evaluates so many times.
QUICK_DIVISOR, QUICK_EVALUATIONS = 25, 4


@dataclass(frozen=True)
class System:
    """One system of the report.

    Attributes:
        number: in the report's order, from 1.
        recipe: that trains it.
        figures: numbers of its accuracy and its loss curve in the report; None without.
    """

    number: int
    recipe: str
    figures: tuple[int, int] | None = None


SYSTEMS = (
    System(1, "numpy_mlp", (1, 2)),
    System(2, "mlp", (3, 4)),
    System(3, "deep_mlp_4x1000"),
    System(4, "deep_mlp_4x1024"),
    System(5, "deep_mlp_5x1000"),
    System(6, "deep_mlp", (5, 6)),
    System(7, "batchnorm_mlp"),
    System(8, "cnn", (7, 8)),
)


def choose(text: str) -> list[System]:
    """The systems of a list such as "1,cnn": numbers or recipes; "all" means all.

    Raises:
        UserError: one that is not known.
    """
    if text == "all":
        return list(SYSTEMS)
    known = {key: system for system in SYSTEMS for key in (str(system.number), system.recipe)}
    words = [word.strip() for word in text.split(",")]
    for word in words:
        if word not in known:
            raise UserError(unknown("--systems", word, [*known, "all"]))
    return sorted({known[word] for word in words}, key=lambda system: system.number)


def plan(system: System, seed: int, quick: bool, flags: list[str]) -> FitPlan:
    """The settings of one run: its recipe by the report's protocol, or a short look.

    Args:
        system: to train.
        seed: of the run.
        quick: shorten it.
        flags: more flags of ``scripts/fit.py``.
    """
    words = ["--recipe", system.recipe, "--val_size", "0", "--seed", str(seed)]
    if quick:
        steps = parse_fit(words).settings.max_steps or 0
        steps = max(steps // QUICK_DIVISOR, QUICK_EVALUATIONS)
        words += ["--max_steps", str(steps), "--eval_every", str(steps // QUICK_EVALUATIONS)]
    return parse_fit([*words, *flags])
