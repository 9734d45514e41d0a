"""The page "HPARAMS": the settings of each run beside its accuracies, to compare runs.

TensorBoard takes the list of columns from whichever run it finds first. So every run declares the
same list: all settings of all recipes. TensorBoard shows those of ``SHOWN`` until others are
selected. One of them is a text, the settings that differ from the recipe.
"""

from collections.abc import Mapping
from typing import Any, get_args, get_origin

from tensorboard.plugins.hparams import plugin_data_pb2  # type: ignore[import-untyped]
from torch.utils.tensorboard.summary import hparams

from cifar_lab.files import as_utf8
from cifar_lab.plan import Plan
from cifar_lab.recipes import recipes
from cifar_lab.run.summary import accuracy_on_test
from cifar_lab.run_settings import RUN

TEST, BEST, LAST = "hp/test_accuracy", "hp/best_accuracy", "hp/last_accuracy"
METRICS = dict.fromkeys((TEST, BEST, LAST), 0.0)
GROUPS = ("run", "hardware", "data", "trial")  # of the run's settings; others change no result
CHANGES = "changes"  # column of the settings that differ from the recipe
SHOWN = ("recipe", "seed", "lr", "batch_size", CHANGES)  # with fewer, TensorBoard adds others


def start_summaries(plan: Plan, known: Mapping[str, Any]) -> tuple[Any, Any]:
    """Return the columns and the settings of a run, as protocol buffers (TensorBoard's Summary).

    Besides the settings, ``known`` holds ``"data"``, the source of the images, and what the data
    decide. Settings that are None are left out, and those of a user's own model that do not fit a
    column.
    """
    declared = [entry for entry in RUN.values() if entry.group in GROUPS]
    declared += [entry for recipe in recipes().values() for entry in recipe.own.values()]
    columns = {entry.name: _example(entry.type) for entry in declared}
    columns |= dict.fromkeys(("data", "seed", CHANGES), "")  # numbers would have four decimals
    settings = {**plan.as_config(), **known, CHANGES: _changes(plan)}
    settings["seed"] = str(plan.settings.seed)
    values = {name: _plain(settings[name]) for name in columns if settings.get(name) is not None}
    fitting = {n: v for n, v in values.items() if isinstance(v, str) == isinstance(columns[n], str)}
    experiment, _, _ = hparams(columns, METRICS)
    _put_first(experiment, SHOWN)
    _, start, _ = hparams(fitting, METRICS)
    return experiment, start


def _changes(plan: Plan) -> str:
    """Return the settings that differ from the recipe and decide the numbers of a run."""
    hidden = {"seed", *(name for name, entry in RUN.items() if not entry.decisive)}
    found = {n: v for n, v in plan.changes().items() if n not in hidden and v is not None}
    return " ".join(f"{name}={_plain(value)}" for name, value in found.items()) or "none"


def end_summary() -> Any:
    """Return what tells TensorBoard that a run is finished."""
    return hparams({}, METRICS)[2]


def final_metrics(accuracy: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """Return the accuracies of a finished run by tag, from ``accuracy`` of ``summary.json``.

    ``hp/best_accuracy`` and ``hp/last_accuracy`` are points of the curve of the evaluations; for
    ``hp/test_accuracy`` see :func:`accuracy_on_test`.
    """
    curve = accuracy["val"] if "val" in accuracy else accuracy["test"]
    found = {TEST: accuracy_on_test(accuracy), BEST: curve["best"], LAST: curve["last"]}
    return {tag: value for tag, value in found.items() if value is not None}


def _example(kind: Any) -> float | str:
    """Return 0.0 for the type of a number and "" for any other."""
    kinds = () if get_origin(kind) is list else get_args(kind) or (kind,)
    numbers = [k for k in kinds if isinstance(k, type) and issubclass(k, int | float)]
    return 0.0 if numbers and bool not in numbers else ""


def _plain(value: Any) -> float | str:
    """Return a number as it is, and all else as it is written on the command line."""
    if isinstance(value, list | tuple):
        return ",".join(map(str, value)) or "none"
    if isinstance(value, bool):
        return str(value).lower()
    return value if isinstance(value, int | float) else as_utf8(str(value))


def _put_first(experiment: Any, names: tuple[str, ...]) -> None:
    """Mark columns as those that differ between runs, which TensorBoard shows first."""
    plugin_data = experiment.value[0].metadata.plugin_data
    content = plugin_data_pb2.HParamsPluginData.FromString(plugin_data.content)
    for column in content.experiment.hparam_infos:
        column.differs = column.name in names
    plugin_data.content = content.SerializeToString()
