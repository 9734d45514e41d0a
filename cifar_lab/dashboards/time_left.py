"""The time that a training still takes, estimated from its steps and evaluations so far."""

import time
from collections.abc import Callable


class TimeLeft:
    """Estimate the seconds that are left.

    The first step is not timed, since it may compile or capture what the others only run.

    Args:
        cost: function that returns the cost of the first n steps, in any unit; see
            ``ImageClassifier.cost_of_steps``.
        steps: number of steps of the whole training.
        eval_every: number of steps between evaluations; another one comes after the last step.
    """

    def __init__(self, cost: Callable[[int], float], steps: int, eval_every: int) -> None:
        self._cost, self._steps, self._eval_every = cost, steps, eval_every
        self._first: int | None = None  # number of steps when the timing began
        self._start = 0.0  # when it began, moved on by the time of the evaluations since
        self._evaluations: list[float] = []  # seconds that each took

    def count_step(self, step: int) -> None:
        """Note that this number of steps is done."""
        if self._first is None:
            self._first, self._start = step, time.perf_counter()

    def begin_evaluation(self) -> None:
        """Stop the clock of the steps."""
        self._began = time.perf_counter()

    def end_evaluation(self) -> None:
        """Note how long the evaluation took, and start the clock of the steps again."""
        self._evaluations.append(time.perf_counter() - self._began)
        self._start += self._evaluations[-1]

    def seconds(self, step: int) -> float | None:
        """Return the seconds that are left after a number of steps; None until one was timed.

        Evaluations count as soon as there was one.
        """
        if step >= self._steps:
            return 0.0
        if self._first is None or step <= self._first:
            return None
        done = self._cost(step) - self._cost(self._first)
        left = self._cost(self._steps) - self._cost(step)
        seconds = (time.perf_counter() - self._start) / done * left
        if self._evaluations:
            count = -(-self._steps // self._eval_every) - step // self._eval_every
            seconds += count * sum(self._evaluations) / len(self._evaluations)
        return seconds
