"""How often pretrained models mark images that show none of their classes as "like no class".

``python benchmarks/unlike.py > cifar_lab/weights/unlike.json`` counts the notes of
``cifar-lab predict`` on images that show none of the classes: uniform noise, a single colour, and a
letter on a background, each of random colours. The same images are drawn every time.
"""

import json
from pathlib import Path

import matplotlib as mpl
import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from cifar_lab.run.checkpoint import pretrained
from cifar_lab.run.restore import load_model

COUNT = 1000  # images of each kind
FONT = Path(mpl.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf")
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


def main() -> None:
    """Print the share of images with a note, by model and kind, as JSON."""
    shares = {name: {kind: share(name, KINDS[kind]()) for kind in KINDS} for name in pretrained()}
    print(json.dumps({"images_of_each_kind": COUNT, "like_no_class": shares}, indent=2))


@torch.inference_mode()
def share(name: str, images: np.ndarray) -> float:
    """Return the share of images, uint8 (N, 3, 32, 32), that a model finds like no class."""
    model = load_model(name, "cpu")
    assert model.calibration is not None
    parts = torch.from_numpy(images).split(250)
    found = torch.cat([model.predict_step(part, 0) for part in parts])
    return round(model.calibration.unlike(found).float().mean().item(), 6)


def noise() -> np.ndarray:
    """Return images of uniform noise."""
    return np.random.RandomState(0).randint(0, 256, (COUNT, 3, 32, 32)).astype(np.uint8)


def flat() -> np.ndarray:
    """Return images of a single random colour."""
    colours = np.random.RandomState(0).randint(0, 256, (COUNT, 3, 1, 1)).astype(np.uint8)
    return np.broadcast_to(colours, (COUNT, 3, 32, 32)).copy()


def letters() -> np.ndarray:
    """Return images of a letter of a random colour on a background of another one."""
    random, font = np.random.RandomState(0), ImageFont.truetype(str(FONT), 28)
    drawn = []
    for number in range(COUNT):
        paper, ink = (tuple(map(int, random.randint(0, 256, 3))) for _ in range(2))
        image = Image.new("RGB", (32, 32), paper)
        letter = LETTERS[number % len(LETTERS)]
        ImageDraw.Draw(image).text((16, 16), letter, fill=ink, font=font, anchor="mm")
        drawn.append(np.asarray(image).transpose(2, 0, 1))
    return np.stack(drawn)


KINDS = {"noise": noise, "flat": flat, "letters": letters}

if __name__ == "__main__":
    main()
