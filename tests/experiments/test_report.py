"""The report: its systems, its table, its figures and pages, and the command."""

import json
import re
import socket
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from matplotlib.axes import Axes
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from cifar_lab.errors import UserError
from cifar_lab.experiments import report_page
from cifar_lab.experiments.report import SYSTEMS, gather, write_reference
from cifar_lab.experiments.report_page import draw_figures, markdown, verdict, write_pages
from cifar_lab.experiments.study import Study
from cifar_lab.experiments.tables import prediction_interval
from cifar_lab.recipes import recipes
from cifar_lab.run.run import Run
from cifar_lab.training import fit
from cifar_lab.training.outcome import Outcome

SYSTEM = {
    "number": 2,
    "recipe": "mlp",
    "title": "an MLP",
    "report": 0.423,
    "best": [0.44, 0.45],
    "prediction_interval": [0.42, 0.47],
    "last_quarter": [0.42, 0.43],
    "last": [0.40, 0.41],
    "seeds": [3, 4, 5],
    "seconds": [59.6, 130.0],
    "devices": ["a CPU, 32-true"],
}
OTHER = {**SYSTEM, "number": 7, "report": None, "seconds": [20.0, 20.4]}
DATA = {"source": "folder", "location": "x", "fingerprint": "abc", "images": {"train": 50_000}}
RESULTS = {
    "quick": False,
    "data": DATA,
    "versions": {"torch": "1", "pytorch_lightning": "2"},
    "systems": [SYSTEM, OTHER],
}


@pytest.fixture
def report(write_tree: Callable[..., Path], call):
    """Run the command, shortened, on a tree of 300 training images."""
    given = ("report", "--quick", "--data_dir", str(write_tree(train=100)), "--output", "out")
    return lambda *words: call(*given, *words)


def test_the_systems_are_those_of_the_report_and_quick_ones_short_and_evaluated() -> None:
    assert [system.number for system in SYSTEMS] == list(range(1, 9))
    assert [n for system in SYSTEMS for n in system.figures or ()] == list(range(1, 9))
    for system in SYSTEMS:
        settings = system.plan().settings
        assert settings.recipe == system.recipe
        assert settings.max_steps == recipes()[system.recipe].settings["max_steps"]
        assert settings.val_size == 0
        quick = system.plan(quick=True).settings
        assert quick.max_steps <= 300
        assert quick.max_steps // quick.eval_every == 4


def test_the_table_says_what_is_not_cifar_10_or_not_whole() -> None:
    lines = markdown(RESULTS).splitlines()
    assert lines[4] == (
        "| 2 | `mlp` | an MLP | 42.30 | 42.00–47.00 | 44.50 ± 0.71 | 42.50 ± 0.71 | 40.50 ± 0.71 | "
        "3–5 | 1–2 min | a CPU, 32-true |"
    )
    assert lines[5].startswith("| 7 | `mlp` | an MLP | – | 42.00–47.00 | 44.50 ± 0.71 |")
    assert "trained on all 50,000 training images" in lines[0]
    assert "image folders (x), fingerprint abc" in lines[0]
    synthetic = {**DATA, "source": "synthetic"}
    assert "SYNTHETIC" in markdown({**RESULTS, "data": synthetic})
    assert markdown({**RESULTS, "quick": True}).startswith("SHORTENED")


@pytest.mark.parametrize(
    ("report", "interval", "said"),
    [
        (0.423, [0.42, 0.47], "the report's 42.30 % lies inside the interval, so no difference"),
        (0.42, [0.42, 0.47], "inside"),
        (0.415, [0.42, 0.47], "the report's 41.50 % lies 0.50 points below the interval"),
        (0.48, [0.42, 0.47], "lies 1.00 points above the interval."),
        (0.48, None, "one run gives no interval to compare"),
        (None, [0.42, 0.47], "the report has no figure"),
    ],
)
def test_a_sentence_says_what_the_runs_show(report, interval, said: str) -> None:
    sentence = verdict({**SYSTEM, "report": report, "prediction_interval": interval})
    assert sentence.startswith("`mlp`: ")
    assert said in sentence


def test_figures_draw_the_points_that_all_seeds_have(finish, monkeypatch) -> None:
    drawn = []

    def note(axes: Axes, steps: list[int], values: np.ndarray, colour: str, label: str) -> None:
        drawn.append((label, steps, values.tolist()))
        axes.plot(steps, values[0], label=label)

    monkeypatch.setattr(report_page, "plot_band", note)
    folders = finish(), finish("mlp/version_1", seed=1)
    with (folders[1] / "metrics.csv").open("a") as file:
        file.write("10,1.0,0.5,1.5,0.5\n")  # it was resumed
    for runs, seeds in ((folders[:1], ""), (folders, ", mean and range of 2 seeds")):
        drawn.clear()
        draw_figures({"mlp": [Run.open(folder) for folder in runs]}, Path())
        assert drawn == [
            (f"training batches{seeds}", [1, 9], len(runs) * [[12.5, 50.0]]),
            (f"test images{seeds}", [1, 9], len(runs) * [[25.0, 37.5]]),
            (f"training batches{seeds}", [1, 9], len(runs) * [[2.5, 1.5]]),
            (f"test images{seeds}", [1, 9], len(runs) * [[2.25, 1.75]]),
        ]
    (folders[0] / "metrics.csv").write_text("step\n")
    with pytest.raises(UserError, match="version_0: no acc/train in"):
        draw_figures({"mlp": [Run.open(folders[0])]}, Path())


