"""The pieces of the report: matching runs, means, tables."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import yaml
from matplotlib.axes import Axes

from cifar_lab.errors import UserError
from cifar_lab.parsing import parse_fit
from cifar_lab.recipes import recipes
from cifar_lab.report import figures, systems
from cifar_lab.report.results import mean_and_deviation, versions_of
from cifar_lab.report.runs import Run, find
from cifar_lab.report.table import markdown


@pytest.fixture
def finish(write_summary: Callable[..., None]) -> Callable[..., Path]:
    """Writes what a finished run leaves; gives its folder."""

    def write(
        flags: str, name: str = "mlp/version_0", images: str = "a", **changes: object
    ) -> Path:
        folder = Path("logs") / name
        folder.mkdir(parents=True)
        config = {**parse_fit(flags.split()).as_config(), **changes}
        kept = {key: value for key, value in config.items() if value != "unknown"}
        (folder / "config.yaml").write_text(yaml.safe_dump(kept))
        write_summary(folder, images)
        return folder

    return write


PLAN = parse_fit(["--model", "mlp", "--log_dir", "logs"])


def test_the_systems_are_those_of_the_report() -> None:
    assert [system.number for system in systems.SYSTEMS] == list(range(1, 9))
    shown = [number for system in systems.SYSTEMS for number in system.figures or ()]
    assert shown == list(range(1, 9))
    assert {system.recipe for system in systems.SYSTEMS} <= set(recipes())
    for system in systems.SYSTEMS:
        plan = systems.plan(system, 5, quick=False, flags=[])
        assert plan.settings.max_steps == recipes()[system.recipe].settings["max_steps"]
        assert (plan.settings.seed, plan.settings.val_size) == (5, 0)


def test_quick_is_short_and_evaluated() -> None:
    for system in systems.SYSTEMS:
        settings = systems.plan(system, 0, quick=True, flags=[]).settings
        assert settings.max_steps is not None
        assert settings.max_steps <= 300
        assert settings.max_steps // settings.eval_every == 4


@pytest.mark.parametrize(
    ("flags", "matches"),
    [
        ("--model mlp", True),
        ("--model mlp --data_dir x --progress none --log_dir y", True),
        ("--model mlp --seed 1", False),
        ("--model mlp --lr 0.1", False),
        ("--model mlp --max_steps 10", False),
        ("--model mlp --precision 64-true", False),
        ("--model numpy_mlp", False),
    ],
)
def test_a_run_is_found_whose_deciding_settings_are_the_same(
    finish: Callable[..., Path], flags: str, matches: bool
) -> None:
    finish(flags)
    assert (find(PLAN) is not None) == matches


def test_the_newest_of_equal_runs_is_found_also_without_newer_settings(
    finish: Callable[..., Path],
) -> None:
    finish("--model mlp", "mlp/version_9")
    # As if written before that setting was there.
    new = finish("--model mlp", "mlp/version_10", log_every="unknown")
    found = find(PLAN)
    assert found is not None
    assert found.path == new


def test_a_run_is_found_by_its_images(finish: Callable[..., Path]) -> None:
    real = finish("--model mlp", images="real")
    finish("--model mlp", "mlp-synthetic/version_3", images="synthetic")
    found = find(PLAN, "real")
    assert found is not None
    assert found.path == real
    assert find(PLAN, "others") is None


def test_mean_and_deviation() -> None:
    assert mean_and_deviation([0.5, 0.51, 0.52]) == "51.00 ± 1.00"
    assert mean_and_deviation([0.5742]) == "57.42"


def _results(source: str = "folder", quick: bool = False) -> dict:
    system = {
        "number": 2,
        "recipe": "mlp",
        "title": "an MLP",
        "report": 0.423,
        "best": [0.44, 0.45],
        "last": [0.40, 0.41],
        "seeds": [3, 4],
        "seconds": [59.6, 130.0],
        "devices": ["a CPU, 32-true"],
    }
    other = {**system, "number": 7, "report": None, "seconds": [20.0, 20.4]}
    return {
        "quick": quick,
        "data": {"source": source, "location": "x", "fingerprint": "abc", "images": {"train": 7}},
        "versions": {"torch": "1", "pytorch_lightning": "2"},
        "systems": [system, other],
    }


def test_the_table() -> None:
    lines = markdown(_results()).splitlines()
    assert lines[-2] == (
        "| 2 | `mlp` | an MLP | 42.30 | 44.50 ± 0.71 | +2.20 | 40.50 ± 0.71 | 3, 4 | 1–2 min | "
        "a CPU, 32-true |"
    )
    assert lines[-1].startswith("| 7 | `mlp` | an MLP | – | 44.50 ± 0.71 | – |")
    assert "| 20 s |" in lines[-1]
    assert "image folders (x), fingerprint abc" in lines[0]


def test_what_is_not_cifar_10_or_not_whole_is_said() -> None:
    assert "SYNTHETIC" in markdown(_results("synthetic"))
    assert markdown(_results(quick=True)).startswith("SHORTENED")


def test_versions_that_differ_are_all_named() -> None:
    runs = [SimpleNamespace(summary={"versions": {"torch": v}}) for v in ("2.11", "2.14", "2.11")]
    assert versions_of(runs) == {"torch": "2.11, 2.14"}  # type: ignore[arg-type]


def test_figures_draw_the_curves_that_they_name(
    finish: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = finish("--model mlp")
    table = ["step,loss/train,acc/train,loss/test,acc/test"]
    table += ["1,2.5,0.125,2.25,0.25", "9,1.5,0.5,1.75,0.375", ""]
    (folder / "metrics.csv").write_text("\n".join(table))
    run = Run(folder, {}, {"report_accuracy": None})
    drawn: list[tuple[str, list[int], list[list[float]]]] = []

    def note(axes: Axes, steps: list[int], values: np.ndarray, colour: str, label: str) -> None:
        drawn.append((label, steps, values.tolist()))
        axes.plot(steps, values[0], label=label)

    monkeypatch.setattr(figures, "plot_band", note)
    figures._accuracy([run], "accuracy")
    figures._loss([run], "loss")
    assert drawn == [
        ("training batches", [1, 9], [[12.5, 50.0]]),
        ("test images", [1, 9], [[25.0, 37.5]]),
        ("training batches", [1, 9], [[2.5, 1.5]]),
        ("test images", [1, 9], [[2.25, 1.75]]),
    ]
    (folder / "metrics.csv").write_text("step\n")
    with pytest.raises(UserError, match="version_0: no acc/train in"):
        figures._accuracy([Run(folder, {}, {})], "accuracy")
