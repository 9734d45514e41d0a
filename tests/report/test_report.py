"""``scripts/report.py``: what it trains, takes, draws and writes."""

import csv
import json
import re
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from cifar_lab.report import command
from cifar_lab.report.command import main

Command = Callable[..., int]


@pytest.fixture
def report(write_tree: Callable[..., Path]) -> Command:
    """The command on a tree of 300 training images, shortened."""
    tree = write_tree(train=100)

    def run(*words: str) -> int:
        return main(["--quick", "--data_dir", str(tree), "--output", "out", *words])

    return run


def _versions() -> list[Path]:
    return sorted(Path("out/runs").glob("*/version_*"))


def test_the_whole_way(report: Command, capsys: pytest.CaptureFixture[str]) -> None:
    assert report("--systems", "numpy_mlp,7", "--seeds", "0,1", "--reference", "ref") == 0
    results = json.loads(Path("out/results.json").read_text())
    assert [system["number"] for system in results["systems"]] == [1, 7]
    assert [system["seeds"] for system in results["systems"]] == [[0, 1], [0, 1]]
    _results_are_those_of_the_runs(results)
    for number in (1, 2):
        with Image.open(f"out/figure_{number}.png") as picture:
            assert picture.size[0] > 500
        assert "<svg" in Path(f"out/figure_{number}.svg").read_text()
    assert not Path("out/figure_3.png").exists()
    page = Path("out/report.md").read_text()
    assert "SHORTENED" in page
    assert "(figure_2.png)" in page
    assert "| 7 | `batchnorm_mlp` |" in capsys.readouterr().out
    assert len(list(Path("ref").glob("*/seed_*/events.*"))) == 4


def _results_are_those_of_the_runs(results: dict) -> None:
    for system in results["systems"]:
        for seed, best, last in zip(system["seeds"], system["best"], system["last"], strict=True):
            (summary,) = [
                found
                for path in Path("out/runs").glob(f"{system['recipe']}/*/summary.json")
                if (found := json.loads(path.read_text()))["seed"] == seed
            ]
            points = summary["accuracy"]["test"]
            assert (best, last) == (points["best"], points["last"])
            assert system["steps"] == summary["steps"] == 60


def test_finished_runs_are_taken_and_missing_ones_trained(report: Command) -> None:
    assert report("--systems", "1", "--seeds", "0") == 0
    first = {path: path.read_bytes() for path in Path("out").glob("*.*")}
    assert report("--systems", "1", "--seeds", "0") == 0
    assert len(_versions()) == 1
    assert {path: path.read_bytes() for path in Path("out").glob("*.*")} == first
    assert report("--systems", "1", "--seeds", "0,1") == 0
    assert len(_versions()) == 2


def test_a_run_without_its_summary_goes_on(report: Command) -> None:
    report("--systems", "1", "--seeds", "0")
    summary = _versions()[0] / "summary.json"
    summary.unlink()
    assert report("--systems", "1", "--seeds", "0") == 0
    assert len(_versions()) == 1
    assert summary.exists()


def test_a_run_without_its_summary_and_checkpoint_is_trained_again(report: Command) -> None:
    report("--systems", "1", "--seeds", "0")
    (_versions()[0] / "summary.json").unlink()
    (_versions()[0] / "checkpoints" / "last.ckpt").unlink()
    assert report("--systems", "1", "--seeds", "0") == 0
    assert len(_versions()) == 2


def test_a_run_that_went_on_may_have_more_points(report: Command) -> None:
    assert report("--systems", "1", "--seeds", "0,1") == 0
    table = _versions()[1] / "metrics.csv"
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    more = [{**row, "step": str(int(row["step"]) - 1)} for row in rows if row["acc/test"]][:1]
    with table.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows + more)
    assert report("--systems", "1", "--seeds", "0,1") == 0
    assert len(_versions()) == 2


def test_the_page_needs_no_other_file_and_no_network(report: Command) -> None:
    report("--systems", "1", "--seeds", "0")
    html = Path("out/report.html").read_text()
    assert html.count("<svg") == 2
    assert not re.search(r'(src|href)="(?!#)', html)
    ids = re.findall(r'\bid="([^"]+)"', html)
    assert len(ids) == len(set(ids)) > 10
    used = set(re.findall(r'href="#([^"]+)"|url\(#([^)]+)\)', html))
    assert {a or b for a, b in used} <= set(ids)


