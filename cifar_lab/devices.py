"""Which device ``--accelerator`` means on this machine."""

from __future__ import annotations

import torch

from cifar_lab.errors import UserError


def device_kind(accelerator: str) -> str:
    """The kind of device, "cpu", "cuda" or "mps", that ``--accelerator`` means here.

    Raises:
        UserError: it asks for a device that is not there.
    """
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    wanted = {"gpu": "cuda", "mps": "mps"}.get(accelerator)
    if wanted == "cuda" and there["mps"]:
        wanted = "mps"
    if wanted and not there[wanted]:
        raise UserError(
            f"--accelerator {accelerator}: torch {torch.__version__} finds no such device here. "
            "Leave the flag out to use what there is."
        )
    if accelerator == "auto":
        return next((kind for kind, found in there.items() if found), "cpu")
    return wanted or "cpu"
