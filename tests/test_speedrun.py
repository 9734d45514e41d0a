"""The speedrun: the report's protocol, a row a length, runs that are not repeated."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from matplotlib.axes import Axes

from cifar_lab.cli import fit
from cifar_lab.errors import TrainingEndedError
from cifar_lab.inference.evaluate_command import main as evaluate
from cifar_lab.inference.logits import split_logits
from cifar_lab.parsing import FitPlan, parse_fit
from cifar_lab.report import runs
from cifar_lab.studies import speedrun, speedrun_figure
from cifar_lab.studies.speedrun_command import main

WORDS = ["--recipe", "mlp", "--log_dir", "logs", "--seeds", "0,3"]


@pytest.fixture
def tree(write_tree: Callable[..., Path]) -> Path:
    """Enough for a batch of the recipe."""
    return write_tree(train=70, test=3)


@pytest.fixture
def run(tree: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(speedrun, "peak", lambda *given: 2e9)

    def run(*words: str) -> tuple[int, str, str]:
        capsys.readouterr()
        status = main([*WORDS, "--data_dir", str(tree), *words])
        return status, *capsys.readouterr()

    return run


def test_a_row_a_length_with_the_numbers_of_its_runs(run, tree: Path, capsys) -> None:
    status, out, told = run("--max_epochs", "1,2", "--json", "--output", "made/found.json")
    assert status == 0, told
    found = json.loads(out)
    assert json.loads(Path("made/found.json").read_text()) == found
    assert [row["epochs"] for row in found["rows"]] == [1, 2]
    assert found["data"] == tree.name
    assert str(tree.parent) not in out
    assert "--recipe mlp --seeds 0,3 --max_epochs 1,2" in found["command"]
    summaries = [json.loads(p.read_text()) for p in sorted(Path("logs").rglob("summary.json"))]
    assert len(summaries) == 4
    for summary in summaries:
        assert summary["data"]["images"]["val"] == 0
        assert summary["accuracy"]["test"]["best_step"] == summary["steps"]  # read once, at the end
        row = next(row for row in found["rows"] if row["steps"] == summary["steps"])
        seed = row["seeds"].index(summary["seed"])
        assert row["accuracies"][seed] == summary["accuracy"]["test"]["last"]
        assert row["train_seconds"][seed] == round(summary["seconds"]["train"], 1)
        assert row["convolution_gflops"][seed] == [2, 2]
    checkpoint = "logs/mlp/version_0/checkpoints/last.ckpt"
    assert evaluate([checkpoint, "--tta", "flip_shift", "--json", "--data_dir", str(tree)]) == 0
    views = json.loads(capsys.readouterr().out)["accuracy"]
    assert found["rows"][0]["accuracies_of_views"][0] == pytest.approx(views)


def test_runs_that_are_there_are_not_repeated(run, monkeypatch: pytest.MonkeyPatch) -> None:
    _, first, _ = run("--max_epochs", "1")
    monkeypatch.setattr(runs, "run_fit", lambda plan: pytest.fail("trained again"))
    monkeypatch.setattr(speedrun, "peak", lambda *given: pytest.fail("measured again"))
    _, again, _ = run("--max_epochs", "1")
    assert again.splitlines()[-3:] == first.splitlines()[-3:]
    assert "| `mlp` | 1 | 1 |" in again


def test_other_views_of_a_run_that_is_there_are_evaluated(run, monkeypatch, capsys, tree) -> None:
    words = ("--max_epochs", "1", "--seeds", "0")
    run(*words)
    monkeypatch.setattr(runs, "run_fit", lambda plan: pytest.fail("trained again"))
    (path,) = Path("logs").rglob(speedrun.EXTRA_FILE)
    extra = json.loads(path.read_text())
    path.write_text(json.dumps({**extra, "accuracies_of_views": {"flip_shift": 7}}))
    asked = []
    monkeypatch.setattr(
        speedrun, "split_logits", lambda *given: asked.append(given[3]) or split_logits(*given)
    )
    _, out, _ = run(*words, "--tta", "flip_grid", "--json")
    found = json.loads(out)
    assert asked == ["flip_grid"]
    checkpoint = "logs/mlp/version_0/checkpoints/last.ckpt"
    assert evaluate([checkpoint, "--tta", "flip_grid", "--json", "--data_dir", str(tree)]) == 0
    views = json.loads(capsys.readouterr().out)["accuracy"]
    assert found["rows"][0]["accuracies_of_views"][0] == pytest.approx(views)
    assert found["rows"][0]["convolution_gflops"] == [[2, 2]]
    assert "--tta flip_grid" in found["command"]
    assert "700.00 (6 views)" in run(*words)[1]  # as it stands in the file
    assert asked == ["flip_grid"]


@pytest.mark.parametrize("left_out", [(), ("steps",)])
def test_a_file_of_an_older_version_keeps_its_timings(run, left_out: tuple[str, ...]) -> None:
    run("--max_epochs", "1", "--seeds", "0")
    (path,) = Path("logs").rglob(speedrun.EXTRA_FILE)
    extra = json.loads(path.read_text())
    del extra["accuracies_of_views"]
    old = {name: value for name, value in extra.items() if name not in left_out}
    path.write_text(json.dumps({**old, "accuracy_of_views": 7, "convolution_gflops": [3, 5]}))
    _, out, _ = run("--max_epochs", "1", "--seeds", "0", "--json")
    (row,) = json.loads(out)["rows"]
    assert row["convolution_gflops"] == [[3, 5]]
    assert row["accuracies_of_views"][0] <= 1


@pytest.mark.parametrize(
    "content", ["{", "[]", '{"accuracies_of_views": 1}', '{"accuracies_of_views": {"flip": "x"}}']
)
def test_a_damaged_file_is_named(run, content: str) -> None:
    run("--max_epochs", "1", "--seeds", "0")
    (path,) = Path("logs").rglob(speedrun.EXTRA_FILE)
    path.write_text(content)
    status, _, told = run("--max_epochs", "1", "--seeds", "0")
    assert status == 2
    assert f"{path}: " in told
    assert told.count("\n") == 1


def test_what_a_configuration_says_of_the_hardware_holds(run) -> None:
    Path("my.yaml").write_text("precision: 64-true\n")
    status, out, told = run("--max_epochs", "1", "--seeds", "0", "--config", "my.yaml", "--json")
    assert status == 0, told
    assert json.loads(out)["rows"][0]["hardware"][0].endswith("64-true")


def test_any_other_flag_goes_to_every_run(run) -> None:
    status, out, _ = run("--max_epochs", "1", "--seeds", "0..1", "--hidden-units", "9", "--json")
    assert status == 0
    found = json.loads(out)
    assert found["rows"][0]["seeds"] == [0, 1]
    assert "--hidden_units 9" in found["command"]
    configs = [yaml.safe_load(path.read_text()) for path in Path("logs").rglob("config.yaml")]
    assert [config["hidden_units"] for config in configs] == [[9], [9]]


def test_a_run_on_other_images_is_not_taken(run, write_tree, capsys) -> None:
    run("--max_epochs", "1", "--seeds", "0")
    other = write_tree("other", train=80, test=3)
    status = main([*WORDS, "--seeds", "0", "--data_dir", str(other), "--max_epochs", "1"])
    assert status == 0
    assert "other, fingerprint " in capsys.readouterr().out
    assert len(list(Path("logs/mlp").iterdir())) == 2


def test_a_run_that_was_made_longer_is_evaluated_anew(run) -> None:
    run("--max_epochs", "1", "--seeds", "0")
    (path,) = Path("logs").rglob(speedrun.EXTRA_FILE)
    extra = json.loads(path.read_text())
    path.write_text(json.dumps({**extra, "accuracies_of_views": {"flip_shift": 7}}))
    assert "| 700.00 (6 views) |" in run("--max_epochs", "1", "--seeds", "0")[1]
    assert fit(["--resume", str(path.parent), "--max_epochs", "2"]) == 0
    assert "| 700.00 (6 views) |" not in run("--max_epochs", "2", "--seeds", "0")[1]
    assert len(list(Path("logs/mlp").iterdir())) == 1


def test_an_interrupted_run_is_trained_anew_for_its_seconds(run) -> None:
    run("--max_epochs", "1", "--seeds", "0")
    (unfinished,) = Path("logs/mlp").rglob("summary.json")
    unfinished.unlink()
    assert run("--max_epochs", "1", "--seeds", "0")[0] == 0
    assert not unfinished.exists()
    assert len(list(Path("logs/mlp").iterdir())) == 2


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
    cells = (
        "`mlp` | – | 1,500 | 51.00 ± 1.41 | 55.00 ± 0.00 (18 views) | 15 s | 16 s | 0, 1 | 190–300"
    )
    assert speedrun.table([ROW]).splitlines()[-1] == f"| {cells} | a processor |"


def test_the_figure_has_the_mean_of_each_row_in_the_order_of_time(monkeypatch) -> None:
    drawn, labels = [], []

    def errorbar(axes: Axes, *given: Any, **named: Any) -> None:
        drawn.append(given)
        labels.append(named["label"])

    monkeypatch.setattr(Axes, "errorbar", errorbar)
    monkeypatch.setattr(Axes, "legend", lambda axes, **named: None)
    longer = {**ROW, "train_seconds": [60.0, 120.0], "accuracies": [0.6, 0.64], "epochs": 30}
    speedrun_figure.draw([longer, ROW], Path("curve.svg"))
    minutes, means, (below, above) = drawn[1]
    assert minutes == pytest.approx([0.25, 1.5])
    assert means == pytest.approx([51, 62])
    assert (below, above) == (pytest.approx([1, 2]), pytest.approx([1, 2]))
    assert drawn[0][1] == pytest.approx([55, 55])
    assert labels == ["mean of 18 views", "the image itself"]


def test_the_same_rows_give_the_same_figure() -> None:
    speedrun_figure.draw([ROW], Path("first.svg"))
    speedrun_figure.draw([ROW], Path("again.svg"))
    assert Path("first.svg").read_bytes() == Path("again.svg").read_bytes()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--recipe", "fast_cn"], "fast_cnn"),
        (["--seeds", "x"], "--seeds x: expected integers"),
        (["--max_epochs", "1,b"], "--max_epochs 1,b: expected integers"),
        (["--max_epochs", "0"], "max_epochs"),
        (["--seeds", "3..1"], "--seeds 3..1: expected integers"),
        (["--seed=7"], "--seed 7: the runs have the seeds of --seeds"),
        (["--hiden_units", "9"], "did you mean --hidden_units"),
        (["--val_size", "9", "--max_epochs", "1"], "--val_size 9: a speedrun trains on all"),
        (["--eval_every", "9"], "--eval_every 9: a speedrun evaluates at its end"),
        (["--devices", "2", "--accelerator", "cpu"], "by one process, these ask for 2"),
        (
            ["--limit_val_batches", "1"],
            "--limit_val_batches: a speedrun trains and evaluates on all",
        ),
        (["--overfit_batches", "1"], "--overfit_batches: a speedrun trains and evaluates on all"),
        (["--fast_dev_run"], "--fast_dev_run and --resume: a speedrun trains whole"),
        (["--output", "logs.txt/found.json", "--max_epochs", "1"], "cannot be written"),
        (["--figure", "logs.txt/curve.svg", "--max_epochs", "1"], "--figure logs.txt/curve.svg: c"),
        (["--tta", "none"], "--tta: invalid choice: 'none'"),
        (["--figure", "curve.doc"], "curve.doc: expected a name that ends in .svg, .png, .pdf"),
    ],
)
def test_wrong_input_is_refused(run, words: list[str], message: str) -> None:
    Path("logs.txt").write_text("a file")
    status, _, told = run(*words)
    assert status == 2
    assert message in told
    assert not Path("logs").exists()  # nothing was trained


def test_a_gpu_takes_a_short_run_of_the_recipe_first(monkeypatch) -> None:
    taken = []

    def run_fit(plan: FitPlan) -> int:
        settings = plan.settings
        taken.append((settings.max_steps, settings.val_size, settings.log_dir))
        assert Path(settings.log_dir).is_dir()
        return len(taken) - 1

    monkeypatch.setattr(speedrun, "run_fit", run_fit)
    words = ["--recipe", "mlp", *speedrun.PROTOCOL]
    speedrun._warm_up(words, parse_fit(words).settings)
    assert not taken  # on the CPU there is nothing to warm up
    monkeypatch.setattr(speedrun, "device_kind", lambda accelerator: "cuda")
    speedrun._warm_up(words, parse_fit(words).settings)
    ((steps, val_size, folder),) = taken
    assert (steps, val_size) == (speedrun.WARM_UP, 0)
    assert not Path(folder).exists()  # nothing is left of it
    with pytest.raises(TrainingEndedError):
        speedrun._warm_up(words, parse_fit(words).settings)


def test_the_convolution_is_that_of_what_the_model_computes_on_and_in(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def on_gpu(accelerator: str) -> str:
        return "cpu" if accelerator == "cpu" else "cuda"

    monkeypatch.setattr(speedrun, "device_kind", on_gpu)
    monkeypatch.setattr("cifar_lab.training.trainer.device_kind", on_gpu)
    monkeypatch.setattr("torch.cuda.is_bf16_supported", lambda **given: True)
    timed: list[tuple[str, torch.dtype]] = []
    monkeypatch.setattr(
        speedrun, "peak", lambda work, device, dtype: timed.append((str(device), dtype)) or 1
    )
    for words in (
        "--model numpy_mlp",
        "--model mlp",
        "--model mlp --precision 16-mixed",
        "--model mlp --accelerator cpu --precision 64-true",
    ):
        speedrun._convolution_gflops(parse_fit(words.split()))
    assert timed == [
        ("cpu", torch.float32),
        ("cuda", torch.bfloat16),
        ("cuda", torch.float16),
        ("cpu", torch.float64),
    ]
