"""Memory that is freed and asked for again comes without page faults while it is kept."""

from __future__ import annotations

import ctypes
import json
import platform
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cifar_lab.plan import Plan
from cifar_lab.training import fit, job
from cifar_lab.training.memory import kept_memory

# Page faults of filling a large block and freeing it, while memory is kept and afterwards. In a
# process of its own: where others left large gaps in the heap, a block may lie in one of them.
FAULTS = """
import json, resource
import torch
from cifar_lab.training.memory import kept_memory

BLOCK = 64 << 20  # bytes

def faults(times):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(times):
        torch.empty(BLOCK, dtype=torch.uint8).fill_(1)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

with kept_memory():
    faults(10)
    kept = faults(10)
print(json.dumps({"pages": BLOCK // resource.getpagesize(), "kept": kept, "after": faults(1)}))
"""


def _has_huge_pages() -> bool:
    """Whether the kernel gives them to everybody."""
    path = Path("/sys/kernel/mm/transparent_hugepage/enabled")
    return path.exists() and "[always]" in path.read_text()


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc's malloc is told")
def test_a_block_is_not_mapped_again_while_memory_is_kept_and_goes_back_afterwards() -> None:
    words = [sys.executable, "-c", FAULTS]
    told = subprocess.run(words, check=True, capture_output=True, text=True).stdout
    faults = json.loads(told)
    assert faults["kept"] < faults["pages"]
    if not _has_huge_pages():  # with which a fault brings 2 MB
        assert faults["after"] > 0.9 * faults["pages"]


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
    monkeypatch.setattr(job, "kept_memory", watched)
    monkeypatch.setattr(
        fit.Trainer, "fit", lambda *args, **kw: (events.append("fit"), train(*args, **kw))
    )
    settings = {"hidden_units": [4], "max_steps": 2, "batch_size": 20, "dashboard": "off"}
    fit.train(Plan.of("mlp", data_dir=tree, **settings), command="test")
    assert events == ["kept", "fit", "freed"]
