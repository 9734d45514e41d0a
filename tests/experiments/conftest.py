"""Finished runs that are written by hand."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from cifar_lab.plan import Plan

METRICS = """\
step,loss/train,acc/train,loss/test,acc/test
1,2.5,0.125,2.25,0.25
9,1.5,0.5,1.75,0.375
"""


@pytest.fixture
def summaries() -> Callable[[], list[dict]]:
    """Return the summaries of the runs below ``logs``, by name."""
    return lambda: [json.loads(p.read_text()) for p in sorted(Path("logs").rglob("summary.json"))]


@pytest.fixture
def finish(write_summary: Callable[..., None]) -> Callable[..., Path]:
    """Write what a finished run of ``mlp`` leaves in ``logs``; return its folder."""

    def finish(name: str = "mlp/version_0", images: str = "a", **settings: object) -> Path:
        folder = Path("logs") / name
        folder.mkdir(parents=True)
        config = Plan.of(**{"model": "mlp", **settings}).as_config()
        (folder / "config.yaml").write_text(yaml.safe_dump(config))
        (folder / "metrics.csv").write_text(METRICS)
        write_summary(folder, images)
        return folder

    return finish
