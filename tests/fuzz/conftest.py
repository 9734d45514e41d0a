"""How much is tried: 100 cases a test, the same each time; with ``-m fuzz`` 2,000 new ones.

The tests take these settings by name, ``settings.get_profile("fuzz")``, so that those of other
folders keep their own. Beside what a test asserts, no case may take longer than ``SECONDS`` or fill
memory.
"""

import datetime
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

CASES, LONG_CASES = 100, 2000
SECONDS = 20  # a case takes milliseconds; the machine may be busy
MEGABYTES = 500


def pytest_configure(config: pytest.Config) -> None:
    is_long = config.getoption("markexpr") == "fuzz"
    settings.register_profile(
        "fuzz",
        max_examples=LONG_CASES if is_long else CASES,
        derandomize=not is_long,
        deadline=datetime.timedelta(seconds=SECONDS),
        database=None,
        print_blob=True,
        # The cases of a test share its folder; each writes its own file there.
        suppress_health_check=list(HealthCheck),
    )


@pytest.fixture(autouse=True)
def _no_memory_is_filled() -> Iterator[None]:
    try:
        before = _peak_megabytes(anew=True)
    except OSError:  # a sandbox that hides this part of /proc
        yield
        return
    yield
    assert _peak_megabytes() - before < MEGABYTES


def _peak_megabytes(anew: bool = False) -> float:
    """The largest resident memory of this process so far, or since it was asked for anew."""
    if sys.platform != "linux":
        return 0
    if anew:  # else what other tests needed would hide what one of these does
        Path("/proc/self/clear_refs").write_text("5")
    status = Path("/proc/self/status").read_text()
    (line,) = (line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) / 1024


@st.composite
def _mutated(draw: st.DrawFn, content: bytes) -> bytes:
    """Up to four changes: bits, bytes, ends, pieces left out, doubled or moved."""
    for _ in range(draw(st.integers(1, 4))):
        start, end = sorted((draw(_places(len(content))), draw(_places(len(content)))))
        piece = content[start:end]
        inserted = draw(st.binary(max_size=9) | st.sampled_from([b"\xff" * 4, b"\0" * 8]))
        changed = [
            _flip(content, start, draw(st.integers(0, 7))),
            content[:start],  # truncated
            content[start:],
            content[:start] + inserted + content[start:],
            content[:start] + inserted + content[start + len(inserted) :],
            content[:start] + content[end:],
            content[:end] + piece + content[end:],
            content[end:] + piece + content[:start],
        ]
        content = draw(st.sampled_from(changed))
    return content


def _places(length: int) -> st.SearchStrategy[int]:
    """Anywhere, and often near the ends, where formats keep what they say of themselves."""
    near = min(length, 600)
    return st.integers(0, length) | st.integers(0, near) | st.integers(length - near, length)


def _flip(content: bytes, place: int, bit: int) -> bytes:
    changed = bytearray(content)
    if place < len(changed):
        changed[place] ^= 1 << bit
    return bytes(changed)


@pytest.fixture(scope="session")
def mutated() -> Callable[[bytes], st.SearchStrategy[bytes]]:
    """The strategy of damaged forms of a content."""
    return _mutated
