"""The study of initialisations: its probe against plain autograd, and a tiny run of the command."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from cifar_lab.errors import UserError
from cifar_lab.parsing import parse_fit
from cifar_lab.studies.command import main
from cifar_lab.studies.initialisation import VARIANTS, train
from cifar_lab.studies.probe import largest_curvature, learned, look
from cifar_lab.studies.tables import tables
from cifar_lab.training.fit import run_fit

TINY = ("--max_steps", "6", "--eval_every", "3", "--log_every", "1", "--batch_size", "20")
ROOT = Path(__file__).parents[1]


def _weights(units=4, inputs=6, classes=3):
    generator = torch.Generator().manual_seed(0)
    shapes = ((units, inputs), (units,), (classes, units), (classes,))
    return [torch.randn(shape, generator=generator) for shape in shapes]


def _plan(tree, *flags):
    words = ["--model", "mlp", "--val_size", "0", "--accelerator", "cpu", "--precision", "32-true"]
    return parse_fit([*words, "--data_dir", str(tree), *TINY, *flags])


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


def test_study_prints_a_row_for_each_variant_and_goes_on_where_it_was(tree, capsys):
    words = ["--data_dir", str(tree), "--log_dir", "runs", "--seeds", "0", *TINY]
    assert main([*words, "--output", "figures/one.svg"]) == 0
    out = capsys.readouterr().out
    assert out.count("running ") == len(VARIANTS)
    drawn = Path("figures/one.svg").read_text("utf-8")
    for variant in VARIANTS:
        assert out.count(f"| {variant.label} |") == 2  # tables
        assert (f"<!-- {variant.label} -->" in drawn) == bool(variant.colour)
    Path("runs/default/seed_0.json").unlink()
    assert main([*words, "--output", "figures/two.svg"]) == 0
    again = capsys.readouterr().out
    assert [line for line in again.splitlines() if "running" in line] == ["running default, seed 0"]
    assert again.split("\n\n")[-2] == out.split("\n\n")[-2]
    assert Path("figures/one.svg").read_bytes() == Path("figures/two.svg").read_bytes()
    elsewhere = tree.rename(tree.with_name("elsewhere"))  # the same images
    words[1] = str(elsewhere)
    assert main(words) == 0
    assert "running" not in capsys.readouterr().out
    next((elsewhere / "test" / "cat").iterdir()).unlink()
    assert main(words) == 0
    assert capsys.readouterr().out.count("running ") == len(VARIANTS)
    for content in ("{", "[]", '{"config": {}}'):
        Path("runs/default/seed_0.json").write_text(content)
        assert main(words) == 2
        error = capsys.readouterr().err
        assert "runs/default/seed_0.json: " in error
        assert "; remove it to train it anew\n" in error


def test_tables_give_mean_and_deviation_over_the_seeds_and_the_step_of_the_peak():
    point = {"dead": 0.25, "logit": 3.0, "first": 2.0, "second": 1.0, "learned": 0.5}
    run = {"config": {"lr": 0.1}, "losses": [2.0, 5.0, 1.0], "curvature": [40.0, 20.0]}
    runs = [
        run | {"points": [{"step": 0, **point}, {"step": 3, **point, "accuracy": accuracy}]}
        for accuracy in (0.4, 0.5)
    ]
    results, inside = tables({"default": runs}).split("\n\n")
    name = "| PyTorch's default | "
    assert results.splitlines()[2] == f"{name}45.00 ± 7.07 | 45.00 ± 7.07 | 2 | 5 | 2 | – / 25.0 |"
    assert inside.splitlines()[2] == f"{name}3 | 4 / 2 | 2 / 2 | 50 | 2.67 |"


def test_run_of_the_study_gives_the_numbers_of_fit(tree):
    plan = _plan(tree, "--log_dir", "logs", "--max_steps", "7")  # evaluated every three
    assert run_fit(plan) == 0
    summary = json.loads(Path("logs/mlp/version_0/summary.json").read_text("utf-8"))
    run = train(plan)
    assert run["points"][-1]["accuracy"] == summary["accuracy"]["test"]["last"]
    assert run["points"][-1]["step"] == len(run["losses"]) == 7
    with pytest.raises(UserError, match="--val_size 15: the study has no validation split"):
        train(_plan(tree, "--val_size", "15"))


def test_a_layer_that_the_variant_names_starts_small(tree):
    sizes = {layers: train(_plan(tree), layers)["points"][0] for layers in ((), (0,), (1,))}
    assert sizes[0,]["first"] == pytest.approx(1e-4 * (3072 * 100) ** 0.5, rel=0.05)
    assert sizes[1,]["second"] == pytest.approx(1e-4 * (100 * 3) ** 0.5, rel=0.2)
    assert sizes[0,]["second"] == sizes[()]["second"]
    assert sizes[1,]["first"] == sizes[()]["first"]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--seeds", "a"], "--seeds a: expected integers separated by commas"),
        (["--output", "a.pdf"], "--output a.pdf: expected a name that ends in .svg or .png"),
        (["--data_dir", "none"], "data_dir none: no such folder"),
        (["--sedes", "0"], "--sedes: unknown"),
        (["--seed", "7"], "--seed 7: the runs have the seeds of --seeds"),
        (["--hidden_units", "9,8", "--source", "synthetic"], "--hidden_units: 2 hidden layers"),
    ],
)
def test_wrong_flag_exits_with_2_and_says_what_was_expected(flags, message, capsys):
    assert main(flags) == 2
    assert message in capsys.readouterr().err


def test_help_is_quick_and_imports_nothing_heavy():
    code = (
        "import sys; from cifar_lab.studies.command import main; status = main(['--help']); "
        "sys.exit(str({'torch', 'numpy', 'matplotlib'} & sys.modules.keys() or '') or status)"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert "--log_dir" in done.stdout
