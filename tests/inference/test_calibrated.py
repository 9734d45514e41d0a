"""The calibration of a run: where it is kept, and what evaluate, predict and export make of it."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from cifar_lab.inference.evaluation import calibration_error
from cifar_lab.inference.known_data import load_split
from cifar_lab.inference.logits import split_logits
from cifar_lab.models.calibration import calibrate
from cifar_lab.run.restore import load_model


@pytest.fixture
def photo() -> Path:
    """A picture of the size of a photo."""
    pixels = np.random.RandomState(0).randint(0, 256, (40, 50, 3)).astype(np.uint8)
    Image.fromarray(pixels).save("photo.png")
    return Path("photo.png")


def _summary(checkpoint: Path) -> Path:
    return checkpoint.parent.parent / "summary.json"


def _set(checkpoint: Path, **calibration: float) -> None:
    """Write another calibration into the summary of the run."""
    content = json.loads(_summary(checkpoint).read_text("utf-8"))
    _summary(checkpoint).write_text(json.dumps(content | {"calibration": calibration}), "utf-8")


def test_a_fit_calibrates_its_best_checkpoint_on_the_validation_split(checkpoint, tree) -> None:
    model = load_model(checkpoint)
    known = load_split(model, "val", str(tree), "auto")
    expected = calibrate(*split_logits(model, known, 500, "none"))
    assert model.calibration == expected
    assert load_model(checkpoint.with_name("last.ckpt")).calibration is None
    Path("elsewhere").mkdir()
    assert load_model(shutil.copy(checkpoint, "elsewhere")).calibration is None


@pytest.mark.parametrize(
    "flags", [["--val_size", "0"], ["--test", "false"]], ids=["no validation", "no test"]
)
def test_a_run_without_a_tested_best_checkpoint_has_none(flags, tree, call, json_of, photo) -> None:
    words = ["--model", "mlp", "--hidden_units", "8", "--batch_size", "12", "--max_steps", "2"]
    assert call("fit", *words, "--data_dir", tree, "--progress", "none", *flags)[0] == 0
    run = Path("lightning_logs/mlp/version_0")
    assert json.loads((run / "summary.json").read_text("utf-8"))["calibration"] is None
    assert json_of("evaluate", run, "--data_dir", tree)["calibrated"] is None
    assert json_of("predict", run, photo)[0]["like_no_class"] is None


@pytest.mark.parametrize("content", ["{", "[]", "none", "older", '{"temperature": 1}'])
def test_a_damaged_or_older_summary_is_no_calibration(content: str, checkpoint) -> None:
    summary = json.loads(_summary(checkpoint).read_text("utf-8"))
    older = {name: value for name, value in summary.items() if name != "calibration"}
    changed = {"older": older, "none": summary | {"calibration": {"temperature": 0.0}}}
    text = json.dumps(changed[content]) if content in changed else content
    _summary(checkpoint).write_text(text, "utf-8")
    assert load_model(checkpoint).calibration is None


def test_evaluate_prints_the_error_before_and_after(checkpoint, tree, json_of, call) -> None:
    _set(checkpoint, temperature=0.5, threshold=0.6)
    found = json_of("evaluate", checkpoint, "--data_dir", tree)
    model = load_model(checkpoint)
    known = load_split(model, "test", str(tree), "auto")
    logits, labels = split_logits(model, known, 500, "none")
    highest = (2 * logits).softmax(1).amax(1)
    after = calibration_error(2 * logits, labels)
    assert found["calibrated"] == {
        "temperature": 0.5,
        "threshold": 0.6,
        "calibration_error": pytest.approx(after),
        "below_threshold": pytest.approx((highest < 0.6).float().mean().item(), abs=1e-6),
    }
    assert found["calibration_error"] == pytest.approx(calibration_error(logits, labels))
    out = call("evaluate", checkpoint, "--data_dir", tree)[1]
    assert f"after temperature  {100 * after:6.2f} %   logits divided by 0.500" in out
    flipped = json_of("evaluate", checkpoint, "--data_dir", tree, "--tta", "flip")
    assert flipped["calibrated"] is None  # the temperature is that of one view


def test_predict_notes_what_is_like_no_class(checkpoint, photo, json_of, call) -> None:
    (probable, *_) = json_of("predict", checkpoint, photo)[0]["classes"]
    for threshold, noted in ((0.0, False), (1.0, True)):
        _set(checkpoint, temperature=2.0, threshold=threshold)
        (row,) = json_of("predict", checkpoint, photo)
        assert row["like_no_class"] is noted
        assert row["classes"][0]["class"] == probable["class"]
        assert ("like no class" in call("predict", checkpoint, photo)[1]) is noted
    model, image = load_model(checkpoint), torch.zeros(1, 3, 32, 32, dtype=torch.uint8)
    expected = (model(image) / 2).softmax(1)
    torch.testing.assert_close(model.predict_step(image, 0), expected)


def test_the_figure_shows_the_first_images_and_says_how_many_it_leaves_out(
    checkpoint, photo, call, refused
) -> None:
    pictures = ["none.png", *[photo] * 26]
    for name in ("sheet.png", "new/sheet.svg"):
        status, out, err = call("predict", checkpoint, *pictures, "--figure", name)
        assert (status, out.count("photo.png")) == (2, 26)
        assert err.splitlines()[1:] == [f"figure: {name} (the first 24 of 26 images)"]
    text = Path("new/sheet.svg").read_text("utf-8")
    assert text.count("<!-- photo.png -->") == 24
    assert "<!-- 2 more images are not shown -->" in text
    with Image.open("sheet.png") as image:
        assert image.width > 1000
    assert "expected a name that ends in" in refused(
        "predict", checkpoint, photo, "--figure", "sheet.gif"
    )
    assert call("predict", checkpoint, photo, "--figure", "one.svg")[2] == "figure: one.svg\n"


def test_exported_weights_take_the_place_of_the_checkpoint(
    checkpoint, photo, tree, json_of, call, refused
) -> None:
    (file,) = json_of("export", checkpoint, "--format", "safetensors")["files"]
    path = Path(file["path"])
    assert path == checkpoint.with_suffix(".safetensors")
    assert (file["largest_difference"], file["bytes"]) == (0, path.stat().st_size)
    assert path.read_bytes()[8:300].count(b"__metadata__") == 1
    expected, found = load_model(checkpoint), load_model(path)
    assert all(map(torch.equal, expected.state_dict().values(), found.state_dict().values()))
    assert found.calibration == expected.calibration is not None
    assert (found.class_names, found.data) == (expected.class_names, expected.data)
    ours = [json_of("predict", one, photo) for one in (checkpoint, path)]
    assert ours[0] == ours[1]
    ours = [
        json_of("evaluate", c, "--split", "val", "--data_dir", tree) for c in (checkpoint, path)
    ]
    assert ours[0]["confusion"] == ours[1]["confusion"]
    assert Path(ours[1]["figure"]).name == "confusion_val_best.png"
    assert call("export", path, "--format", "torch")[0] == 0
    content = path.read_bytes()
    assert "would be overwritten" in refused("export", path, "--format", "safetensors")
    assert json_of("export", path, "--format", "safetensors", "--output", "copy")["files"]
    assert Path("copy/best.safetensors").read_bytes() == content  # every time the same bytes
    assert "holds only weights; resume last.ckpt" in refused("fit", "--resume", path)


def test_half_the_size_changes_little(checkpoint, json_of, refused) -> None:
    whole, half = (
        json_of("export", checkpoint, "--format", "safetensors", "--output", name, *flags)
        for name, flags in (("whole", []), ("half", ["--half"]))
    )
    weights = 3072 * 8 + 8 * 3  # two bytes less for each
    saved = whole["files"][0]["bytes"] - half["files"][0]["bytes"]
    assert saved == pytest.approx(2 * weights, abs=16)
    assert 0 < half["files"][0]["relative_difference"] < half["relative_tolerance"] == 0.01
    assert "--half: only with --format safetensors" in refused("export", checkpoint, "--half")


@pytest.mark.parametrize("kind", ["text", "foreign", "altered", "calibration"])
def test_weights_of_another_kind_are_refused_in_a_line(kind: str, checkpoint, refused) -> None:
    from safetensors.torch import save_file

    from cifar_lab.run.checkpoint import weights_file

    model = load_model(checkpoint)
    path, state = Path("x.safetensors"), model.state_dict()
    if kind == "text":
        path.write_text("hello")
        said = "damaged or not a checkpoint"
    elif kind == "foreign":
        save_file({"weight": torch.zeros(2)}, path)
        said = "not a checkpoint of cifar_lab"
    elif kind == "altered":
        path.write_bytes(weights_file(state, {"hidden_units": [10**9]}, model.origin))
        said = "does not fit this version's MLP"
    else:
        calibration = {"temperature": -1.0, "threshold": 0.5}
        origin = model.origin | {"calibration": calibration}
        path.write_bytes(weights_file(state, dict(model.hparams), origin))
        said = "calibration"
    assert said in refused("predict", path, "photo.png")
