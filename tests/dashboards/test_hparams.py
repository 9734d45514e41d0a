"""HPARAMS: the same columns in every run, and the accuracies of both protocols."""

from dataclasses import replace
from typing import Any

import pytest
from tensorboard.plugins.hparams.metadata import (
    EXPERIMENT_TAG,
    SESSION_START_INFO_TAG,
    parse_experiment_plugin_data,
    parse_session_start_info_plugin_data,
)

from cifar_lab.dashboards.hparams import METRICS, SHOWN, final_metrics, start_summaries
from cifar_lab.plan import Plan
from cifar_lab.recipes import recipes


def _declared_and_values(plan: Plan, **known: Any) -> tuple[Any, Any]:
    """Return the columns and the values of a run as TensorBoard reads them."""
    parts = [part for summary in start_summaries(plan, known) for part in summary.value]
    assert [part.tag for part in parts] == [EXPERIMENT_TAG, SESSION_START_INFO_TAG]
    declared, values = (part.metadata.plugin_data.content for part in parts)
    started = parse_session_start_info_plugin_data(values)
    return parse_experiment_plugin_data(declared), started.hparams


def test_every_run_declares_the_same_columns_and_metrics() -> None:
    first, _ = _declared_and_values(Plan.of("cnn"))
    second, _ = _declared_and_values(Plan.of("deep_mlp", lr=1.0))
    assert first == second
    names = {info.name for info in first.hparam_infos}
    assert {"lr", "batch_size", "hidden_units", "dropout", "seed", "data"} <= names
    # Those tell a shortened run from a whole one.
    assert {"limit_train_batches", "limit_val_batches", "overfit_batches"} <= names
    assert not {"log_dir", "progress"} & names
    shown = {info.name for info in first.hparam_infos if info.differs}
    assert shown == set(SHOWN) >= {"seed", "changes"}
    assert [info.name.tag for info in first.metric_infos] == list(METRICS)


@pytest.mark.parametrize("name", recipes())
def test_values_have_the_type_of_their_column(name: str) -> None:
    declared, values = _declared_and_values(Plan.of(recipe=name))
    types = {3: "number_value", 1: "string_value"}
    expected = {info.name: types[info.type] for info in declared.hparam_infos}
    found = {name: value.WhichOneof("kind") for name, value in values.items()}
    assert found.items() <= expected.items()
    assert found


def test_a_setting_of_an_own_model_that_does_not_fit_its_column_is_left_out() -> None:
    settings = {"hidden_units": 5, "lr": "fast", "dropout": 0.5, "mine": 1}
    plan = Plan.of("mlp")
    plan = replace(plan, model_settings=settings)
    _, values = _declared_and_values(plan)
    assert "dropout" in values
    assert not {"hidden_units", "lr", "mine"} & set(values)


def test_lists_and_switches_are_written_as_the_command_line_writes_them() -> None:
    plan = Plan.of("mlp", hidden_units=[200, 100], deterministic=True)
    _, values = _declared_and_values(plan)
    assert values["hidden_units"].string_value == "200,100"
    assert values["augment"].string_value == "none"
    assert values["deterministic"].string_value == "true"
    assert "max_epochs" not in values  # None


def test_the_settings_that_differ_from_the_recipe_are_one_text() -> None:
    changed = {"lr": 0.01, "hidden_units": [200, 100], "val_size": 0}
    _, values = _declared_and_values(Plan.of("mlp", seed=3, log_dir="logs", threads=1, **changed))
    assert values["changes"].string_value == "val_size=0 lr=0.01 hidden_units=200,100"
    assert values["seed"].string_value == "3"
    _, values = _declared_and_values(Plan.of("mlp"), val_size=5000)
    assert (values["changes"].string_value, values["val_size"].number_value) == ("none", 5000)


def test_final_accuracies_of_both_protocols() -> None:
    val = {"best": 0.6, "best_step": 10, "last": 0.5, "last_step": 20}
    tested = {"of_best_checkpoint": 0.55, "of_best_checkpoint_step": 10}
    assert list(final_metrics({"val": val, "test": tested}).values()) == [0.55, 0.6, 0.5]
    assert list(final_metrics({"test": val}).values()) == [0.5, 0.6, 0.5]