def test_the_pages_hold_the_figures_and_the_html_page_needs_no_other_file(finish) -> None:
    figures = draw_figures({"mlp": [Run.open(finish())]}, Path())
    assert [str(path) for path in figures] == ["figure_3.png", "figure_4.png"]
    with Image.open(figures[0]) as picture:
        assert picture.size[0] > 500
    write_pages(RESULTS, figures, Path(), "a command <x>")
    page = Path("report.md").read_text()
    assert markdown(RESULTS) in page
    assert "(figure_4.png)" in page
    assert page.endswith("Written by `a command <x>`.\n\n")
    html = Path("report.html").read_text()
    assert html.count("<svg") == 2
    assert "<code>a command &lt;x&gt;</code>" in html
    assert not re.search(r'(src|href)="(?!#)', html)
    assert 'name="viewport" content="width=device-width' in html  # telephones
    assert '<td data-heading="best point"><span>44.50\u00a0±\u00a00.71</span></td>' in html
    ids = re.findall(r'\bid="([^"]+)"', html)
    assert len(ids) == len(set(ids)) > 10
    used = set(re.findall(r'href="#([^"]+)"|url\(#([^)]+)\)', html))
    assert {a or b for a, b in used} <= set(ids)


def test_reference_runs_hold_the_scalars_and_no_name_of_the_machine(finish) -> None:
    runs = {"mlp": [Run.open(finish())]}
    write_reference(runs, Path("ref"))
    write_reference(runs, Path("ref"))  # replaces, does not add
    paths = sorted(Path("ref").rglob("events.*"))
    assert [path.parent for path in paths] == [Path("ref/mlp/seed_0"), Path("ref/mlp/seed_0/test")]
    assert not any(socket.gethostname() in path.name for path in paths)
    events = EventAccumulator("ref/mlp/seed_0/test")
    events.Reload()
    points = [(event.step, event.value) for event in events.Scalars("acc/test")]
    assert points == [(1, 0.25), (9, 0.375)]


def test_the_whole_way_and_finished_runs_are_not_trained_again(report) -> None:
    words = ("--systems", "mlp,7", "--seeds", "0,1", "--reference", "ref", "--json")
    status, out, err = report(*words)
    assert status == 0, err
    results = json.loads(out)
    assert all(Path(path).exists() for path in results.pop("files"))
    assert results == json.loads(Path("out/results.json").read_text())
    assert [system["number"] for system in results["systems"]] == [2, 7]
    _results_are_those_of_the_runs(results)
    assert not Path("out/figure_1.png").exists()
    assert "SHORTENED" in Path("out/report.md").read_text()
    assert "| 7 | `batchnorm_mlp` |" in err
    assert len(list(Path("ref").glob("*/seed_*/events.*"))) == 4
    first = {path: path.read_bytes() for path in Path("out").glob("*.*")}
    assert report(*words)[0] == 0
    assert len(list(Path("out/runs").glob("*/version_*"))) == 4
    assert {path: path.read_bytes() for path in Path("out").glob("*.*")} == first


def _results_are_those_of_the_runs(results: dict) -> None:
    for system in results["systems"]:
        assert system["seeds"] == [0, 1]
        late, best_of_seeds = system["last_quarter"], system["best"]
        assert system["prediction_interval"] == pytest.approx(
            prediction_interval(best_of_seeds), abs=1e-6
        )
        for number, (best, last) in enumerate(zip(best_of_seeds, system["last"], strict=True)):
            paths = Path("out/runs").glob(f"{system['recipe']}/*/summary.json")
            summaries = map(json.loads, map(Path.read_text, paths))
            (summary,) = (summary for summary in summaries if summary["seed"] == number)
            points = summary["accuracy"]["test"]
            assert (best, last) == (points["best"], points["last"])
            assert late[number] == last  # four evaluations: the last is the last quarter
            assert system["steps"] == summary["steps"] == 60
            assert summary["command"].startswith("cifar-lab report --quick ")


@pytest.mark.parametrize("rows", ["1,2.5,0.125,,\n", "1,2.5,0.125,2.25,0.25\n"])  # of 12 steps
def test_a_curve_that_was_cut_off_is_refused(finish, rows: str) -> None:
    folder = finish()
    (folder / "metrics.csv").write_text(f"step,loss/train,acc/train,loss/test,acc/test\n{rows}")
    with pytest.raises(UserError, match=r"version_0: metrics\.csv lacks the last test accuracy"):
        gather({"mlp": [Run.open(folder)]}, quick=False)


def test_an_interrupted_training_ends_with_its_status(report, monkeypatch) -> None:
    monkeypatch.setattr(fit, "train", lambda *given, **named: Outcome(None, 130, "Stopped."))
    status, _, err = report("--systems", "1")
    assert status == 130
    assert err.endswith("Stopped. Interrupted; the same command trains what is missing.\n")
    assert not Path("out/results.json").exists()


@pytest.mark.parametrize(
    ("words", "seeds"),
    [
        ((), {"mlp": range(10), "cnn": range(5)}),
        (("--seeds", "1..2"), {"mlp": [1, 2], "cnn": [1, 2]}),
        (("--quick",), {"mlp": [0], "cnn": [0]}),
    ],
)
def test_a_system_has_its_usual_seeds_or_those_that_are_given(
    call, tree: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], seeds: dict
) -> None:
    plans: list = []
    monkeypatch.setattr(Study, "runs", lambda self, train: plans.extend(self.plans()) or {})
    call("report", "--systems", "mlp,cnn", "--data_dir", tree, *words)
    found = [(name, plan.settings.model, plan.settings.seed) for name, plan in plans]
    assert found == [(name, name, seed) for name, several in seeds.items() for seed in several]
