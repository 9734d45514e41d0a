"""The sections of the benchmark. Each one answers one question, in plain values for JSON.

``given`` always holds the settings of data and hardware that the user chose, unchecked.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from functools import partial
from itertools import chain, repeat
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from cifar_lab.data.augment import AUGMENTATIONS, compose
from cifar_lab.data.loader import BatchLoader
from cifar_lab.devices import device_name, resolve_precision
from cifar_lab.experiments.peak import convolution, matrix_product, peak, timed, wait_for
from cifar_lab.experiments.speedrun import PROTOCOL
from cifar_lab.layers import batch_norm
from cifar_lab.run.summary import versions
from cifar_lab.training.memory import kept_memory
from contenders import Setting, fit_silently, lightning, ours, plain
from peer import Schedule, normalize
from peer import train as train_network
from timing import Seconds, ratio, spread, take_turns

# Number of steps of a run by recipe, so that a run takes some seconds on two cores.
STEPS = {"mlp": 1000, "deep_mlp": 60, "cnn": 16}
QUICK_STEPS = {"mlp": 250, "deep_mlp": 12, "cnn": 4}
BATCH_NORM_SHAPES = ((32, 256, 16, 16), (200, 1024))
LOADER_BATCH_SIZE = 128
FORMS = ("native", "manual", "composed")  # of batch normalization
DRIFT_STEPS = 200
# A convolution in float64 is slow, so its batches have fewer images than the recipe's.
DRIFT_SETTINGS = {("cnn", torch.float64): {"batch_size": 8}}
Section = dict[str, Any]


def describe(setting: Setting) -> dict[str, str]:
    """Return the context of the numbers: hardware with its instruction set, data, versions."""
    images = setting.data.image_set
    machine = device_name(setting.device)
    if setting.device.type == "cpu":
        machine += f", {torch.backends.cpu.get_cpu_capability()}"
    return {
        "machine": machine,
        "data": f"{images.source}, fingerprint {images.fingerprint}",
        "versions": ", ".join(f"{name} {version}" for name, version in versions().items()),
    }


def training(given: Mapping[str, Any], rounds: int, quick: bool) -> Section:
    """Compare the training of this package with a plain loop and with Lightning's tutorial.

    Returns:
        For each recipe, seconds per step of each contender, and the ratios to the plain loop.
    """
    found = {}
    for recipe, steps in (QUICK_STEPS if quick else STEPS).items():
        setting = Setting(recipe, steps, given)
        with tempfile.TemporaryDirectory() as folder:
            contenders: dict[str, Callable[[], Seconds]] = {
                "plain": partial(plain, setting),
                "ours": partial(ours, setting, Path(folder)),
            }
            if recipe == "mlp":
                for workers in (0, 2):
                    name = f"lightning_{workers}_workers"
                    contenders[name] = partial(lightning, setting, Path(folder), workers)
            seconds = take_turns(contenders, rounds)
        steps_of = {name: [value / steps for value in values] for name, values in seconds.items()}
        found[recipe] = {
            "steps": steps,
            "precision": setting.precision,
            "seconds_a_step": {name: spread(values) for name, values in steps_of.items()},
            "ratio_to_plain": _ratios(seconds, "plain"),
        }
    return found


def _ratios(seconds: Mapping[str, list[Seconds]], base: str) -> dict[str, dict[str, float]]:
    """Return the ratio of each contender to the one named ``base``."""
    others = {name: values for name, values in seconds.items() if name != base}
    return {name: ratio(values, seconds[base]) for name, values in others.items()}


def batch_normalization(device: torch.device, rounds: int) -> Section:
    """Compare hand-written forward and backward passes, in float32, with ``nn.BatchNorm``.

    The memory is kept in the process, as in training.
    """
    found = {}
    for shape in BATCH_NORM_SHAPES:
        x = torch.randn(shape, device=device, requires_grad=True)
        dy = torch.randn(shape, device=device)
        layers = {form: batch_norm(shape[1], len(shape) // 2, form).to(device) for form in FORMS}  # type: ignore[arg-type]
        contenders = {form: partial(_pass_through, layer, x, dy) for form, layer in layers.items()}
        with kept_memory():
            seconds = take_turns(contenders, 4 * rounds)
        found["×".join(map(str, shape))] = {
            "seconds": {form: spread(values) for form, values in seconds.items()},
            "ratio_to_native": _ratios(seconds, "native"),
        }
    return found


def _pass_through(layer: nn.Module, x: Tensor, dy: Tensor) -> Seconds:
    inputs = [x, *layer.parameters()]
    return timed(lambda: torch.autograd.grad(layer(x), inputs, dy), x.device, repeats=5)


def loader(setting: Setting, rounds: int) -> Section:
    """Measure the images per second of the loader alone, with each augmentation."""
    found = {}
    for names in ([], *([name] for name in AUGMENTATIONS), list(AUGMENTATIONS)):
        batches = setting.loader(LOADER_BATCH_SIZE, compose(names))
        seconds = [_seconds_a_batch(batches, setting.device) for _ in range(rounds)]
        speed = LOADER_BATCH_SIZE / median(seconds)
        found[", ".join(names) or "none"] = {"images_per_second": speed}
    return found


def _seconds_a_batch(batches: BatchLoader, device: torch.device) -> Seconds:
    iterator = chain.from_iterable(repeat(batches))
    return timed(lambda: next(iterator), device, repeats=50)


def arithmetic(given: Mapping[str, Any], training: Section) -> Section:
    """Compare the GFLOP/s of training with the best of this machine, measured in the same run.

    Args:
        given: settings that the user chose.
        training: result of :func:`training`.
    """
    device = Setting("mlp", 1, given).device
    in_bf16 = resolve_precision("auto", device.type) == "bf16-mixed"  # elsewhere it is emulated
    peaks = {
        f"{what} {_name(dtype)}": peak(work, device, dtype) / 1e9
        for what, work in (("matrix product", matrix_product), ("convolution", convolution))
        for dtype in (torch.float32, *([torch.bfloat16] if in_bf16 else []))
    }
    models = {}
    for recipe, measured in training.items():
        gflop = flops_of_a_step(Setting(recipe, 1, given)) / 1e9
        speed = gflop / measured["seconds_a_step"]["ours"]["median"]
        models[recipe] = {"gflop_a_step": gflop, "gflop_per_second": speed}
    return {"best_gflop_per_second": peaks, "models": models}


def flops_of_a_step(setting: Setting) -> int:
    """Return the floating-point operations of one step's matrix products and convolutions."""
    images, labels = (tensor[: setting.batch_size] for tensor in setting.train_tensors())
    model = setting.model()
    with FlopCounterMode(display=False) as counter:
        F.cross_entropy(model(images), labels).backward()
    return int(counter.get_total_flops())


