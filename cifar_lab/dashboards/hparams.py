"""The page "HPARAMS": the settings of each run beside its accuracies, so that runs compare.

TensorBoard takes the list of columns from one run, whichever it finds first. So every run declares
the same list: all settings of all recipes. It shows the first five until others are ticked.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any, get_args, get_origin, get_type_hints

from tensorboard.plugins.hparams.plugin_data_pb2 import (  # type: ignore[import-untyped]
    HParamsPluginData,
)
from torch.utils.tensorboard.summary import hparams

from cifar_lab.recipes import recipes
from cifar_lab.settings import FitSettings

TEST, BEST, LAST = "hp/test_accuracy", "hp/best_accuracy", "hp/last_accuracy"
METRICS = dict.fromkeys((TEST, BEST, LAST), 0.0)
GROUPS = ("run", "hardware", "data", "trial")  # of settings; the others change no result
DATA = "data"  # where the images came from
SHOWN = ("model", "optimizer", "lr", "batch_size", "hidden_units")

Value = str | float


def summaries(settings: Mapping[str, Any]) -> tuple[Any, Any, Any]:
    """What TensorBoard is told: the columns, the settings of this run, and that it is done.

    Three protocol buffers of its ``Summary``, the last one for the end of the run.

    Args:
        settings: of the run and its model, by name, and ``"data"``; None is left out.
    """
    columns = _columns()
    values = {name: _plain(settings[name]) for name in columns if settings.get(name) is not None}
    declared, _, _ = hparams(columns, METRICS)
    _put_first(declared, SHOWN)
    _, start, end = hparams(values, METRICS)
    return declared, start, end


def final_metrics(accuracy: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """The accuracies of a finished run under their tags, as fractions.

    Args:
        accuracy: as in ``summary.json``: split to points. ``hp/best_accuracy`` and
            ``hp/last_accuracy`` are points of the curve of the evaluations; ``hp/test_accuracy`` is
            that of the best checkpoint or, where nothing was selected, of the last point.
    """
    test = accuracy["test"]
    curve = accuracy.get("val", test)
    tested = test.get("of_best_checkpoint", test.get("last", 0.0))
    return {TEST: tested, BEST: curve["best"], LAST: curve["last"]}


def _put_first(declared: Any, names: Sequence[str]) -> None:
    """Marks columns as those that differ between runs, which TensorBoard shows first."""
    plugin_data = declared.value[0].metadata.plugin_data
    content = HParamsPluginData.FromString(plugin_data.content)
    for column in content.experiment.hparam_infos:
        column.differs = column.name in names
    plugin_data.content = content.SerializeToString()


def _columns() -> dict[str, Value]:
    """Every setting, with a value that shows its type."""
    types = get_type_hints(FitSettings)
    names = [field.name for field in fields(FitSettings) if field.metadata["group"] in GROUPS]
    columns = {name: _example(types[name]) for name in names}
    for recipe in recipes().values():
        own = {name: value for name, value in recipe.settings.items() if name not in types}
        columns |= {name: _plain(value) for name, value in own.items()}
    return {**columns, DATA: ""}


def _example(kind: Any) -> Value:
    kinds = () if get_origin(kind) is list else get_args(kind) or (kind,)
    numbers = [k for k in kinds if isinstance(k, type) and issubclass(k, int | float)]
    return 0.0 if numbers and bool not in numbers else ""


def _plain(value: Any) -> Value:
    """A number as it is; true, false and lists as the command line writes them."""
    if isinstance(value, list | tuple):
        return ",".join(map(str, value)) or "none"
    if isinstance(value, bool):
        return str(value).lower()
    return value if isinstance(value, int | float | str) else str(value)
