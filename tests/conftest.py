"""What all tests share: no network, no traces, and small data in every layout.

Real CIFAR-10 is used where ``$CIFAR_LAB_DATA`` names it (fixture ``real_data``). A GPU is hidden,
so that the tests are the same everywhere; ``CIFAR_LAB_TEST_GPU=1`` shows it, for those that
need one (``-m gpu``).
"""

import functools
import json
import os
import pickle
import shlex
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cifar_lab.data import original

GPU = os.environ.get("CIFAR_LAB_TEST_GPU") == "1"
if not GPU:
    os.environ["CUDA_VISIBLE_DEVICES"] = ""  # before torch looks
    os.environ["DISABLE_MPS"] = "1"  # which Lightning looks at
if "PYTEST_XDIST_WORKER" in os.environ:  # with -n, each process has a core
    os.environ.setdefault("OMP_NUM_THREADS", "1")
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # as in a background job of a shell
    signal.signal(signal.SIGINT, signal.default_int_handler)  # processes of the tests take Ctrl-C
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
def call(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Run a command; return its status, its output and its errors."""
    from cifar_lab.cli import main

    def call(*words: object) -> tuple[int, str, str]:
        capsys.readouterr()
        status = main([str(word) for word in words])
        out, err = capsys.readouterr()
        lines = err.splitlines(keepends=True)  # without that of the cache, empty in each test
        return status, out, "".join(line for line in lines if not line.startswith("decoding "))

    return call


@pytest.fixture
def json_of(call: Callable[..., tuple[int, str, str]]) -> Callable[..., Any]:
    """Run a command with ``--json``; return what it prints."""

    def json_of(*words: object, status: int = 0) -> Any:
        found, out, err = call(*words, "--json")
        assert found == status, err
        if words[0] in ("evaluate", "export"):  # the others print what they do
            assert bool(err) == bool(status)
        return json.loads(out)

    return json_of


@pytest.fixture
def refused(call: Callable[..., tuple[int, str, str]]) -> Callable[..., str]:
    """Run a command on wrong input; return its error."""

    def refused(command: str, *words: object, lines: int = 1) -> str:
        status, out, err = call(command, *words)
        assert (status, out) == (2, "")
        assert err.startswith(f"cifar-lab {command}: ")
        assert err.count("\n") == lines
        return err

    return refused


@pytest.fixture
def checkpoint(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``best.ckpt`` of a small MLP, trained for a few steps on the tree, in its run folder.

    It is trained once on a tree of a name; each test has a copy of the folder.
    """
    from cifar_lab.cli import main

    trained = tmp_path_factory.getbasetemp() / f"trained on {tree.name}"
    if not list(trained.glob("mlp/*/summary.json")):
        flags = f"--model mlp --hidden_units 8 --data_dir '{tree}' --log_dir '{trained}'"
        flags += " --batch_size 12 --max_steps 16 --eval_every 4 --progress none"
        flags += " --precision 32-true"  # as an evaluation computes
        assert main(["fit", *shlex.split(flags)]) == 0
    shutil.copytree(trained, "lightning_logs")
    return Path("lightning_logs/mlp/version_0/checkpoints/best.ckpt").resolve()


@pytest.fixture
def write_model() -> Callable[..., Path]:
    """Writes a checkpoint of a model of two classes, whose settings may say something else."""
    import torch

    from cifar_lab.models.classifier import CHECKPOINT_FORMAT

    def write(model: "torch.nn.Module", **settings: object) -> Path:
        origin = {"format": CHECKPOINT_FORMAT, "version": "0.1.0", "model": type(model).__name__}
        data = {"source": "folder", "fingerprint": "0", "val_size": 2, "split_seed": 0}
        content = {
            "state_dict": model.state_dict(),
            "hyper_parameters": {**model.hparams, **settings},
            "cifar_lab": {**origin, "class_names": ["bird", "cat"], "data": data},
        }
        torch.save(content, "model.ckpt")
        return Path("model.ckpt")

    return write


@pytest.fixture
def numpy_logits() -> Callable[[Path, np.ndarray], np.ndarray]:
    """Compute the logits of an MLP in float64 from the weights in its file."""
    import torch

    def logits(checkpoint: Path, images: np.ndarray) -> np.ndarray:
        state = torch.load(checkpoint, weights_only=True)["state_dict"]
        state = {name: tensor.double().numpy() for name, tensor in state.items()}
        weights = [array for name, array in state.items() if name.startswith("network.")]
        x = ((images - state["normalize.mean"]) / state["normalize.std"]).reshape(len(images), -1)
        return np.maximum(x @ weights[0].T + weights[1], 0) @ weights[2].T + weights[3]

    return logits


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
            settings={},
        )
        summary.write(folder / "summary.json")

    return write
