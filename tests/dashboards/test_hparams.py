"""HPARAMS: the same columns in every run, and the accuracies of both protocols."""

import pytest
from tensorboard.plugins.hparams.metadata import (
    EXPERIMENT_TAG,
    SESSION_START_INFO_TAG,
    parse_experiment_plugin_data,
    parse_session_start_info_plugin_data,
)

from cifar_lab.dashboards import hparams
from cifar_lab.dashboards.hparams import METRICS, SHOWN, final_metrics, summaries
from cifar_lab.parsing import parse_fit
from cifar_lab.recipes import recipes


def _content(summary, tag: str) -> bytes:
    (value,) = summary.value
    assert value.tag == tag
    return value.metadata.plugin_data.content


def _columns(flags: list[str]):
    declared, _, _ = summaries(parse_fit(flags).as_config())
    return parse_experiment_plugin_data(_content(declared, EXPERIMENT_TAG))


def test_every_run_declares_the_same_columns_and_metrics() -> None:
    first, second = _columns(["--model", "cnn"]), _columns(["--model", "deep_mlp", "--lr", "1"])
    assert first == second
    names = {info.name for info in first.hparam_infos}
    assert {"lr", "batch_size", "hidden_units", "dropout", "seed", "data"} <= names
    assert not {"log_dir", "progress"} & names
    assert {info.name for info in first.hparam_infos if info.differs} == set(SHOWN)
    assert [info.name.tag for info in first.metric_infos] == list(METRICS)


@pytest.mark.parametrize("name", recipes())
def test_values_have_the_type_of_their_column(name: str) -> None:
    declared, start, _ = summaries(parse_fit(["--recipe", name]).as_config())
    kinds = parse_experiment_plugin_data(_content(declared, EXPERIMENT_TAG)).hparam_infos
    info = parse_session_start_info_plugin_data(_content(start, SESSION_START_INFO_TAG))
    types = {3: "number_value", 1: "string_value"}
    expected = {kind.name: types[kind.type] for kind in kinds}
    assert info.hparams
    for key, value in info.hparams.items():
        assert value.WhichOneof("kind") == expected[key], key


def test_lists_and_switches_are_written_as_the_command_line_writes_them() -> None:
    flags = ["--model", "mlp", "--hidden_units", "200,100", "--deterministic"]
    _, start, _ = summaries(parse_fit(flags).as_config())
    values = parse_session_start_info_plugin_data(_content(start, SESSION_START_INFO_TAG)).hparams
    assert values["hidden_units"].string_value == "200,100"
    assert values["augment"].string_value == "none"
    assert values["deterministic"].string_value == "true"
    assert "max_epochs" not in values  # None


def test_final_accuracies_of_both_protocols() -> None:
    val = {"best": 0.6, "best_step": 10, "last": 0.5, "last_step": 20}
    tested = {"of_best_checkpoint": 0.55, "of_best_checkpoint_step": 10}
    assert list(final_metrics({"val": val, "test": tested}).values()) == [0.55, 0.6, 0.5]
    assert list(final_metrics({"test": val}).values()) == [0.5, 0.6, 0.5]


def test_a_shortened_run_is_told_from_a_whole_one() -> None:
    assert {
        "limit_train_batches",
        "limit_val_batches",
        "overfit_batches",
    } <= hparams._columns().keys()