def start_up(given: Mapping[str, Any]) -> Section:
    """Measure the time to print the help, and the time and memory of a one-step run."""
    fit = [sys.executable, "-m", "cifar_lab", "fit"]
    # With val_size 0 there is no test at the end.
    settings = {"model": "mlp", "max_steps": 1, "val_size": 0, "limit_val_batches": 1, **given}
    with tempfile.TemporaryDirectory() as folder:
        flags = [f"--{name}={value}" for name, value in {**settings, "log_dir": folder}.items()]
        help_seconds, _ = run_process([*fit, "--help"])
        seconds, memory = run_process([*fit, *flags])
    return {"help_seconds": help_seconds, "one_step_seconds": seconds, "peak_memory_mb": memory}


# A new process begins with the memory of the one that starts it, which is large by now, so a small
# process starts it.
WATCH = """
import resource, subprocess, sys, time
start = time.perf_counter()
silent = subprocess.DEVNULL
status = subprocess.call(sys.argv[1:], stdout=silent, stderr=silent)
print(time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
sys.exit(status)
"""


def run_process(words: list[str]) -> tuple[Seconds, float]:
    """Run a process; return its seconds and its largest resident memory in MB."""
    watched = [sys.executable, "-c", WATCH, *words]
    printed = subprocess.run(watched, check=True, capture_output=True, text=True).stdout
    seconds, memory = map(float, printed.split())
    return seconds, memory / (2**20 if sys.platform == "darwin" else 2**10)  # bytes, else kB


