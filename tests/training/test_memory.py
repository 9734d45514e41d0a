"""Memory that is freed and asked for again comes without page faults while it is kept."""

from __future__ import annotations

import ctypes
import platform
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from cifar_lab.parsing import parse_fit
from cifar_lab.training import fit
from cifar_lab.training.memory import kept_memory

only_glibc = pytest.mark.skipif(
    platform.libc_ver()[0] != "glibc", reason="only glibc's malloc is told to keep memory"
)
BLOCK = 64 << 20  # bytes
PAGES = BLOCK // resource.getpagesize()


def _faults(times: int) -> int:
    """Page faults of filling a large block and freeing it, so many times."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(times):
        torch.empty(BLOCK, dtype=torch.uint8).fill_(1)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


@only_glibc
def test_a_block_that_is_asked_for_again_is_not_mapped_again() -> None:
    with kept_memory():
        _faults(10)
        assert _faults(10) < PAGES


@only_glibc
def test_afterwards_memory_goes_back_to_the_kernel() -> None:
    with kept_memory():
        _faults(10)
    assert _faults(1) > 0.9 * PAGES


def test_another_c_library_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    monkeypatch.delattr(ctypes, "CDLL")
    with kept_memory():
        pass


def test_a_run_keeps_memory_while_it_trains(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    events = []

    @contextmanager
    def watched() -> Iterator[None]:
        events.append("kept")
        yield
        events.append("freed")

    train = fit.Trainer.fit
    monkeypatch.setattr(fit, "kept_memory", watched)
    monkeypatch.setattr(
        fit.Trainer, "fit", lambda *args, **kw: (events.append("fit"), train(*args, **kw))
    )
    words = ["--model", "mlp", "--hidden_units", "4", "--max_steps", "2", "--batch_size", "20"]
    fit.run_fit(parse_fit([*words, "--data_dir", str(tree), "--dashboard", "off"]))
    assert events == ["kept", "fit", "freed"]
