"""A line that a notebook redraws in place, such as a progress bar; ipywidgets is not needed.

A notebook would also redraw a line after a carriage return, but it would store each of its states.
"""

import sys


def in_notebook() -> bool:
    """Return whether the output of this process goes to a Jupyter notebook."""
    return type(sys.stdout).__module__.startswith("ipykernel.")


class NotebookLine:
    """A text file that shows only what was written to it last; tqdm takes it as ``file``."""

    encoding = "utf-8"  # tqdm draws with full blocks

    def __init__(self) -> None:
        from IPython.display import display

        self._shown = display({"text/plain": ""}, raw=True, display_id=True)

    def write(self, text: str) -> None:
        """Show a line in the place of the one before; tqdm begins each state with a return."""
        if text.startswith("\r"):
            self._shown.update({"text/plain": text.strip()}, raw=True)

    def flush(self) -> None:
        """Do nothing: a line is shown when it is written."""
