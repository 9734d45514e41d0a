"""How much time the pictures may take, so that they never are what a run waits for."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

SHARE = 0.02  # of the time since training began
FIRST_GUESS = 2.0  # seconds of a drawing, before the first one was measured; matplotlib loads too


class Budget:
    """Counts the time that was spent, and says whether there is some for another drawing.

    Attributes:
        seconds: spent so far.
    """

    def __init__(self) -> None:
        self.seconds = 0.0
        self._dearest = 0.0
        self._began = time.perf_counter()

    def begin(self) -> None:
        """Starts the time of which a share may be spent."""
        self._began = time.perf_counter()

    def allows_drawing(self) -> bool:
        """Whether one more drawing would stay within the share."""
        elapsed = time.perf_counter() - self._began
        return self.seconds + (self._dearest or FIRST_GUESS) <= SHARE * elapsed

    @contextmanager
    def spending(self, drawing: bool = False) -> Iterator[None]:
        """Counts the time of a block; of a drawing also as what the next may take."""
        start = time.perf_counter()
        try:
            yield
        finally:
            taken = time.perf_counter() - start
            self.seconds += taken
            if drawing:
                self._dearest = max(self._dearest, taken)
