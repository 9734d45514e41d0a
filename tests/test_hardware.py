"""What trains on one kind of hardware is evaluated and exported there, with the same result."""

import json
from pathlib import Path

import pytest

from cifar_lab.cli import main

RUN = Path("logs/fast_cnn/version_0")


@pytest.mark.parametrize("accelerator", ["cpu", pytest.param("gpu", marks=pytest.mark.gpu)])
def test_a_model_is_the_same_in_training_evaluation_and_export(accelerator, tree, capsys) -> None:
    hardware = ["--accelerator", accelerator]
    words = ["--model", "fast_cnn", "--widths", "8,8", "--data_dir", str(tree), "--log_dir", "logs"]
    words += ["--batch_size", "20", "--max_steps", "12", "--eval_every", "6"]
    words += ["--augment", "alternating_flip,crop,cutout", "--precision", "32-true"]
    assert main(["fit", *words, *hardware, "--progress", "none", "--dashboard", "off"]) == 0
    trained = json.loads((RUN / "summary.json").read_text())["accuracy"]["test"]
    capsys.readouterr()
    assert main(["evaluate", str(RUN), "--data_dir", str(tree), "--json", *hardware]) == 0
    evaluated = json.loads(capsys.readouterr().out)
    # Another batch size may round a logit otherwise: at most one image of 45.
    assert evaluated["accuracy"] == pytest.approx(trained["of_best_checkpoint"], abs=1.1 / 45)
    assert main(["export", str(RUN), "--format", "torch", *hardware]) == 0
