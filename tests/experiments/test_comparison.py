"""Differences of groups of runs, and the commands that list and compare them."""

import csv
import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from cifar_lab.experiments import comparison
from cifar_lab.experiments.comparison_page import draw, write_page
from cifar_lab.run.folder import RunFolder

A, B = [0.50, 0.53, 0.49, 0.52], [0.47, 0.49, 0.48, 0.50]


@pytest.fixture
def group(finish: Callable[..., Path]) -> Callable[..., comparison.Group]:
    """Write a finished run for each accuracy, with seeds from a first one; open the group."""

    def group(name: str, accuracies: list[float], first: int = 0, **settings: object):
        for seed, accuracy in enumerate(accuracies, first):
            path = finish(f"{name}/version_{seed}", seed=seed, **settings) / "summary.json"
            summary = json.loads(path.read_text())
            summary |= {"seed": seed, "accuracy": {"test": {"best": 0.9, "last": accuracy}}}
            path.write_text(json.dumps(summary))
        return comparison.open_group(f"logs/{name}", "test")

    return group


def test_a_difference_of_the_same_seeds_is_paired(group) -> None:
    found = comparison.difference(group("a", A), group("b", B))
    expected = stats.ttest_rel(B, A).confidence_interval()
    assert found["paired"]
    assert found["difference"] - found["interval"] == pytest.approx(expected.low)
    assert found["difference"] + found["interval"] == pytest.approx(expected.high)
    assert found["shown"] == (expected.high < 0)


def test_a_difference_of_other_seeds_has_the_interval_of_welch(group) -> None:
    found = comparison.difference(group("a", A), group("b", B[:3], first=7))
    expected = stats.ttest_ind(B[:3], A, equal_var=False).confidence_interval()
    assert not found["paired"]
    assert found["difference"] - found["interval"] == pytest.approx(expected.low)
    assert found["difference"] + found["interval"] == pytest.approx(expected.high)


def test_the_page_has_the_table_and_a_point_for_each_seed(group) -> None:
    groups = group("a", A), group("b", B[:3], first=7)
    found = comparison.difference(*groups)
    path = write_page(groups, [found], Path(), "a command")
    page = path.read_text("utf-8")
    assert "<code>logs/b</code>" in page
    assert comparison.describe_difference(found).partition(" ± ")[0] in page
    assert page.count("<svg") == 1
    lines = draw(groups).axes[0].get_lines()
    assert [
        line.get_xdata() == pytest.approx([100 * v for v in group.accuracies.values()])
        for line, group in zip(lines, groups, strict=True)
    ] == [True, True]


def test_what_is_not_shown_says_how_many_more_seeds_would_show_it(group) -> None:
    a, b = [0.50, 0.52, 0.48], [0.51, 0.50, 0.50]
    found = comparison.difference(group("a", a), group("b", b))
    assert not found["shown"]
    deviation = np.std(np.subtract(b, a), ddof=1)
    n = 3 + found["more_seeds"]
    half = {k: stats.t.ppf(0.975, k - 1) * deviation / math.sqrt(k) for k in (n - 1, n)}
    assert half[n] < abs(found["difference"]) <= half[n - 1]
    same = comparison.difference(group("c", a), group("d", a))
    assert (same["shown"], same["more_seeds"]) == (False, None)


def test_mcnemar_is_the_sign_test_of_the_images_that_one_model_alone_recognised() -> None:
    first = np.array([True] * 9 + [False] * 2 + [True] * 50)
    second = np.array([False] * 9 + [True] * 2 + [True] * 50)
    found = comparison.mcnemar(first, second)
    tail = sum(math.comb(11, k) for k in range(3)) / 2**11
    assert (found["only_first"], found["only_second"]) == (9, 2)
    assert found["p"] == pytest.approx(2 * tail)
    assert comparison.mcnemar(first, first)["p"] == 1


def test_the_command_compares_with_the_first_group(group, json_of, call) -> None:
    group("a", A)
    group("b", B)
    found = json_of("compare", "logs/a", "logs/b", "logs/b/version_0,logs/b/version_1")
    assert [len(one["accuracies"]) for one in found["groups"]] == [4, 4, 2]
    assert [one["paired"] for one in found["differences"]] == [True, False]
    _, out, _ = call("compare", "logs/a", "logs/b")
    assert "points (95 %, paired by seed): " in out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["logs/a"], "RUNS: expected at least two groups of runs"),
        (["logs/a", "logs/none"], "logs/none: no such folder"),
        (["logs/a", "."], ".: no finished run here"),
        (["logs/a", "logs/a,logs/a"], "logs/a,logs/a: two runs have seed 0"),
        (["logs/a", "logs/a/version_0,logs/b/version_1"], "they differ in lr"),
        (["logs/a", "logs/c"], "the runs saw different images (fingerprints a, other)"),
        (["logs/a", "logs/b", "--split", "val"], "has no validation split; use --split test"),
    ],
)
def test_groups_that_cannot_be_compared_are_refused(group, finish, refused, words, message) -> None:
    group("a", A)
    group("b", B, lr=0.5)
    finish("c/version_0", images="other")
    assert message in refused("compare", *words)


def test_two_checkpoints_are_compared_on_the_same_images(checkpoint, tree, json_of) -> None:
    run = str(checkpoint.parent.parent)
    found = json_of("compare", run, run, "--data_dir", str(tree))["differences"][0]
    assert found["mcnemar"] == {"images": 45, "only_first": 0, "only_second": 0, "p": 1.0}
    assert (found["difference"], found["interval"]) == (0, None)


@pytest.fixture
def listed(finish: Callable[..., Path]) -> None:
    """A finished run, a stopped one, one that a process trains, and a damaged one, in ``logs``."""
    finish("mlp/version_0", lr=0.25, seed=3)
    for number in (1, 2, 3):
        (finish(f"mlp/version_{number}") / "summary.json").unlink()
    Path("logs/mlp/version_1/metrics.csv").write_text("step,acc/val\n5,0.5\n7,\n9,0.25\n")
    Path("logs/mlp/version_3/config.yaml").write_text("[")


def test_runs_are_listed_with_what_they_reached(listed, json_of, call) -> None:
    with RunFolder.at(Path("logs/mlp/version_2").absolute()).locked():
        rows = json_of("runs", "logs")
    assert [row["state"].partition(":")[0] for row in rows] == [
        *("finished", "stopped", "running", "damaged")
    ]
    assert (rows[0]["settings"], rows[0]["seed"], rows[0]["test"]) == ({"lr": 0.25}, 3, 0.25)
    assert (rows[1]["steps"], rows[1]["val"]) == (9, 0.5)
    assert "lr=0.25" in call("runs", "logs")[1].splitlines()[1]


def test_runs_are_sorted_and_filtered_and_printed_as_csv(listed, call) -> None:
    Path("logs/mlp/version_3/config.yaml").unlink()
    _, out, _ = call("runs", "logs", "--csv", "--sort", "val")
    assert next(csv.DictReader(out.splitlines()))["run"] == "mlp/version_1"
    _, out, _ = call("runs", "logs", "--csv", "--where", "state=finished,lr=0.250")
    assert [row["run"] for row in csv.DictReader(out.splitlines())] == ["mlp/version_0"]
    assert call("runs", "logs", "--where", "lr=7")[1] == "no runs in logs\n"
    status, _, told = call("runs", "log")
    assert (status, told) == (2, "cifar-lab runs: log: no such folder\n")
