"""The speedrun: the report's protocol, a row a length, runs that are not repeated."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from cifar_lab.inference.evaluate_command import main as evaluate
from cifar_lab.report import runs
from cifar_lab.studies import speedrun
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


def test_the_table_has_means_over_the_seeds() -> None:
    row = {
        "recipe": "mlp",
        "epochs": None,
        "steps": 1500,
        "seeds": [0, 1],
        "accuracies": [0.5, 0.52],
        "accuracies_of_views": [0.55, 0.55],
        "train_seconds": [10.0, 20.0],
        "total_seconds": [11.0, 22.0],
        "convolution_gflops": [[200.0, 300.4], [250.0, 190.0]],
        "hardware": ["a processor"],
    }
    cells = "`mlp` | – | 1,500 | 51.00 ± 1.41 | 55.00 ± 0.00 | 15 s | 16 s | 0, 1 | 190–300"
    assert speedrun.table([row]).splitlines()[-1] == f"| {cells} | a processor |"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--recipe", "fast_cn"], "fast_cnn"),
        (["--seeds", "x"], "--seeds x: expected integers"),
        (["--max_epochs", "1,b"], "--max_epochs 1,b: expected integers"),
        (["--max_epochs", "0"], "max_epochs"),
        (["--output", "logs.txt/found.json", "--max_epochs", "1"], "cannot be written"),
    ],
)
def test_wrong_input_is_refused(run, words: list[str], message: str) -> None:
    Path("logs.txt").write_text("a file")
    status, _, told = run(*words)
    assert status == 2
    assert message in told
    assert not Path("logs").exists()  # nothing was trained
