"""What all tests share: no network, no traces, and small data in every layout.

Real CIFAR-10 is used where ``$CIFAR_LAB_DATA`` names it (fixture ``real_data``). A GPU is hidden,
so that the tests are the same everywhere; ``CIFAR_LAB_TEST_GPU=1`` shows it, for those that
need one (``-m gpu``).
"""

import functools
import os
import pickle
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cifar_lab.data import original

GPU = os.environ.get("CIFAR_LAB_TEST_GPU") == "1"
if not GPU:
    os.environ["CUDA_VISIBLE_DEVICES"] = ""  # before torch looks
    os.environ["DISABLE_MPS"] = "1"  # which Lightning looks at
REAL_DATA = os.environ.get("CIFAR_LAB_DATA")
# Of a scheduler or a launcher around the tests; Lightning reads some of them at its import.
OTHERS = ("SLURM_", "TORCHELASTIC_", "RANK", "LOCAL_RANK", "WORLD_SIZE", "NODE_RANK", "MASTER_")
for _name in [name for name in os.environ if name.startswith(OTHERS) and name != "SLURM_CONF"]:
    del os.environ[_name]


@pytest.fixture(autouse=True)
def _no_network_no_traces(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Runs each test in its own folder, with its own cache and a mirror that refuses."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CIFAR_LAB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("CIFAR_LAB_MIRROR", "http://127.0.0.1:9/cifar-10-python.tar.gz")
    monkeypatch.delenv("CIFAR_LAB_DATA", raising=False)
    if not GPU:
        # With a __wrapped__, as torch's own has: torch._dynamo asks for it when it is imported.
        monkeypatch.setattr("torch.backends.mps.is_available", functools.cache(lambda: False))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skips the tests that need a GPU, if it is not shown to them."""
    skip = pytest.mark.skip(reason="needs an NVIDIA GPU: set CIFAR_LAB_TEST_GPU=1")
    for item in items:
        if item.get_closest_marker("gpu") and not GPU:
            item.add_marker(skip)


@pytest.fixture
def real_data() -> str:
    """The folder of a real CIFAR-10."""
    if not REAL_DATA:
        pytest.skip("needs real CIFAR-10: set CIFAR_LAB_DATA to its folder")
    return REAL_DATA


def make_images(labels: np.ndarray, seed: int) -> np.ndarray:
    """Noise with one quadrant brightened by class: easy to learn, uint8 (N, 3, 32, 32)."""
    images = np.random.RandomState(seed).randint(0, 160, (len(labels), 3, 32, 32)).astype(np.uint8)
    for image, label in zip(images, labels, strict=True):
        top, left = 16 * (label // 2 % 2), 16 * (label % 2)
        image[:, top : top + 16, left : left + 16] += 80
    return images


@pytest.fixture
def write_tree(tmp_path: Path) -> Callable[..., Path]:
    """Writes a folder-per-class tree and gives its root."""

    def write(
        name: str = "a tree",  # a space in paths is harmless
        classes: tuple[str, ...] = ("bird", "cat", "frog"),
        train: int = 40,
        test: int = 15,
    ) -> Path:
        root = tmp_path / name
        for seed, (split, count) in enumerate({"train": train, "test": test}.items()):
            for label, class_name in enumerate(classes):
                folder = root / split / class_name
                folder.mkdir(parents=True)
                images = make_images(np.full(count, label), seed=10 * seed + label)
                for number, image in enumerate(images):
                    Image.fromarray(image.transpose(1, 2, 0)).save(folder / f"{number:04}.png")
        return root

    return write


@pytest.fixture
def tree(write_tree: Callable[..., Path]) -> Path:
    """A tree of three classes, 120 training and 45 test images."""
    return write_tree()


@pytest.fixture
def write_original(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Writes the original layout, with the checksums patched to what was written."""

    def write(name: str = "data", per_file: int = 20) -> Path:
        folder = tmp_path / name / original.FOLDER_NAME
        folder.mkdir(parents=True)
        for seed, file in enumerate((*original.TRAIN_FILES, original.TEST_FILE)):
            labels = np.arange(per_file) % 10
            images = make_images(labels, seed).reshape(per_file, -1)
            batch = {b"data": images, b"labels": labels.tolist()}
            (folder / file).write_bytes(pickle.dumps(batch, protocol=2))
        names = {b"label_names": [f"class{number}".encode() for number in range(10)]}
        (folder / original.META_FILE).write_bytes(pickle.dumps(names, protocol=2))
        checksums = {path.name: original.md5(path.read_bytes()) for path in folder.iterdir()}
        monkeypatch.setattr(original, "CHECKSUMS", checksums)
        return folder.parent

    return write


@pytest.fixture
def checkpoint(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``best.ckpt`` of a small MLP, trained for a few steps on the tree, in its run folder.

    It is trained once; each test has a copy of the folder.
    """
    from cifar_lab.cli import main

    trained = tmp_path_factory.getbasetemp() / "trained"
    if not list(trained.glob("mlp/*/summary.json")):
        flags = f"--model mlp --hidden_units 8 --data_dir '{tree}' --log_dir '{trained}'"
        flags += " --batch_size 12 --max_steps 20 --eval_every 10 --progress none"
        assert main(["fit", *shlex.split(flags)]) == 0
    shutil.copytree(trained, "lightning_logs")
    return Path("lightning_logs/mlp/version_0/checkpoints/best.ckpt").resolve()


@pytest.fixture
def write_summary() -> Callable[..., None]:
    """Writes the ``summary.json`` of a finished run of ``mlp`` into a folder."""
    from cifar_lab.run.summary import Summary

    def write(folder: Path, images: str = "a") -> None:
        summary = Summary(
            model="mlp",
            recipe="mlp",
            accuracy={"test": {"best": 0.5, "best_step": 9, "last": 0.25, "last_step": 12}},
            report_accuracy=None,
            steps=12,
            seconds={"train": 1.0, "fit": 2.0, "total": 3.0},
            images_per_second=9.0,
            data={"source": "folder", "location": "x", "fingerprint": images},
            seed=0,
            device={"name": "a CPU", "precision": "32-true"},
            versions={"torch": "2"},
            command="fit.py",
        )
        summary.write(folder / "summary.json")

    return write