def peer(given: Mapping[str, Any], rounds: int, epochs: int | None = None) -> Section:
    """Compare ``fast_cnn`` with a published speed-run: whole trainings in turns, a seed a round.

    The time is that from the images in memory to the accuracy on the test set, which is read once.

    Args:
        given: settings that the user chose.
        rounds: number of trainings of each.
        epochs: length of both; None for that of each.
    """
    setting = Setting("fast_cnn", 1, given)
    accuracies: dict[str, list[float]] = {"ours": [], "peer": []}

    def run(name: str) -> Seconds:
        found = accuracies[name]
        accuracy, seconds = TRAININGS[name](setting, len(found), epochs)
        found.append(accuracy)
        return seconds

    seconds = take_turns({name: partial(run, name) for name in accuracies}, rounds)
    return {
        "precision": setting.precision,
        "seeds": list(range(rounds)),
        "accuracies": accuracies,
        "seconds": seconds,
        "ratio_to_peer": _ratios(seconds, "peer"),
    }


def _train_ours(setting: Setting, seed: int, epochs: int | None) -> tuple[float, Seconds]:
    """Train ``fast_cnn``; return its accuracy and the seconds."""
    with tempfile.TemporaryDirectory() as folder:
        changes: dict[str, Any] = {
            **PROTOCOL,
            "max_steps": None,
            "limit_val_batches": None,
            "seed": seed,
        }
        changes |= {"log_dir": folder, "progress": "none", "dashboard": "off"}
        usual = setting.plan.recipe.settings["max_epochs"]
        plan = setting.plan.replace(**changes, max_epochs=epochs or usual)
        run = fit_silently(plan)
        return run.summary["accuracy"]["test"]["last"], run.summary["seconds"]["fit"]


def _train_peer(setting: Setting, seed: int, epochs: int | None) -> tuple[float, Seconds]:
    """Train the published speed-run; return its accuracy and the seconds."""
    schedule = Schedule(epochs) if epochs else Schedule()
    classes = setting.data.num_classes
    torch.manual_seed(seed)
    images, labels = setting.train_tensors()
    tests, answers = setting.test_tensors()
    wait_for(setting.device)
    start = time.perf_counter()
    network = train_network(images, labels, classes, setting.autocast, schedule).eval()
    with torch.inference_mode(), setting.autocast():
        parts = [network(normalize(part)).argmax(1) for part in tests.split(500)]
        accuracy = (torch.cat(parts) == answers).double().mean().item()
    return accuracy, time.perf_counter() - start


TRAININGS = {"ours": _train_ours, "peer": _train_peer}


def drift(given: Mapping[str, Any], steps: int = DRIFT_STEPS) -> Section:
    """Measure how far the forms of batch normalization drift apart in training due to rounding.

    In exact arithmetic they are equal. In floating point each of them rounds in different places,
    and training amplifies the difference. In float64 it stays near the last digits.

    Args:
        given: settings that the user chose; the precision is not used.
        steps: number of training steps.

    Returns:
        For each model and dtype, ``batch_size``, ``steps`` and, for each form, the relative
        difference of its losses from those of ``nn.BatchNorm``: the first, largest and last one.
    """
    found = {}
    for recipe in ("batchnorm_mlp", "cnn"):
        for dtype in (torch.float64, torch.float32):
            settings = {**given, **DRIFT_SETTINGS.get((recipe, dtype), {})}
            setting = Setting(recipe, steps, settings)
            losses = {form: _losses(setting, form, dtype) for form in FORMS}
            found[f"{recipe} {_name(dtype)}"] = {
                "batch_size": setting.batch_size,
                "steps": steps,
                **{form: _difference(losses[form], losses["native"]) for form in FORMS[1:]},
            }
    return found


def _losses(setting: Setting, form: str, dtype: torch.dtype) -> Tensor:
    """Return the loss of each step, float64 (steps,)."""
    model = setting.model(batchnorm=form).to(dtype)
    optimizer: Any = model.configure_optimizers()
    batches = chain.from_iterable(repeat(setting.loader(setting.batch_size)))
    losses = []
    for _ in range(setting.steps):
        images, labels = next(batches)
        loss = F.cross_entropy(model(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return torch.tensor(losses, dtype=torch.float64)


def _difference(losses: Tensor, native: Tensor) -> dict[str, float]:
    relative = ((losses - native).abs() / native).tolist()
    return {"first": relative[0], "largest": max(relative), "last": relative[-1]}


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
