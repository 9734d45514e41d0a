"""The dashboard as a person gets it: a run read back from a TensorBoard server."""

import json
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from urllib.request import ProxyHandler, Request, build_opener

import pytest

from cifar_lab.dashboards.hparams import BEST, LAST, TEST

RUN = "mlp/version_0"
DEADLINE = 90.0  # seconds, for the server to start and to read the run
Ask = Callable[..., Any]


@pytest.fixture
def ask(checkpoint: Path) -> Iterator[Ask]:
    """Start a server on the folder of a finished run; return what it answers to a path."""
    flags = ["--logdir", str(checkpoint.parents[3]), "--host", "127.0.0.1", "--port", "0"]
    # Its own reader instead of the data server's: one process to end.
    command = [sys.executable, "-m", "tensorboard.main", *flags, "--load_fast", "false"]
    output = Path("server.txt")
    with output.open("w") as file:
        server = subprocess.Popen(command, stderr=file, stdout=subprocess.DEVNULL)
    try:
        pattern = r"http://127\.0\.0\.1:\d+"
        address = _poll(lambda: re.search(pattern, output.read_text()), output.read_text)[0]
        yield lambda path, body=None, **query: _answer(f"{address}{path}", body, query)
    finally:
        server.terminate()
        server.wait(timeout=20)


def _poll(look: Callable[[], Any], explain: Callable[[], Any]) -> Any:
    """Look until there is something to see, or fail with an explanation."""
    end = time.monotonic() + DEADLINE
    while time.monotonic() < end:
        if found := look():
            return found
        time.sleep(0.3)
    raise AssertionError(explain())


def _answer(url: str, body: Any, query: dict[str, Any]) -> Any:
    data = None if body is None else json.dumps(body).encode()
    request = Request(f"{url}?{urlencode(query)}" if query else url, data)
    request.add_header("Content-Type", "application/json")
    with build_opener(ProxyHandler({})).open(request, timeout=20) as response:
        content = response.read()
    return json.loads(content) if "json" in response.headers["Content-Type"] else content


def _tags(ask: Ask, page: str, last: str) -> set[str]:
    """Return the tags of a page once the server has read the one that is written last."""
    path = f"/data/plugin/{page}/tags"
    _poll(lambda: last in ask(path).get(RUN, {}), lambda: f"{last} not in {ask(path)}")
    return set(ask(path)[RUN])


@pytest.mark.slow
def test_a_server_shows_curves_pictures_settings_and_the_layout(ask: Ask, checkpoint: Path) -> None:
    tags = _tags(ask, "scalars", last=TEST)
    assert {"loss/train", "acc/val", "acc/test", "lr", "grad_norm/1.Linear"} <= tags
    points = ask("/data/plugin/scalars/scalars", run=RUN, tag="acc/val")
    assert [step for _, step, _ in points] == [10, 20]

    images = _tags(ask, "images", last="confusion/test")
    assert {"confusion/val", "mistakes/test", "train/batch", "weights/first_layer"} <= images
    (shown,) = ask("/data/plugin/images/images", run=RUN, tag="confusion/val", sample=0)
    assert shown["step"] == 20
    assert ask(f"/data/plugin/images/individualImage?{shown['query']}")[:4] == b"\x89PNG"

    layout = ask("/data/plugin/custom_scalars/layout")
    charts = {chart["title"]: chart for page in layout["category"] for chart in page["chart"]}
    assert charts["Accuracy"]["multiline"]["tag"] == ["acc/train$", "acc/val$", "acc/test$"]
    query = {"run": RUN, "tag": charts["Accuracy (figures 1, 3, 5, 7)"]["multiline"]["tag"][0]}
    found = ask("/data/plugin/custom_scalars/scalars", **query)["tag_to_events"]
    assert set(found) == {"acc/val", "acc/test"}
    assert "pr/cat" in ask("/data/plugin/pr_curves/tags")[RUN]
    assert "run/configuration/text_summary" in ask("/data/plugin/text/tags")[RUN]

    body = {"startIndex": 0, "sliceSize": 10, "colParams": []}
    body["allowedStatuses"] = ["STATUS_SUCCESS"]
    (group,) = ask("/data/plugin/hparams/session_groups", body)["sessionGroups"]
    assert group["hparams"]["batch_size"] == 12
    assert group["hparams"]["hidden_units"] == "8"
    values = {metric["name"]["tag"]: metric["value"] for metric in group["metricValues"]}
    accuracy = json.loads((checkpoint.parents[1] / "summary.json").read_text())["accuracy"]
    assert values[TEST] == pytest.approx(accuracy["test"]["of_best_checkpoint"])
    assert (values[BEST], values[LAST]) == pytest.approx(
        (accuracy["val"]["best"], accuracy["val"]["last"])
    )
