"""The ablation: pairs by seed, an interval of Student's t, runs that are not repeated."""

import json
import math
from pathlib import Path

import numpy as np
import pytest

from cifar_lab.parsing import parse_fit
from cifar_lab.report import runs
from cifar_lab.studies.ablate_command import main
from cifar_lab.studies.ablation import (
    BASE,
    STUDENT,
    STUDIES,
    Study,
    paired,
    plan_study,
    table,
)


@pytest.fixture
def ablate(tree: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    shortened = "--max_steps 4 --eval_every 100 --batch_size 20 --hidden_units 4"
    variants = {"hardly any steps": "--lr 1e-9", "wide": "--hidden_units 9"}
    monkeypatch.setitem(STUDIES, "mlp", Study(shortened, variants))

    def run(*words: str) -> tuple[int, str, str]:
        status = main(["--model", "mlp", "--data_dir", str(tree), "--log_dir", "logs", *words])
        return status, *capsys.readouterr()

    return run


def test_rows_are_the_recipe_and_each_variant_with_the_same_seeds(ablate) -> None:
    status, out, _ = ablate("--seeds", "0,3", "--json")
    assert status == 0
    found = json.loads(out)
    assert [row["variant"] for row in found["rows"]] == [BASE, "hardly any steps", "wide"]
    base, *others = (row["accuracies"] for row in found["rows"])
    assert len(base) == 2
    assert found["rows"][0]["difference"] == found["rows"][0]["interval"] == 0
    for row, accuracies in zip(found["rows"][1:], others, strict=True):
        expected = np.mean(np.array(accuracies) - np.array(base))
        assert row["difference"] == pytest.approx(expected)
    summaries = [json.loads(p.read_text()) for p in sorted(Path("logs").rglob("summary.json"))]
    assert sorted(s["seed"] for s in summaries) == [0, 0, 0, 3, 3, 3]
    assert {s["accuracy"]["val"]["last"] for s in summaries} == {*base, *others[0], *others[1]}


def test_runs_that_are_there_are_not_repeated(ablate, monkeypatch: pytest.MonkeyPatch) -> None:
    _, first, _ = ablate("--seeds", "0,1", "--only", "1")
    monkeypatch.setattr(runs, "run_fit", lambda plan: pytest.fail("trained again"))
    _, again, _ = ablate("--seeds", "0,1", "--only", "1")
    assert again.splitlines()[-4:] == first.splitlines()[-4:]
    assert "hardly any steps" in again
    assert "\nimage folders (" in again
    assert "wide" not in again


def test_a_difference_and_its_interval_are_those_of_the_pairs() -> None:
    difference, interval = paired([0.75, 0.8, 0.7], [0.7, 0.7, 0.7])
    assert difference == pytest.approx(0.05)
    assert interval == pytest.approx(4.303 * 0.05 / math.sqrt(3))


def test_a_time_is_the_median_of_the_seeds_ratios_whatever_one_run_waited_for() -> None:
    base = {"variant": BASE, "flags": "", "accuracies": [0.5, 0.6], "seconds": [10, 20, 30]}
    other = {**base, "variant": "slow", "flags": "--slow", "seconds": [15, 30, 3000]}
    rows = [{**row, "difference": 0.0, "interval": 0.0} for row in (base, other)]
    lines = table({"rows": rows}).splitlines()
    assert [line.split("|")[-2].strip() for line in lines[2:]] == ["1.00", "1.50"]


@pytest.mark.parametrize("freedom", range(1, len(STUDENT) + 1))
def test_the_quantiles_are_student_s(freedom: int) -> None:
    x = np.linspace(0, STUDENT[freedom - 1], 200_001)
    scale = math.gamma((freedom + 1) / 2) / math.gamma(freedom / 2) / math.sqrt(freedom * math.pi)
    density = scale * (1 + x**2 / freedom) ** (-(freedom + 1) / 2)
    half = np.sum((density[1:] + density[:-1]) / 2 * np.diff(x))
    assert 0.5 + half == pytest.approx(0.975, abs=1e-4)


@pytest.mark.parametrize("model", STUDIES)
def test_every_variant_is_a_change_that_the_flags_know(model: str) -> None:
    study = STUDIES[model]
    plain = parse_fit(["--model", model, *study.shortened.split()]).as_config()
    for words in study.variants.values():
        changed = parse_fit(["--model", model, *study.shortened.split(), *words.split()])
        assert changed.as_config() != plain, words


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--seeds", "1"], "--seeds 1: expected at least two"),
        (["--seeds", "a,b"], "--seeds a,b: expected integers"),
        (["--only", "0"], "--only 0: expected numbers of 1 hardly any steps; 2 wide"),
        (["--model", "fast_cn"], "fast_cnn"),
    ],
)
def test_wrong_input_is_refused(ablate, words: list[str], message: str) -> None:
    status, _, told = ablate(*words)
    assert status == 2
    assert message in told


def test_whole_runs_are_the_recipe_s_and_evaluated_at_the_end() -> None:
    named, plans = plan_study("fast_cnn", [0, 1], ["no flips"], [], whole=True)
    assert named == {BASE: "", "no flips": "--augment crop"}
    recipe = parse_fit(["--model", "fast_cnn"]).as_config()
    for name, augment in ((BASE, recipe["augment"]), ("no flips", ["crop"])):
        for seed, plan in enumerate(plans[name]):
            config = plan.as_config()
            changed = {key for key in recipe if config[key] != recipe[key]}
            assert config["seed"] == seed
            assert config["augment"] == augment
            assert changed <= {"seed", "augment", "eval_every", "dashboard", "progress"}
            assert config["eval_every"] == 100_000
