"""The dashboard as a person gets it: a run read back from a TensorBoard server."""

import json
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from queue import Empty, Queue
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
    """A server on the folder of a finished run; gives what it answers to a path."""
    log_dir = checkpoint.parents[3]
    flags = ["--logdir", str(log_dir), "--host", "127.0.0.1", "--port", "0"]
    # Its own reader instead of the data server's: one process to end.
    command = [sys.executable, "-m", "tensorboard.main", *flags, "--load_fast", "false"]
    server = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    try:
        address = _address(server)
        yield lambda path, body=None, **query: _answer(f"{address}{path}", body, query)
    finally:
        server.terminate()
        server.wait(timeout=20)
        assert server.stderr is not None
        server.stderr.close()


def _address(server: subprocess.Popen) -> str:
    """Waits for the line in which the server says where it is."""
    lines: Queue[str] = Queue()
    threading.Thread(target=lambda: [lines.put(line) for line in server.stderr or ()]).start()
    end, said = time.monotonic() + DEADLINE, ""
    while time.monotonic() < end and server.poll() is None:
        try:
            said += lines.get(timeout=0.2)
        except Empty:
            continue
        if found := re.search(r"http://127\.0\.0\.1:\d+", said):
            return found[0]
    raise AssertionError(f"TensorBoard did not start: {said}")


def _answer(url: str, body: Any, query: dict[str, Any]) -> Any:
    data = None if body is None else json.dumps(body).encode()
    request = Request(f"{url}?{urlencode(query)}" if query else url, data)
    request.add_header("Content-Type", "application/json")
    with build_opener(ProxyHandler({})).open(request, timeout=20) as response:
        content = response.read()
    return json.loads(content) if "json" in response.headers["Content-Type"] else content


def _wait_for(ask: Ask, path: str, tag: str) -> Any:
    """Asks until the server has read as far as ``tag``, which is written last of its kind."""
    end = time.monotonic() + DEADLINE
    while time.monotonic() < end:
        answer = ask(path)
        if tag in answer.get(RUN, {}):
            return answer
        time.sleep(0.3)
    raise AssertionError(f"{tag} not in {answer}")


@pytest.mark.slow
def test_a_server_shows_curves_pictures_settings_and_the_layout(ask: Ask, checkpoint: Path) -> None:
    tags = _wait_for(ask, "/data/plugin/scalars/tags", TEST)[RUN]
    assert {"loss/train", "acc/val", "acc/test", "lr", "grad_norm/1.Linear"} <= set(tags)
    points = ask("/data/plugin/scalars/scalars", run=RUN, tag="acc/val")
    assert [step for _, step, _ in points] == [10, 20]

    images = _wait_for(ask, "/data/plugin/images/tags", "confusion/test")[RUN]
    assert {"confusion/val", "mistakes/test", "train/batch", "weights/first_layer"} <= set(images)
    (shown,) = ask("/data/plugin/images/images", run=RUN, tag="confusion/val", sample=0)
    assert shown["step"] == 20
    assert ask(f"/data/plugin/images/individualImage?{shown['query']}")[:4] == b"\x89PNG"

    layout = ask("/data/plugin/custom_scalars/layout")
    charts = {chart["title"]: chart for page in layout["category"] for chart in page["chart"]}
    assert charts["Accuracy"]["multiline"]["tag"] == ["acc/train$", "acc/val$", "acc/test$"]
    query = {"run": RUN, "tag": charts["Accuracy (figures 1, 3, 5, 7)"]["multiline"]["tag"][0]}
    assert set(ask("/data/plugin/custom_scalars/scalars", **query)["tag_to_events"]) == {
        "acc/val",
        "acc/test",
    }
    assert "pr/cat" in ask("/data/plugin/pr_curves/tags")[RUN]
    assert "run/configuration/text_summary" in ask("/data/plugin/text/tags")[RUN]

    body = {
        "startIndex": 0,
        "sliceSize": 10,
        "colParams": [],
        "allowedStatuses": ["STATUS_SUCCESS"],
    }
    (group,) = ask("/data/plugin/hparams/session_groups", body)["sessionGroups"]
    assert group["hparams"]["batch_size"] == 12
    assert group["hparams"]["hidden_units"] == "8"
    values = {metric["name"]["tag"]: metric["value"] for metric in group["metricValues"]}
    accuracy = json.loads((checkpoint.parents[1] / "summary.json").read_text())["accuracy"]
    assert values[TEST] == pytest.approx(accuracy["test"]["of_best_checkpoint"])
    assert (values[BEST], values[LAST]) == pytest.approx(
        (accuracy["val"]["best"], accuracy["val"]["last"])
    )
