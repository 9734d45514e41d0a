"""How far rounding drives the three forms of batch normalization apart during training.

In exact arithmetic they compute the same. In floating point each rounds in its own places, and
training carries the difference on; in float64 it stays near the last digits.
"""

from __future__ import annotations

from itertools import chain, repeat
from typing import Any

import torch
from torch.nn import functional as F

from cifar_lab.benchmark.contenders import Setting
from cifar_lab.data.loader import BatchLoader

FORMS = ("native", "manual", "composed")
STEPS = 200
# A convolution in float64 is slow: fewer images a batch than the recipe's.
BATCH_SIZES = {("cnn", torch.float64): 8}


def measure(flags: list[str], steps: int = STEPS) -> dict[str, Any]:
    """Relative differences of the losses from those of ``nn.BatchNorm``, all else the same.

    Args:
        flags: of ``scripts/fit.py``: data and hardware; the precision is not used.
        steps: of training.

    Returns:
        For each model and dtype: ``batch_size``, ``steps`` and, for each form, the difference of
        the first loss, the largest, and the last.
    """
    found = {}
    for recipe in ("batchnorm_mlp", "cnn"):
        for dtype in (torch.float64, torch.float32):
            size = BATCH_SIZES.get((recipe, dtype))
            words = flags if size is None else [*flags, "--batch_size", str(size)]
            setting = Setting(recipe, steps, words)
            losses = {form: _losses(setting, form, dtype) for form in FORMS}
            found[f"{recipe} {str(dtype).removeprefix('torch.')}"] = {
                "batch_size": setting.batch_size,
                "steps": steps,
                **{form: _difference(losses[form], losses["native"]) for form in FORMS[1:]},
            }
    return found


def _losses(setting: Setting, form: str, dtype: torch.dtype) -> torch.Tensor:
    """The loss of each step, float64 (steps,)."""
    setting.plan.model_settings["batchnorm"] = form
    model = setting.model().to(dtype)
    optimizer: Any = model.configure_optimizers()
    batches = chain.from_iterable(repeat(_loader(setting)))
    losses = []
    for _ in range(setting.steps):
        images, labels = next(batches)
        loss = F.cross_entropy(model(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return torch.tensor(losses, dtype=torch.float64)


def _loader(setting: Setting) -> BatchLoader:
    arrays = setting.data.image_set
    images = torch.from_numpy(arrays.train_images).to(setting.device)
    labels = torch.from_numpy(arrays.train_labels).to(setting.device)
    return BatchLoader(
        images, labels, torch.arange(len(labels)), setting.batch_size, shuffle=True, drop_last=True
    )


def _difference(losses: torch.Tensor, native: torch.Tensor) -> dict[str, float]:
    relative = ((losses - native).abs() / native).tolist()
    return {"first": relative[0], "largest": max(relative), "last": relative[-1]}
