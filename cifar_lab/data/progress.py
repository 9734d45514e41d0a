"""Progress of a download: a bar in a terminal, or a line every ten seconds in a log file."""

import contextlib
import sys
from collections.abc import Callable, Iterator
from typing import Any

from tqdm import tqdm

LINE_SECONDS = 10.0  # between two lines in a log file
LINE = "{desc}  {n_fmt}B of {total_fmt}B  {rate_fmt}  {remaining} left"

Report = Callable[[str], None]  # takes one line


def print_line(text: str) -> None:
    """Print a line to stderr, separate from a command's output."""
    print(text, file=sys.stderr, flush=True)


class _Lines:
    """A file for tqdm that reports each state of the bar as a line."""

    def __init__(self, report: Report) -> None:
        self.report = report

    def write(self, text: str) -> None:
        if line := text.strip():
            self.report(line)

    def flush(self) -> None:
        pass


@contextlib.contextmanager
def progress(name: str, url: str, start: int, total: int, report: Report) -> Iterator[tqdm]:
    """Yield a tqdm bar that counts bytes from ``start``; earlier bytes do not affect its rate.

    If stderr is not a terminal, ``report`` is called with lines instead; the first names the URL.
    """
    options: dict[str, Any] = {"dynamic_ncols": True}
    if sys.stderr is None or not sys.stderr.isatty():
        resumed = f", resumed at {start / 1e6:.1f} MB" if start else ""
        report(f"Downloading {url} ({total / 1e6:.1f} MB{resumed})")
        options = {"file": _Lines(report), "bar_format": LINE, "mininterval": LINE_SECONDS}
        # No line at the start, no minimum number of bytes between lines, and the average rate.
        options |= {"delay": 1e-9, "miniters": 1, "smoothing": 0}
    with tqdm(desc=name, initial=start, total=total, unit="B", unit_scale=True, **options) as bar:
        yield bar
