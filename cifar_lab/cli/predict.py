"""``cifar-lab predict``: the most probable classes of image files."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cifar_lab.cli.main import tell
from cifar_lab.cli.output import check_figure, writing
from cifar_lab.cli.parser import CHECKPOINT, OWN_MODEL, Command, images_at_a_time
from cifar_lab.errors import WRONG_INPUT, UserError
from cifar_lab.settings import PositiveInt, Setting, setting

if TYPE_CHECKING:
    from cifar_lab.inference.prediction import Prediction


@dataclass(frozen=True)
class _Options:
    top: PositiveInt = setting(3, "classes to print per image")
    figure: Path | None = setting(
        None,
        "draw the first 24 images as the model sees them, with these classes: a .png, .svg "
        "or .pdf file",
    )
    json: bool = setting(False, "print only JSON")


COMMAND = Command(
    "predict",
    "Prints the most probable classes of images, with their probabilities.\n\n"
    "Images may have any size, mode and format that Pillow reads, up to 67,108,864 pixels.\n"
    "They are rotated as their EXIF data says, converted to RGB with transparent parts on white,\n"
    "cropped to the central square and resized to 32×32 pixels (bicubic, antialiased). Images of\n"
    "32×32 pixels are used unchanged; of an animation, the first frame is used.\n\n"
    "If the run was calibrated on its validation split, the probabilities are those after\n"
    "temperature scaling. An image whose highest probability is lower than that of 95 % of the\n"
    "validation images is marked 'like no class'. So is one in twenty images of the classes,\n"
    "while many images of other things are not: any model takes some of them for a class.\n\n"
    "Exit status: 0 done, 1 out of memory, 2 an image could not be read (the others are\n"
    "still predicted) or other wrong input.",
    _Options,
    positionals=(
        CHECKPOINT,
        Setting("image", Path, [], "image files, or folders to search recursively", "arguments"),
    ),
    shared=(OWN_MODEL, "accelerator", images_at_a_time(500)),
    example="fast_cnn my_photos --figure predictions.png",
)


def run(options: Any, given: Mapping[str, str], command: str) -> int:
    """Run the command; return its exit status."""
    from tqdm import tqdm

    from cifar_lab.inference.images import find_images, printable
    from cifar_lab.inference.prediction import DRAWN, predict
    from cifar_lab.run.restore import load_model

    if options.figure:
        check_figure("--figure", options.figure)
    model = load_model(options.ckpt, options.accelerator, options.model)
    paths = find_images(options.image, lambda line: tell(f"cifar-lab predict: {line}"))
    if options.figure and options.figure.resolve() in [path.resolve() for path in paths]:
        raise UserError(f"--figure {options.figure}: one of the images; name another file")
    predictions = predict(model, paths, batch_size=options.batch_size, top=options.top)
    # A bar on a terminal, unless the predictions themselves appear there.
    hidden = None if options.json or not sys.stdout.isatty() else True
    bar = tqdm(predictions, "predicting", len(paths), leave=False, disable=hidden)
    width = max(len(printable(path)) for path in paths)
    name_width = max(map(len, model.class_names), default=2)
    rows: list[dict[str, Any]] = []
    drawn: list[Prediction] = []
    status = count = 0
    for prediction in bar:  # a line appears once the batch of its image is done
        if prediction.error is not None:
            tell(f"cifar-lab predict: {prediction.error}")
            status = WRONG_INPUT
        elif options.figure:
            count += 1
            drawn += [prediction] if count <= DRAWN else []
        if options.json:
            rows.append(_row(prediction))
        elif prediction.error is None:
            cells = [f"{name:<{name_width}} {p:7.2%}" for name, p in prediction.classes]
            cells += ["like no class"] if prediction.unlike else []
            print(f"{printable(prediction.path):<{width}}   " + "   ".join(cells))
    if options.json:
        print(json.dumps(rows, indent=1))
    if drawn:
        _draw(drawn, count, options.figure)
    return status


def _row(prediction: Prediction) -> dict[str, Any]:
    """Return a prediction for JSON."""
    path = {"path": str(prediction.path)}
    if prediction.error is not None:
        return {**path, "error": prediction.error}
    classes = [{"class": name, "probability": p} for name, p in prediction.classes]
    return {**path, "classes": classes, "like_no_class": prediction.unlike}


def _draw(drawn: list[Prediction], count: int, path: Path) -> None:
    from cifar_lab.inference.prediction_figure import write_predictions

    with writing("--figure", path):
        write_predictions(drawn, count - len(drawn), path)
    part = f" (the first {len(drawn)} of {count:,} images)" if count > len(drawn) else ""
    tell(f"figure: {path}{part}")
