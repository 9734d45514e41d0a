"""The dashboard as a person gets it: a run read back from a TensorBoard server."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from urllib.request import ProxyHandler, Request, build_opener

import pytest
from tensorboard import program

from cifar_lab.dashboards.hparams import BEST, LAST, TEST

RUN = "mlp/version_0"
Ask = Callable[..., Any]


@pytest.fixture
def ask(checkpoint: Path) -> Ask:
    """Start a server on the folder of a finished run; return what it answers to a path."""
    server = program.TensorBoard()
    flags = {"logdir": str(checkpoint.parents[3]), "host": "127.0.0.1", "port": 0}
    # All files are read once, before the first answer.
    flags |= {"load_fast": "false", "reload_task": "blocking", "reload_interval": 0}
    server.configure(**flags)
    address = server.launch().rstrip("/")

    def ask(path: str, body: Any = None, **query: Any) -> Any:
        data = None if body is None else json.dumps(body).encode()
        url = f"{address}{path}?{urlencode(query)}" if query else f"{address}{path}"
        request = Request(url, data, {"Content-Type": "application/json"})
        with build_opener(ProxyHandler({})).open(request, timeout=20) as response:
            content = response.read()
        return json.loads(content) if "json" in response.headers["Content-Type"] else content

    return ask


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of the server's own packages
def test_a_server_shows_curves_pictures_settings_and_the_layout(ask: Ask, checkpoint: Path) -> None:
    tags = ask("/data/plugin/scalars/tags")
    assert {"loss/train", "loss_after_start/train", "lr", "grad_norm/linear1", TEST} <= set(
        tags[RUN]
    )
    evaluated = ("acc", "loss", "loss_after_start")
    for split in ("val", "test"):  # with a colour of their own
        assert set(tags[f"{RUN}/{split}"]) == {f"{name}/{split}" for name in evaluated}
    points = ask("/data/plugin/scalars/scalars", run=f"{RUN}/val", tag="acc/val")
    assert [step for _, step, _ in points] == [4, 8, 12, 16]

    images = set(ask("/data/plugin/images/tags")[RUN])
    assert {"confusion/val", "mistakes/test", "train/batch", "weights/first_layer"} <= images
    (shown,) = ask("/data/plugin/images/images", run=RUN, tag="confusion/val", sample=0)
    assert shown["step"] == 16
    assert ask(f"/data/plugin/images/individualImage?{shown['query']}")[:4] == b"\x89PNG"

    layout = ask("/data/plugin/custom_scalars/layout")
    charts = {chart["title"]: chart for page in layout["category"] for chart in page["chart"]}
    for title, name in (("Accuracy", "acc"), ("Loss after the start", "loss_after_start")):
        for part, split in (("", "train"), ("/val", "val"), ("/test", "test")):
            query = {"run": f"{RUN}{part}", "tag": charts[title]["multiline"]["tag"][0]}
            found = ask("/data/plugin/custom_scalars/scalars", **query)["tag_to_events"]
            assert set(found) == {f"{name}/{split}"}
    steps = [step for _, step, _ in ask("/data/plugin/scalars/scalars", run=RUN, tag="loss/train")]
    assert steps[0] == 1
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
