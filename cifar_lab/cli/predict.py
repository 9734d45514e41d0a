"""``cifar-lab predict``: the most probable classes of image files."""

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cifar_lab.cli.main import tell
from cifar_lab.cli.parser import CHECKPOINT, OWN_MODEL, Command, images_at_a_time
from cifar_lab.errors import WRONG_INPUT
from cifar_lab.settings import PositiveInt, Setting, setting


@dataclass(frozen=True)
class _Options:
    top: PositiveInt = setting(3, "classes to print for an image")
    json: bool = setting(False, "print JSON, and nothing else")


COMMAND = Command(
    "predict",
    "Prints the most probable classes of images, with their probabilities.\n\n"
    "Images may have any size, mode and format that Pillow reads, up to 67,108,864 pixels.\n"
    "They are turned upright as EXIF says, converted to RGB, transparent parts over white,\n"
    "cropped to the square in their middle and resized to 32×32 pixels (bicubic,\n"
    "antialiased). 32×32 images are taken as they are; of animations, the first frame.\n\n"
    "Exit status: 0 done, 1 out of memory, 2 an image could not be read (the others are\n"
    "still predicted) or other wrong input.",
    _Options,
    positionals=(
        CHECKPOINT,
        Setting("image", Path, [], "image files, or folders to search to any depth", "arguments"),
    ),
    shared=(OWN_MODEL, "accelerator", images_at_a_time(500)),
    example="lightning_logs/cnn/version_0 my_photos --top 5",
)


def run(options: Any, given: Mapping[str, str], command: str) -> int:
    """Run the command; return its exit status."""
    from tqdm import tqdm

    from cifar_lab.inference.images import find_images, printable
    from cifar_lab.inference.prediction import predict
    from cifar_lab.run.restore import load_classifier

    model = load_classifier(options.ckpt, options.accelerator, options.model)
    paths = find_images(options.image, lambda line: tell(f"cifar-lab predict: {line}"))
    predictions = predict(model, paths, batch_size=options.batch_size, top=options.top)
    # A bar on a terminal, unless the predictions themselves appear there.
    hidden = None if options.json or not sys.stdout.isatty() else True
    bar = tqdm(predictions, "predicting", len(paths), leave=False, disable=hidden)
    width = max(len(printable(path)) for path in paths)
    name_width = max(map(len, model.class_names), default=2)
    rows: list[dict[str, Any]] = []
    status = 0
    for prediction in bar:  # a line appears once the batch of its image is done
        path = prediction.path
        if prediction.error is not None:
            tell(f"cifar-lab predict: {prediction.error}")
            status = WRONG_INPUT
            rows.append({"path": str(path), "error": prediction.error})
        elif options.json:
            classes = [{"class": name, "probability": p} for name, p in prediction.classes]
            rows.append({"path": str(path), "classes": classes})
        else:
            cells = [f"{name:<{name_width}} {p:7.2%}" for name, p in prediction.classes]
            print(f"{printable(path):<{width}}   " + "   ".join(cells))
    if options.json:
        print(json.dumps(rows, indent=1))
    return status
