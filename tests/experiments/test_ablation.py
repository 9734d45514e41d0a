"""The ablation: pairs by seed, runs that are not repeated, flags that people can read."""

import json
from pathlib import Path

import numpy as np
import pytest

from cifar_lab.experiments.ablation import ABLATIONS, BASE, Ablation, as_flags, plans, table
from cifar_lab.plan import Plan
from cifar_lab.training import fit

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture
def ablate(tree: Path, call, monkeypatch: pytest.MonkeyPatch):
    shortened = {"max_steps": 4, "eval_every": 100, "batch_size": 20, "hidden_units": [4]}
    variants = {"hardly any steps": {"lr": 1e-9}, "wide": {"hidden_units": [9]}}
    monkeypatch.setitem(ABLATIONS, "mlp", Ablation(shortened, variants))
    words = ("ablate", "--model", "mlp", "--data_dir", str(tree), "--log_dir", "logs")
    return lambda *more: call(*words, *more)


def test_rows_are_the_recipe_and_each_variant_with_the_same_seeds(ablate, summaries) -> None:
    found = json.loads(ablate("--seeds", "0,3", "--json")[1])
    assert found["command"].startswith("cifar-lab ablate --model mlp ")
    assert found["seeds"] == [0, 3]
    assert [row["variant"] for row in found["rows"]] == [BASE, "hardly any steps", "wide"]
    assert [row["flags"] for row in found["rows"]] == ["", "--lr 1e-09", "--hidden_units 9"]
    accuracies = np.array([row["accuracies"] for row in found["rows"]])  # (variants, seeds)
    for row, own in zip(found["rows"], accuracies, strict=True):
        assert row["difference"] == pytest.approx(np.mean(own - accuracies[0]))
    assert found["rows"][0]["interval"] == 0
    assert sorted(s["seed"] for s in summaries()) == [0, 0, 0, 3, 3, 3]
    assert {s["accuracy"]["val"]["last"] for s in summaries()} == set(accuracies.flat)


def test_runs_that_are_there_are_not_repeated(ablate, monkeypatch: pytest.MonkeyPatch) -> None:
    _, first, _ = ablate("--seeds", "0,1", "--only", "1")
    monkeypatch.setattr(fit, "train", lambda *given, **named: pytest.fail("trained again"))
    _, again, _ = ablate("--seeds", "0,1", "--only", "1")
    assert again.splitlines()[-4:] == first.splitlines()[-4:]
    assert "hardly any steps" in again
    assert "\nimage folders (" in again
    assert "wide" not in again


def test_a_time_is_the_median_of_the_seeds_ratios_whatever_one_run_waited_for() -> None:
    base = {"variant": BASE, "flags": "", "accuracies": [0.5, 0.6], "seconds": [10, 20, 30]}
    other = {**base, "variant": "slow", "flags": "--slow", "seconds": [15, 30, 3000]}
    rows = [{**row, "difference": 0.0, "interval": 0.0} for row in (base, other)]
    lines = table({"rows": rows}).splitlines()
    assert [line.split("|")[-2].strip() for line in lines[2:]] == ["1.00", "1.50"]


@pytest.mark.parametrize("model", ABLATIONS)
@pytest.mark.parametrize("whole", [False, True])
def test_every_variant_is_a_change_of_the_recipe(model: str, whole: bool) -> None:
    base, *variants = plans(model, list(ABLATIONS[model].variants), whole).values()
    for plan in variants:
        assert plan.decisive() != base.decisive(), plan


def test_whole_runs_are_those_of_the_recipe_and_evaluated_at_the_end() -> None:
    recipe = Plan.of("fast_cnn").as_config()
    found = plans("fast_cnn", ["no flips"], whole=True)
    assert list(found) == [BASE, "no flips"]
    for plan, augment in zip(found.values(), (recipe["augment"], ["crop"]), strict=True):
        config = plan.as_config()
        changed = {name for name in recipe if config[name] != recipe[name]}
        assert config["augment"] == augment
        assert changed <= {"augment", "eval_every", "dashboard", "progress"}
        assert config["eval_every"] == 100_000


def test_settings_are_shown_as_flags_as_in_the_published_results() -> None:
    assert as_flags({"whitening": False, "lr": 0.5}) == "--whitening false --lr 0.5"
    published = json.loads((DOCS / "ablation_fast_mlp.json").read_text())
    made = ABLATIONS["fast_mlp"]
    assert published["shortened"] == as_flags(made.shortened)
    for row in published["rows"]:
        assert row["flags"] == as_flags(made.variants.get(row["variant"], {}))
