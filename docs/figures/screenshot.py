"""Make ``tensorboard.png`` anew: train three models for a minute, and photograph their TensorBoard.

    python docs/figures/screenshot.py

It needs Chromium or Chrome. A folder of runs as an argument is shown in place of new runs.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image
from tensorboard import program

import cifar_lab

PICTURE = Path(__file__).resolve().with_name("tensorboard.png")
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
MODELS = ("numpy_mlp", "mlp", "batchnorm_mlp")
WIDTH = 1500  # pixels
PAGES = {"custom_scalars": 800, "distributions&tagFilter=weight$": 590}  # height in pixels
PAGES["images&tagFilter=confusion|first_layer"] = 890
SECONDS = 30  # of the browser's clock, for a page to load


def main() -> None:
    """Train, photograph the pages, and put the photographs below each other."""
    with tempfile.TemporaryDirectory() as folder:
        logdir = Path(sys.argv[1]) if len(sys.argv) > 1 else train(Path(folder))
        os.chdir(logdir.parent)  # TensorBoard shows the path
        server = program.TensorBoard()
        server.configure(logdir=logdir.name, host="127.0.0.1", port=0, load_fast="false")
        address = server.launch()
        parts = [Image.open(photograph(address, page, Path(folder))) for page in PAGES]
        picture = Image.new("RGB", (WIDTH, sum(part.height for part in parts)))
        top = 0
        for part in parts:
            picture.paste(part, (0, top))
            top += part.height
    # Of the methods, this one keeps colours apart that cover few pixels.
    picture = picture.quantize(256, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    picture.save(PICTURE, optimize=True)
    print(PICTURE)


def train(folder: Path) -> Path:
    """Train the models by the report's protocol; return the folder of their runs."""
    logdir = folder / "lightning_logs"
    for model in MODELS:
        cifar_lab.fit(model, val_size=0, log_dir=str(logdir), progress="none")
    return logdir


def photograph(address: str, page: str, folder: Path) -> Path:
    """Return the path of a picture of a page."""
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        sys.exit(f"none of these browsers is installed: {', '.join(BROWSERS)}")
    path = folder / f"{page.partition('&')[0]}.png"
    words = [browser, "--headless", "--disable-gpu", "--hide-scrollbars", f"--screenshot={path}"]
    words += [f"--window-size={WIDTH},{PAGES[page]}", f"--virtual-time-budget={1000 * SECONDS}"]
    if sys.platform == "linux" and os.geteuid() == 0:  # in a container
        words.append("--no-sandbox")
    subprocess.run([*words, f"{address}#{page}"], check=True, capture_output=True, timeout=300)
    return path


if __name__ == "__main__":
    main()
