"""The study of initialisations: its probe against plain autograd, and a tiny run of the command."""

from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from cifar_lab.experiments.initialisation import PROTOCOL, VARIANTS, probed_runs, tables
from cifar_lab.experiments.probe import largest_curvature, learned, look
from cifar_lab.plan import Plan
from cifar_lab.run.run import runs
from cifar_lab.training.fit import train

TINY = {"max_steps": 6, "eval_every": 3, "log_every": 1, "batch_size": 20}


def _weights():
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(shape, generator=generator) for shape in ((4, 6), (4,), (3, 4), (3,))]


def test_unit_below_zero_for_every_image_is_dead():
    weights = _weights()
    weights[1][:] = torch.tensor([-100.0, 100.0, 100.0, -100.0])
    seen = look(weights, torch.randn(50, 6), torch.zeros(50, dtype=torch.int64))
    assert seen["dead"] == 0.5
    assert seen["active"] == 0.5


def test_learned_part_is_that_of_the_variance_which_the_change_brings():
    inputs = torch.randn(1000, 6, generator=torch.Generator().manual_seed(0))
    initial = torch.eye(6)
    assert learned(initial, initial, inputs) == 0
    assert learned(initial, 3 * initial, inputs) == pytest.approx(4 / 5)


def test_curvature_is_the_largest_eigenvalue_of_the_hessian():
    weights = _weights()
    generator = torch.Generator().manual_seed(1)
    inputs = torch.randn(30, 6, generator=generator)
    labels = torch.arange(30) % 3

    def loss(flat):
        first, bias, second, second_bias = (
            part.reshape(weight.shape)
            for part, weight in zip(flat.split([w.numel() for w in weights]), weights, strict=True)
        )
        hidden = F.relu(F.linear(inputs, first, bias))
        return F.cross_entropy(F.linear(hidden, second, second_bias), labels)

    flat = torch.cat([weight.flatten() for weight in weights])
    expected = torch.linalg.eigvalsh(torch.autograd.functional.hessian(loss, flat)).abs().max()
    found = torch.tensor(largest_curvature(weights, inputs, labels))
    torch.testing.assert_close(found, expected, rtol=1e-2, atol=0.0)  # 20 iterations


def test_a_probed_run_has_the_numbers_of_fit_and_starts_as_its_variant_says(tree):
    common = {**PROTOCOL, **TINY, "max_steps": 7, "data_dir": tree}  # evaluated every three
    names = ("PyTorch's default", "first layer small", "second layer small")
    plans = {name: Plan.of(**{**common, **VARIANTS[name].settings}) for name in names}
    found = [several[0] for several in probed_runs(plans, [0], "").values()]
    plain = train(plans[names[0]].replace(log_dir="plain"), command="").run
    assert found[0]["points"][-1]["accuracy"] == plain.summary["accuracy"]["test"]["last"]
    assert found[0]["points"][-1]["step"] == len(found[0]["losses"]) == 7
    probed = next(run for run in runs() if run.config["init"] == "pytorch")
    assert probed.summary["accuracy"] == plain.summary["accuracy"]
    default, first, second = (run["points"][0] for run in found)
    assert first["first"] == pytest.approx(1e-4 * (3072 * 100) ** 0.5, rel=0.05)
    assert second["second"] == pytest.approx(1e-4 * (100 * 3) ** 0.5, rel=0.2)
    assert first["second"] == default["second"]
    assert second["first"] == default["first"]


def test_every_variant_is_a_run_of_its_own():
    plans = [Plan.of(**{**PROTOCOL, **variant.settings}) for variant in VARIANTS.values()]
    assert len({tuple(plan.decisive().items()) for plan in plans}) == len(VARIANTS) == 10


def test_study_prints_a_row_a_variant_and_goes_on_where_it_was(tree, call, monkeypatch):
    kept = ("NumPy, both layers small", "PyTorch's default", "default, Adam 2e-4")
    for name in VARIANTS.keys() - kept:
        monkeypatch.delitem(VARIANTS, name)
    tiny = [word for name, value in TINY.items() for word in (f"--{name}", str(value))]
    words = ["study-initialisation", "--log_dir", "logs", "--seeds", "0", *tiny]

    def study(*more, folder=tree):
        return call(*words, "--data_dir", str(folder), *more)

    status, out, err = study("--output", "figures/one.svg")
    assert status == 0, err
    assert out.count("--- training ") == len(kept)
    drawn = Path("figures/one.svg").read_text("utf-8")
    for name, variant in VARIANTS.items():
        assert out.count(f"| {name} |") == 2  # tables
        assert (f"<!-- {name} -->" in drawn) == bool(variant.colour)
    default = Plan.of(**{**PROTOCOL, **TINY}).decisive()
    (run,) = (run for run in runs("logs") if run.plan.decisive() == default)
    (run.path / "probe.json").unlink()
    again = study("--output", "figures/two.svg")[1]
    lines = [line for line in again.splitlines() if "--- training " in line]
    assert lines == ["--- training PyTorch's default, seed 0"]
    assert again.split("\n\n")[-2] == out.split("\n\n")[-2]
    assert Path("figures/one.svg").read_bytes() == Path("figures/two.svg").read_bytes()
    elsewhere = tree.rename(tree.with_name("elsewhere"))  # the same images
    assert "--- training " not in study(folder=elsewhere)[1]
    for content in ("{", "[]", '{"losses": []}'):
        for path in Path("logs/mlp").glob("*/probe.json"):
            path.write_text(content)
        status, _, error = study(folder=elsewhere)
        assert status == 2
        assert "/probe.json: " in error
        assert error.endswith("; remove it to train it again\n")


def test_tables_give_mean_and_deviation_over_the_seeds_and_the_step_of_the_peak():
    point = {"dead": 0.25, "logit": 3.0, "first": 2.0, "second": 1.0, "learned": 0.5}
    run = {"config": {"lr": 0.1}, "losses": [2.0, 5.0, 1.0], "curvature": [40.0, 20.0]}
    found = [
        run | {"points": [{"step": 0, **point}, {"step": 3, **point, "accuracy": accuracy}]}
        for accuracy in (0.4, 0.5)
    ]
    results, inside = tables({"PyTorch's default": found}).split("\n\n")
    name = "| PyTorch's default | "
    assert results.splitlines()[2] == f"{name}45.00 ± 7.07 | 45.00 ± 7.07 | 2 | 5 | 2 | – / 25.0 |"
    assert inside.splitlines()[2] == f"{name}3 | 4 / 2 | 2 / 2 | 50 | 2.67 |"


def test_a_network_of_two_hidden_layers_is_refused(tree, call):
    words = ("--data_dir", tree, "--hidden_units", "9,8", "--batch_size", "20")
    status, _, error = call("study-initialisation", *words)
    assert status == 2
    assert "--hidden_units: 2 hidden layers" in error
