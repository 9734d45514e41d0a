"""Curves of runs: seeds are a line with a band, and other lines have names that tell them apart."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from matplotlib.figure import Figure

import cifar_lab
from cifar_lab.errors import UserError
from cifar_lab.plan import Plan
from cifar_lab.run.plot import log_if_peaked

Make = Callable[..., cifar_lab.Run]


@pytest.fixture
def make(write_summary: Callable[..., None]) -> Make:
    """Write a run of ``mlp`` into ``logs``; its accuracies are those given, in percent."""

    def make(
        name: str, accuracies: tuple[float, ...] = (20, 40), finished: bool = True, **settings: Any
    ) -> cifar_lab.Run:
        folder = Path("logs") / name
        folder.mkdir(parents=True)
        config = Plan.of(**{"model": "mlp", **settings}).as_config()
        (folder / "config.yaml").write_text(yaml.safe_dump(config))
        rows = [f"{100 * n},2.5,{value / 100}\n" for n, value in enumerate(accuracies, 1)]
        (folder / "metrics.csv").write_text("".join(["step,loss/train,acc/val\n", *rows]))
        if finished:
            write_summary(folder)
        return cifar_lab.Run.open(folder)

    return make


def _names(figure: Figure) -> tuple[str, list[str]]:
    """The title, and the entries of the legend of lines."""
    names = [text.get_text() for legend in figure.legends for text in legend.get_texts()]
    return figure.get_suptitle(), names


def test_seeds_are_their_mean_and_a_band_at_the_steps_that_all_have(make: Make) -> None:
    runs = [make("mlp/version_0", (10, 30, 50)), make("mlp/version_1", (30, 40), seed=1)]
    figure = cifar_lab.plot(runs)
    accuracy, loss = figure.axes
    (line,) = accuracy.lines
    assert np.allclose(line.get_xydata(), [[100, 20], [200, 35]])
    (band,) = accuracy.collections
    assert np.allclose(band.get_datalim(accuracy.transData).intervaly, [10, 40])
    assert _names(figure) == ("mlp, mean of 2 seeds", [])
    told = [text.get_text() for text in loss.get_legend().get_texts()]
    assert told == ["training batches", "validation images", "lowest to highest seed"]


def test_lines_are_named_by_what_differs(make: Make) -> None:
    first = make("mlp/version_0")
    others = [make(f"mlp/version_{n}", seed=n, lr=0.01) for n in (1, 2)]
    deep = make("deep_mlp/version_0", model="deep_mlp")
    wide = make("deep_mlp/version_1", recipe="deep_mlp_4x1000", model="deep_mlp")
    lr = ["lr=0.002, seed 0", "lr=0.01, mean of 2 seeds"]
    assert _names(cifar_lab.plot([first, *others])) == ("mlp", lr)
    assert _names(cifar_lab.plot([first, deep])) == ("seed 0", ["mlp", "deep_mlp"])
    assert _names(cifar_lab.plot([deep, wide])) == ("seed 0", ["deep_mlp", "deep_mlp_4x1000"])
    longer = make("mlp/version_3", max_epochs=3)
    names = ["max_steps=1500", "max_epochs=3"]
    assert _names(cifar_lab.plot([first, longer])) == ("mlp, seed 0", names)


def test_a_repeated_or_unfinished_run_is_a_line_of_its_own(make: Make) -> None:
    runs = [make(f"mlp/version_{n}", seed=seed) for n, seed in enumerate((0, 1, 1))]
    title, names = _names(cifar_lab.plot(runs))
    assert (title, names) == ("mlp", ["mean of 2 seeds", "seed 1"])
    assert _names(cifar_lab.plot(runs[1:])) == ("mlp, seed 1", ["version_1", "version_2"])
    going = make("mlp/version_3", seed=2, finished=False)
    assert _names(cifar_lab.plot([runs[0], going]))[1] == ["seed 0", "seed 2, unfinished"]
    assert _names(going.plot()) == ("mlp, seed 2, unfinished", [])


def test_more_lines_than_the_palette_have_different_colours_up_to_a_limit(make: Make) -> None:
    runs = [make(f"mlp/version_{n}", lr=0.1 + n) for n in range(21)]
    lines = cifar_lab.plot(runs[:20]).axes[0].lines
    assert len({str(line.get_color()) for line in lines}) == 20
    with pytest.raises(UserError, match=r"^21 lines, but only 20 can"):
        cifar_lab.plot(runs)


@pytest.mark.parametrize(
    ("losses", "scale"),
    [([87, 40] + 40 * [2], "log"), (np.geomspace(2.3, 0.05, 50), "linear"), ([9, 9, 0], "linear")],
)
def test_a_peak_at_the_start_does_not_hide_the_rest(losses: Any, scale: str) -> None:
    axes = Figure().subplots()
    axes.plot(losses)
    log_if_peaked(axes)
    assert axes.get_yscale() == scale


def test_the_command_writes_beside_the_runs_or_where_it_is_told(make: Make, call: Any) -> None:
    make("mlp/version_0")
    make("deep_mlp/version_0", model="deep_mlp")
    (make("mlp/version_1", seed=1).path / "metrics.csv").unlink()
    here = Path.cwd()
    for words, path in (
        (["logs/mlp/version_0"], "logs/mlp/version_0/curves.png"),
        (["logs/mlp/version_0", "logs/deep_mlp"], "logs/curves.png"),
        (["logs/deep_mlp", "--output", "new/$a$.svg"], "new/$a$.svg"),
    ):
        status, out, err = call("plot", *words)
        assert (status, err) == (0, "")
        assert here / out.removeprefix("curves: ").rstrip("\n") == here / path
        assert (here / path).read_bytes()[:5] in (b"\x89PNG\r", b"<?xml")
    status, _, err = call("plot", "logs")
    assert (status, err) == (0, f"{here / 'logs/mlp/version_1'}: left out, no points yet\n")


def test_what_is_wrong_is_said_in_a_line(make: Make, refused: Any) -> None:
    make("mlp/version_0")
    make("mlp/version_1", ())
    Path("empty").mkdir()
    assert "no such folder" in refused("plot", "logs/mpl")
    assert "empty: no run here" in refused("plot", "empty")
    assert "logs/mlp/version_1: no points yet" in refused("plot", "logs/mlp/version_1")
    assert "expected a name that ends in" in refused("plot", "logs/mlp", "--output", "x.jpg")
    Path("logs/mlp/version_0/metrics.csv").write_text("step,acc/val\n1,x\n")
    assert "not a table of numbers" in refused("plot", "logs/mlp")
