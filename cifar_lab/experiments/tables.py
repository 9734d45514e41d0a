"""Statistics of several runs: means, deviations, intervals, and Markdown tables."""

from collections.abc import Mapping, Sequence
from math import sqrt
from statistics import fmean, mean, stdev, variance

from scipy import stats

from cifar_lab.run.run import Run
from cifar_lab.run.summary import hardware


def quantile(freedom: float) -> float:
    """Return the 0.975 quantile of Student's t with these degrees of freedom."""
    return float(stats.t.ppf(0.975, freedom))


def mean_and_deviation(values: Sequence[float]) -> str:
    """Return fractions in percent, "48.46 ± 1.04" (sample standard deviation), or one value."""
    percent = [100 * value for value in values]
    text = f"{fmean(percent):.2f}"
    return text if len(percent) == 1 else f"{text} ± {stdev(percent):.2f}"


def paired(values: Sequence[float], base: Sequence[float]) -> tuple[float, float]:
    """Return the mean difference of at least two pairs, and half its 95 % interval."""
    differences = [value - other for value, other in zip(values, base, strict=True)]
    half = quantile(len(differences) - 1) * stdev(differences) / sqrt(len(differences))
    return mean(differences), half


def unpaired(values: Sequence[float], base: Sequence[float]) -> tuple[float, float]:
    """Return the difference of two means, and half its 95 % interval.

    The interval is Welch's, for samples of unequal variances. Both have at least two values.
    """
    difference = fmean(values) - fmean(base)
    parts = variance(values) / len(values), variance(base) / len(base)
    if sum(parts) == 0:
        return difference, 0.0
    freedom = sum(parts) ** 2 / (
        parts[0] ** 2 / (len(values) - 1) + parts[1] ** 2 / (len(base) - 1)
    )
    return difference, quantile(freedom) * sqrt(sum(parts))


def prediction_interval(values: Sequence[float]) -> tuple[float, float] | None:
    """Return the 95 % prediction interval of one more value of a normal distribution.

    It is ``mean ± t · s · √(1 + 1/n)``, so it includes the scatter of that value as well as the
    uncertainty of the mean. None for a single value.
    """
    if len(values) < 2:
        return None
    half = quantile(len(values) - 1) * stdev(values) * sqrt(1 + 1 / len(values))
    return fmean(values) - half, fmean(values) + half


def last_quarter(steps: Sequence[int], values: Sequence[float]) -> float:
    """Return the mean of the values of a curve in the last quarter of its steps."""
    return fmean(v for step, v in zip(steps, values, strict=True) if step > 0.75 * steps[-1])


def mean_time(seconds: Sequence[float]) -> str:
    """Return the mean, such as "1,234 s" or "9.5 s"."""
    value = fmean(seconds)
    return f"{value:,.0f} s" if value >= 10 else f"{value:.1f} s"


def time_range(seconds: Sequence[float]) -> str:
    """Return the shortest and the longest time, such as "59–71 s" or "3 min"."""
    low, high = min(seconds), max(seconds)
    unit, divisor = ("s", 1) if high < 120 else ("min", 60)
    shown = {f"{value / divisor:.0f}" for value in (low, high)}
    return f"{'–'.join(sorted(shown, key=float))} {unit}"


def seed_range(seeds: Sequence[int]) -> str:
    """Return seeds such as "0–4", or "0, 2" if some are left out."""
    if len(seeds) > 2 and list(seeds) == list(range(seeds[0], seeds[-1] + 1)):
        return f"{seeds[0]}–{seeds[-1]}"
    return ", ".join(map(str, seeds))


def markdown_table(rows: Sequence[Mapping[str, str]]) -> str:
    """Return a table in Markdown; a row maps the headings of the columns to its cells."""
    lines = [rows[0], ["---"] * len(rows[0]), *(row.values() for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def versions_of(runs: Sequence[Run]) -> dict[str, str]:
    """Return the version of each package that the runs used, or all versions if they differ."""
    all_versions = [run.summary["versions"] for run in runs]
    return {
        name: ", ".join(dict.fromkeys(versions[name] for versions in all_versions))
        for name in all_versions[0]
    }


def hardware_of(runs: Sequence[Run]) -> list[str]:
    """Return the hardware and precision of the runs, without duplicates."""
    return list(dict.fromkeys(hardware(run.summary) for run in runs))
