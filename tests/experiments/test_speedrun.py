"""The speed-run: the report's protocol, a row for each length, runs that are not repeated."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import torch
import yaml
from matplotlib.axes import Axes

from cifar_lab.errors import TrainingEndedError
from cifar_lab.experiments import speedrun
from cifar_lab.experiments.speedrun_page import draw, table
from cifar_lab.inference.logits import split_logits
from cifar_lab.plan import Plan
from cifar_lab.training import fit
from cifar_lab.training.outcome import Outcome

WORDS = ("speedrun", "--recipe", "mlp", "--log_dir", "logs")
ONE = ("--max_epochs", "1", "--seeds", "0")


@pytest.fixture
def tree(write_tree: Callable[..., Path]) -> Path:
    """Enough for a batch of the recipe."""
    return write_tree(train=70, test=3)


@pytest.fixture
def run(tree: Path, call, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(speedrun, "peak", lambda *given: 2e9)
    return lambda *words: call(*WORDS, "--data_dir", str(tree), *words)


@pytest.fixture
def evaluate(tree: Path, json_of) -> Callable[[str], float]:
    """Return the accuracy of views that ``evaluate`` finds for the first run."""
    words = "evaluate", "logs/mlp/version_0/checkpoints/last.ckpt", "--data_dir", tree, "--tta"
    return lambda tta: json_of(*words, tta)["accuracy"]


def _change_extra(**changes: Any) -> Path:
    (path,) = Path("logs").rglob(speedrun.EXTRA_FILE)
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    return path


def test_a_row_a_length_with_the_numbers_of_its_runs(run, tree: Path, evaluate, summaries) -> None:
    Path("my.yaml").write_text("precision: 64-true\n")
    words = ("--seeds", "0,3", "--max_epochs", "1,2", "--json", "--output", "made/found.json")
    status, out, told = run(*words, "--hidden-units", "9", "--config", "my.yaml")
    assert status == 0, told
    found = json.loads(out)
    assert json.loads(Path("made/found.json").read_text()) == found
    assert [row["epochs"] for row in found["rows"]] == [1, 2]
    assert found["data"] == tree.name
    assert str(tree.parent) not in out
    assert "speedrun --recipe mlp --seeds 0,3 --max_epochs 1,2" in found["command"]
    assert "--hidden_units 9" in found["command"]
    assert all(row["hardware"][0].endswith("64-true") for row in found["rows"])
    configs = [yaml.safe_load(path.read_text()) for path in Path("logs").rglob("config.yaml")]
    assert [config["hidden_units"] for config in configs] == 4 * [[9]]
    for summary in summaries():
        tested = summary["accuracy"]["test"]
        assert summary["data"]["images"]["val"] == 0
        assert tested["best_step"] == summary["steps"]  # read once, at the end
        row = next(row for row in found["rows"] if row["steps"] == summary["steps"])
        seed = row["seeds"].index(summary["seed"])
        assert row["accuracies"][seed] == tested["last"]
        assert row["train_seconds"][seed] == round(summary["seconds"]["train"], 1)
        assert row["convolution_gflops"][seed] == [2, 2]
    views = evaluate("flip_shift")
    assert found["rows"][0]["accuracies_of_views"][0] == pytest.approx(views)


def test_runs_are_not_repeated_and_other_views_are_evaluated(run, monkeypatch, evaluate) -> None:
    _, first, _ = run(*ONE)
    monkeypatch.setattr(fit, "train", lambda *given, **named: pytest.fail("trained again"))
    monkeypatch.setattr(speedrun, "peak", lambda *given: pytest.fail("measured again"))
    asked = []
    monkeypatch.setattr(
        speedrun, "split_logits", lambda *given: asked.append(given[3]) or split_logits(*given)
    )
    _, again, _ = run(*ONE)
    assert again.splitlines()[-3:] == first.splitlines()[-3:]
    assert "| `mlp` | 1 | 1 |" in again
    _change_extra(accuracies_of_views={"flip_shift": 7})
    _, out, _ = run(*ONE, "--tta", "flip_grid", "--json")
    found = json.loads(out)
    assert found["rows"][0]["accuracies_of_views"][0] == pytest.approx(evaluate("flip_grid"))
    assert found["rows"][0]["convolution_gflops"] == [[2, 2]]
    assert "--tta flip_grid" in found["command"]
    assert "700.00 (6 views)" in run(*ONE)[1]  # as it stands in the file
    assert asked == ["flip_grid"]


def test_a_file_of_an_older_version_keeps_its_timings(run) -> None:
    run(*ONE)
    path = _change_extra(accuracy_of_views=7, convolution_gflops=[3, 5])
    extra = json.loads(path.read_text())
    for left_out in (("accuracies_of_views",), ("accuracies_of_views", "steps")):
        path.write_text(json.dumps({n: v for n, v in extra.items() if n not in left_out}))
        (row,) = json.loads(run(*ONE, "--json")[1])["rows"]
        assert row["convolution_gflops"] == [[3, 5]]
        assert row["accuracies_of_views"][0] <= 1


def test_a_damaged_file_is_named(run, tree: Path, refused) -> None:
    run(*ONE)
    path = _change_extra()
    views = ('{"accuracies_of_views": 1}', '{"accuracies_of_views": {"flip": "x"}}')
    for content in ("{", "[]", *views):
        path.write_text(content)
        assert f"{path}: " in refused(*WORDS, *ONE, "--data_dir", tree)


def test_an_unfinished_run_is_trained_anew(run) -> None:
    assert "a tree, fingerprint " in run(*ONE)[1]
    unfinished = Path("logs/mlp/version_0/summary.json")
    unfinished.unlink()
    assert run(*ONE)[0] == 0
    assert not unfinished.exists()  # its seconds would not be those of a run
    assert len(list(Path("logs/mlp").iterdir())) == 2


def test_a_run_that_was_made_longer_is_evaluated_anew(run, call) -> None:
    run(*ONE)
    path = _change_extra(accuracies_of_views={"flip_shift": 7})
    assert "| 700.00 (6 views) |" in run(*ONE)[1]
    assert call("fit", "--resume", str(path.parent), "--max_epochs", "2")[0] == 0
    assert "| 700.00 (6 views) |" not in run("--max_epochs", "2", "--seeds", "0")[1]
    assert len(list(Path("logs/mlp").iterdir())) == 1


ROW = {
    "recipe": "mlp",
    "epochs": None,
    "steps": 1500,
    "seeds": [0, 1],
    "accuracies": [0.5, 0.52],
    "tta": "flip_grid",
    "accuracies_of_views": [0.55, 0.55],
    "train_seconds": [10.0, 20.0],
    "total_seconds": [11.0, 22.0],
    "convolution_gflops": [[200.0, 300.4], [250.0, 190.0]],
    "hardware": ["a processor"],
}


def test_the_table_has_means_over_the_seeds() -> None:
    assert table([ROW]).splitlines()[-1] == (
        "| `mlp` | – | 1,500 | 51.00 ± 1.41 | 55.00 ± 0.00 (18 views) | 15 s | 16 s | 0, 1 | "
        "190–300 | a processor |"
    )


def test_the_figure_has_the_mean_of_each_row_in_the_order_of_time(monkeypatch) -> None:
    drawn = []
    monkeypatch.setattr(
        Axes, "errorbar", lambda axes, *given, **named: drawn.append((*given, named["label"]))
    )
    monkeypatch.setattr(Axes, "legend", lambda axes, **named: None)
    longer = {**ROW, "train_seconds": [60.0, 120.0], "accuracies": [0.6, 0.64], "epochs": 30}
    draw([longer, ROW], Path("curve.svg"))
    assert [label for *_, label in drawn] == ["mean of 18 views", "the image itself"]
    minutes, means, (below, above), _ = drawn[1]
    assert minutes == pytest.approx([0.25, 1.5])
    assert means == pytest.approx([51, 62])
    assert (below, above) == (pytest.approx([1, 2]), pytest.approx([1, 2]))
    assert drawn[0][1] == pytest.approx([55, 55])


def test_a_gpu_takes_a_short_run_of_the_recipe_first(monkeypatch) -> None:
    train = Mock(side_effect=[Outcome(None, status, "It ended.") for status in (0, 1)])
    monkeypatch.setattr(fit, "train", train)
    plan = Plan.of(recipe="mlp", **speedrun.PROTOCOL)
    speedrun._warm_up(plan)
    train.assert_not_called()  # on the CPU there is nothing to warm up
    monkeypatch.setattr(speedrun, "device_kind", lambda accelerator: "cuda")
    speedrun._warm_up(plan)
    settings = train.call_args.args[0].settings
    assert (settings.max_steps, settings.val_size) == (speedrun.WARM_UP, 0)
    assert not Path(settings.log_dir).exists()  # nothing is left of it
    with pytest.raises(TrainingEndedError):
        speedrun._warm_up(plan)


def test_the_convolution_is_that_of_what_the_model_computes_on_and_in(monkeypatch) -> None:
    for module in ("experiments.speedrun", "training.trainer"):
        on_gpu = {"cpu": "cpu", "auto": "cuda"}.get
        monkeypatch.setattr(f"cifar_lab.{module}.device_kind", on_gpu)
    monkeypatch.setattr("torch.cuda.is_bf16_supported", lambda **given: True)
    timed: list[tuple[str, torch.dtype]] = []
    monkeypatch.setattr(
        speedrun, "peak", lambda work, device, dtype: timed.append((str(device), dtype)) or 1
    )
    for settings, expected in (
        ({"model": "numpy_mlp"}, ("cpu", torch.float32)),
        ({}, ("cuda", torch.bfloat16)),
        ({"precision": "16-mixed"}, ("cuda", torch.float16)),
        ({"accelerator": "cpu", "precision": "64-true"}, ("cpu", torch.float64)),
    ):
        speedrun._convolution_gflops(Plan.of(**{"model": "mlp", **settings}))
        assert timed.pop() == expected
