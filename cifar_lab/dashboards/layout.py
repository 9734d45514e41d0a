"""The page "Custom scalars": curves that belong together, on one chart.

A tag here is a regular expression, matched from its start, over all runs that are shown: which run
is which figure of the report is chosen in the list of runs. So one layout serves all runs, and
TensorBoard shows it once.
"""

from __future__ import annotations

Layout = dict[str, dict[str, tuple[str, list[str]]]]

# Without a validation split the curve of the evaluations is that of the test set.
_EVALUATED = "acc/(test|val)$"

LAYOUT: Layout = {
    "Report figures": {
        "Accuracy (figures 1, 3, 5, 7)": ("Multiline", [_EVALUATED]),
        "Training loss (figures 2, 4, 6, 8)": ("Multiline", ["loss/train$"]),
    },
    "Training against evaluation": {
        "Accuracy": ("Multiline", ["acc/train$", "acc/val$", "acc/test$"]),
        "Loss": ("Multiline", ["loss/train$", "loss/val$", "loss/test$"]),
    },
}