def test_json_stands_alone(report: Command, capsys: pytest.CaptureFixture[str]) -> None:
    assert report("--systems", "1", "--seeds", "0", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["systems"][0]["recipe"] == "numpy_mlp"
    assert all(Path(path).exists() for path in found["files"])


def test_reference_runs_hold_the_scalars_and_no_name_of_the_machine(report: Command) -> None:
    report("--systems", "1", "--seeds", "0", "--reference", "ref")
    report("--systems", "1", "--seeds", "0", "--reference", "ref")  # replaces, does not add
    (path,) = Path("ref").rglob("events.*")
    assert path.parent == Path("ref/numpy_mlp/seed_0")
    assert socket.gethostname() not in path.name
    events = EventAccumulator(str(path.parent))
    events.Reload()
    rows = (_versions()[0] / "metrics.csv").read_text().splitlines()
    last = dict(zip(rows[0].split(","), rows[-1].split(","), strict=True))
    point = events.Scalars("acc/test")[-1]
    assert point.step == int(last["step"])
    assert point.value == pytest.approx(float(last["acc/test"]), abs=1e-6)


def test_an_interrupted_training_ends_with_its_status(
    report: Command, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("cifar_lab.report.runs.run_fit", lambda plan: 130)
    assert report("--systems", "1") == 130
    assert "goes on with what is missing" in capsys.readouterr().err
    assert not Path("out/results.json").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--systems", "9"], "--systems 9: unknown"),
        (["--systems", "numpy_mpl"], "did you mean numpy_mlp"),
        (["--seeds", "a"], "--seeds a: expected integers"),
        (["--no_train", "--systems", "1"], "none of the runs is there"),
        (["--sytems", "1"], "did you mean --systems"),
        (["--precision", "8", "--systems", "1"], "--precision 8"),
    ],
)
def test_wrong_input(
    report: Command, words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert report(*words) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


def test_a_run_on_other_images_is_not_taken(
    report: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    report("--systems", "1", "--seeds", "0,1")
    path = _versions()[0] / "summary.json"
    summary = json.loads(path.read_text())
    summary["data"]["fingerprint"] = "0000"
    path.write_text(json.dumps(summary))
    assert report("--systems", "1", "--seeds", "0,1", "--no_train") == 2
    assert "different images" in capsys.readouterr().err
    assert report("--systems", "1", "--seeds", "0,1") == 0
    assert len(_versions()) == 3  # one trained anew


def test_synthetic_images_do_not_take_the_place_of_those_of_a_run(
    report: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    report("--systems", "1", "--seeds", "0")
    Path("empty").mkdir()
    assert report("--systems", "1", "--seeds", "0", "--data_dir", "empty") == 2
    assert "which are not found now; say with --data_dir" in capsys.readouterr().err
    assert len(_versions()) == 1


def test_what_is_no_run_is_passed_over(report: Command) -> None:
    report("--systems", "1", "--seeds", "0")
    _versions()[0].rename(_versions()[0].with_name("version_0_old"))
    assert report("--systems", "1", "--seeds", "0") == 0
    assert len(_versions()) == 2


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("summary.json", "{", "version_0/summary.json: not a JSON file"),
        ("summary.json", '{"model": 1}', "version_0/summary.json: damaged (no model"),
        ("metrics.csv", "step;epoch\n1;0\n", "version_0/metrics.csv: not a table of numbers"),
    ],
)
def test_a_damaged_run_is_named(
    report: Command, name: str, content: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    report("--systems", "1", "--seeds", "0")
    (_versions()[0] / name).write_text(content)
    assert report("--systems", "1", "--seeds", "0") == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("flag", ["--output", "--reference"])
def test_a_folder_is_tried_before_hours_of_training(
    flag: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("file").touch()
    monkeypatch.setattr(command, "_collect", lambda *given, **named: pytest.fail("trained"))
    assert command.main([flag, "file/x"]) == 2
    assert f"{flag} file/x/results.json: cannot be written" in capsys.readouterr().err
