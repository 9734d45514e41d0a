"""The sections of the benchmark; each measures one question and gives plain values and lines."""

from __future__ import annotations

import itertools
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from cifar_lab.benchmark.contenders import Setting, lightning, ours, plain
from cifar_lab.benchmark.peak import convolution, matrix_product, peak
from cifar_lab.benchmark.timing import Seconds, ratio, spread, take_turns, timed
from cifar_lab.data.augment import AUGMENTATIONS, compose
from cifar_lab.data.loader import BatchLoader
from cifar_lab.layers import batch_norm
from cifar_lab.training.memory import kept_memory
from cifar_lab.training.precision import resolve_precision

ROOT = Path(__file__).parents[2]
# Recipe: steps of a run, so that one takes some seconds on two cores.
STEPS = {"mlp": 1000, "deep_mlp": 60, "cnn": 16}
QUICK_STEPS = {"mlp": 250, "deep_mlp": 12, "cnn": 4}
BATCH_NORM_SHAPES = ((32, 256, 16, 16), (200, 1024))
Section = dict[str, Any]


def training(flags: list[str], rounds: int, quick: bool) -> Section:
    """Our ``fit`` with everything on against a plain loop, and against Lightning's tutorial loop.

    Returns:
        For each recipe: seconds a step of each contender, and the ratios of the rounds.
    """
    found = {}
    for recipe, steps in (QUICK_STEPS if quick else STEPS).items():
        setting = Setting(recipe, steps, flags)
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
        found[recipe] = {
            "steps": steps,
            "precision": setting.precision,
            "seconds_a_step": {
                name: spread([value / steps for value in values])
                for name, values in seconds.items()
            },
            "ratio_to_plain": {
                name: vars(ratio(values, seconds["plain"]))
                for name, values in seconds.items()
                if name != "plain"
            },
        }
    return found


def batch_normalization(device: torch.device, rounds: int) -> Section:
    """Forward plus backward of the three forms, float32, against ``nn.BatchNorm``.

    With the memory kept in the process, as in a training.
    """
    found = {}
    for shape in BATCH_NORM_SHAPES:
        x = torch.randn(shape, device=device, requires_grad=True)
        dy = torch.randn(shape, device=device)
        contenders = {
            kind: partial(_pass_through, batch_norm(shape[1], len(shape) // 2, kind), x, dy)  # type: ignore[arg-type]
            for kind in ("native", "manual", "composed")
        }
        with kept_memory():
            seconds = take_turns(contenders, 4 * rounds)
        found["×".join(map(str, shape))] = {
            "seconds": {kind: spread(values) for kind, values in seconds.items()},
            "ratio_to_native": {
                kind: vars(ratio(seconds[kind], seconds["native"]))
                for kind in ("manual", "composed")
            },
        }
    return found


def _pass_through(layer: nn.Module, x: torch.Tensor, dy: torch.Tensor) -> Seconds:
    layer.to(x.device)
    inputs = [x, *layer.parameters()]
    return timed(lambda: torch.autograd.grad(layer(x), inputs, dy), x.device, repeats=5)


def loader(setting: Setting, rounds: int) -> Section:
    """Images a second of the loader alone, with each augmentation."""
    arrays = setting.data.image_set
    images = torch.from_numpy(arrays.train_images).to(setting.device)
    labels = torch.from_numpy(arrays.train_labels).to(setting.device)
    indices = torch.arange(len(labels))
    found = {}
    for names in ([], *([name] for name in AUGMENTATIONS), list(AUGMENTATIONS)):
        batches = BatchLoader(
            images, labels, indices, 128, shuffle=True, drop_last=True, augment=compose(names)
        )
        seconds = [_seconds_a_batch(batches, setting.device) for _ in range(rounds)]
        found[", ".join(names) or "none"] = {"images_per_second": 128 / median(seconds)}
    return found


def _seconds_a_batch(batches: BatchLoader, device: torch.device, count: int = 50) -> Seconds:
    iterator = itertools.chain.from_iterable(itertools.repeat(batches))
    return timed(lambda: next(iterator), device, repeats=count)


def arithmetic(flags: list[str], training: Section) -> Section:
    """GFLOP/s of our training against the best that this machine reaches in this same run.

    Args:
        flags: of ``scripts/fit.py``: data and hardware.
        training: what the section of that name found.
    """
    device = Setting("mlp", 1, flags).device
    in_bf16 = resolve_precision("auto", device.type) == "bf16-mixed"  # else it is emulated
    peaks = {
        f"{what} {str(dtype).removeprefix('torch.')}": peak(work, device, dtype) / 1e9
        for what, work in (("matrix product", matrix_product), ("convolution", convolution))
        for dtype in (torch.float32, *([torch.bfloat16] if in_bf16 else []))
    }
    models = {}
    for recipe, measured in training.items():
        flops = flops_of_a_step(Setting(recipe, 1, flags))
        speed = flops / measured["seconds_a_step"]["ours"]["median"] / 1e9
        models[recipe] = {"gflop_a_step": flops / 1e9, "gflop_per_second": speed}
    return {"best_gflop_per_second": peaks, "models": models}


def flops_of_a_step(setting: Setting) -> int:
    """Floating-point operations of the products and convolutions of one training step."""
    model = setting.model()
    images = torch.zeros(setting.batch_size, 3, 32, 32, dtype=torch.uint8, device=setting.device)
    labels = torch.zeros(setting.batch_size, dtype=torch.int64, device=setting.device)
    with FlopCounterMode(display=False) as counter:
        F.cross_entropy(model(images), labels).backward()
    return int(counter.get_total_flops())


def start_up(flags: list[str]) -> Section:
    """Seconds to the help and of a run of one step, and the largest memory of a run."""
    fit = [sys.executable, str(ROOT / "scripts" / "fit.py")]
    with tempfile.TemporaryDirectory() as folder:
        # By the report's protocol, which has no test at the end.
        words = ["--model", "mlp", "--max_steps", "1", "--val_size", "0"]
        words += ["--limit_val_batches", "1", *flags]
        help_seconds, _ = _run([*fit, "--help"])
        seconds, memory = _run([*fit, *words, "--log_dir", folder])
    return {
        "help_seconds": help_seconds,
        "one_step_seconds": seconds,
        "peak_memory_mb": memory,
    }


# A process begins with the memory of the one that starts it, which is large by now: a small one
# goes between them.
WATCH = """
import resource, subprocess, sys, time
start = time.perf_counter()
silent = subprocess.DEVNULL
status = subprocess.call(sys.argv[1:], stdout=silent, stderr=silent)
print(time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
sys.exit(status)
"""


def _run(words: list[str]) -> tuple[Seconds, float]:
    """Runs a process; its seconds and its largest resident memory in MB."""
    watched = [sys.executable, "-c", WATCH, *words]
    told = subprocess.run(watched, check=True, capture_output=True, text=True).stdout
    seconds, memory = map(float, told.split())
    return seconds, memory / (2**20 if sys.platform == "darwin" else 2**10)  # bytes, else kB
