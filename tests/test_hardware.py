"""What trains on one kind of hardware is evaluated and exported there, with the same result."""

import json
from pathlib import Path

import pytest

RUN = Path("logs/fast_cnn/version_0")


@pytest.mark.parametrize("accelerator", ["cpu", pytest.param("gpu", marks=pytest.mark.gpu)])
def test_training_evaluation_and_export_agree(accelerator, tree, call, json_of) -> None:
    hardware = ["--accelerator", accelerator]
    words = ["--model", "fast_cnn", "--widths", "8,8", "--data_dir", str(tree), "--log_dir", "logs"]
    words += ["--batch_size", "20", "--max_steps", "12", "--eval_every", "6"]
    words += ["--augment", "alternating_flip,crop,cutout", "--precision", "32-true"]
    assert call("fit", *words, *hardware, "--progress", "none", "--dashboard", "off")[0] == 0
    trained = json.loads((RUN / "summary.json").read_text())["accuracy"]["test"]
    evaluated = json_of("evaluate", RUN, "--data_dir", tree, *hardware)
    # Another batch size may round a logit otherwise: at most one image of 45.
    assert evaluated["accuracy"] == pytest.approx(trained["of_best_checkpoint"], abs=1.1 / 45)
    assert call("export", RUN, "--format", "torch", *hardware)[0] == 0
