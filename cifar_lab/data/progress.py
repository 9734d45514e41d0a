"""How a download goes, told to a person: one moving line on a terminal, or a line now and then."""

import sys
import time
from collections.abc import Callable
from types import TracebackType

LINE_SECONDS = 10.0  # between two lines in a log file
REDRAW_SECONDS = 0.2  # between two states of the moving line
LINE_WIDTH = 70  # the moving line is padded, so that a shorter one covers a longer one

Report = Callable[[str], None]  # takes one line


def print_line(text: str) -> None:
    """Print a line to stderr, where it stays out of a command's output."""
    print(text, file=sys.stderr, flush=True)


class Progress:
    """Reports the bytes of one file, from entering the ``with`` block to leaving it.

    Args:
        name: The file's name.
        source: Where it comes from; named in the first line when stderr is not a terminal.
        start: Bytes that were there before; they do not count for the rate.
        total: Bytes of the whole file.
        report: Takes the lines when stderr is not a terminal.
    """

    def __init__(self, name: str, source: str, start: int, total: int, report: Report) -> None:
        self.name, self.source, self.report = name, source, report
        self.start, self.size, self.total = start, start, total
        self.is_terminal = sys.stderr is not None and sys.stderr.isatty()
        self.began = self.told = time.monotonic()

    def __enter__(self) -> "Progress":
        if not self.is_terminal:
            resumed = f", resumed at {self.start / 1e6:.1f} MB" if self.start else ""
            self.report(f"Downloading {self.source} ({self.total / 1e6:.1f} MB{resumed})")
        return self

    def add(self, count: int) -> None:
        """Count bytes that came, and tell where enough time has passed."""
        self.size += count
        now = time.monotonic()
        if now - self.told >= (REDRAW_SECONDS if self.is_terminal else LINE_SECONDS):
            self.told = now
            self._tell()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._tell()
        if self.is_terminal:
            sys.stderr.write("\n")

    def _tell(self) -> None:
        if self.is_terminal:
            sys.stderr.write(f"\r{self.line():<{LINE_WIDTH}}")
            sys.stderr.flush()
        else:
            self.report(self.line())

    def line(self) -> str:
        """The state in one line: ``NAME  42.1 of 170.5 MB  12.3 MB/s  0:10 left``."""
        rate = (self.size - self.start) / max(time.monotonic() - self.began, 1e-3)
        speed = f"{rate / 1e6:.1f} MB/s" if rate >= 1e6 else f"{rate / 1e3:.0f} kB/s"
        minutes, seconds = divmod(round((self.total - self.size) / max(rate, 1.0)), 60)
        left = f"{minutes}:{seconds:02d} left" if rate else "-:-- left"
        return f"{self.name}  {self.size / 1e6:.1f} of {self.total / 1e6:.1f} MB  {speed}  {left}"
