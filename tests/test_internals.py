"""What relies on undocumented parts of PyTorch and Lightning: each has a test that names it."""

import re
from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.demos.boring_classes import BoringModel
from torch import Tensor, nn
from torch.utils.tensorboard import SummaryWriter

import cifar_lab
from cifar_lab import internals

pytestmark = pytest.mark.filterwarnings("ignore:.*does not have many workers:UserWarning")

ROOT = Path(cifar_lab.__file__).parent
# Names of PyTorch or Lightning that their documentation does not list. "_" alone is a name of ours.
PRIVATE = re.compile(
    r"\b(torch|nn|F|pl|trainer|writer|optimizer|self\.trainer)(\.\w+)*\._[A-Za-z]\w*"
    r"|from (torch|pytorch_lightning)[\w.]* import \(?[\w, ]*\b_[A-Za-z]\w*"
    r"|\b(fit_loop|epoch_loop|epoch_progress|batch_progress|total_batch_idx|val_check_batch)\b"
    r"|\b_(current_fx_name|trainer|step_supports_amp_scaling|get_file_writer|call_\w+_hook)\b"
)


def test_undocumented_names_stand_in_one_file() -> None:
    for path in sorted(ROOT.rglob("*.py")):
        if path != Path(internals.__file__):
            code = re.sub(r'""".*?"""', "", path.read_text("utf-8"), flags=re.DOTALL)
            found = PRIVATE.search(code)
            assert found is None, f"{path}: {found[0]}"


def test_the_search_for_undocumented_names_finds_them() -> None:
    for line in (
        "torch._foreach_mul_(a, 2)",
        "from torch.nn.modules.batchnorm import _BatchNorm",
        "self.trainer.fit_loop.total_batch_idx",
        "writer._get_file_writer()",
        "model._trainer",
    ):
        assert PRIVATE.search(line), line


def _equal(found: Sequence[Tensor], expected: Sequence[Tensor], rtol: float = 0) -> None:
    torch.testing.assert_close(found, expected, rtol=rtol, atol=0)


def test_foreach_operations_do_to_each_tensor_what_the_single_ones_do() -> None:
    def pair() -> list[Tensor]:
        return [torch.arange(1.0, 4), torch.arange(4.0, 6)]

    _equal(internals.foreach_add(pair(), pair(), alpha=2), [3 * one for one in pair()])
    _equal(internals.foreach_add(pair(), 1.0), [one + 1 for one in pair()])
    first, second = pair(), pair()
    internals.foreach_add_(first, second)
    internals.foreach_mul_(first, 2.0)
    internals.foreach_mul_(first, [0.5, 0.25])
    internals.foreach_sub_(second, first)
    factors = zip(pair(), (1.0, 0.5), strict=True)
    _equal(second, [one - 2 * one * factor for one, factor in factors])
    norms = internals.foreach_norm(pair())
    _equal(norms, [one.norm() for one in pair()], rtol=1e-6)
    internals.foreach_reciprocal_(norms)
    _equal(norms, [1 / one.norm() for one in pair()], rtol=1e-6)


@pytest.mark.parametrize("capability", ["avx512_bf16", "amx_bf16", None])
def test_cpu_computes_in_bf16_with_avx512_bf16_or_amx(capability: str | None, monkeypatch) -> None:
    found = {"avx512_bf16": False, "amx_bf16": False, capability: True}
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: found, raising=False)
    assert internals.cpu_computes_in_bf16() == (capability is not None)


def test_cpu_computes_in_bf16_asks_a_torch_without_capabilities_another_way(monkeypatch) -> None:
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    for name, found in (("_is_avx512_bf16_supported", True), ("_is_amx_tile_supported", False)):
        monkeypatch.setattr(torch.cpu, name, lambda found=found: found, raising=False)
    assert internals.cpu_computes_in_bf16()


def test_unscales_gradients_is_true_of_fused_optimizers_alone() -> None:
    parameters = [nn.Parameter(torch.zeros(1))]
    assert internals.unscales_gradients(torch.optim.Adam(parameters, fused=True))
    assert not internals.unscales_gradients(torch.optim.Adam(parameters, fused=False))


def test_write_summaries_reaches_the_event_file(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.compat.proto.summary_pb2 import Summary

    writer = SummaryWriter(str(tmp_path))
    value = Summary.Value(tag="a", simple_value=2.0)
    internals.write_summaries(writer, Summary(value=[value]))
    writer.close()
    events = EventAccumulator(str(tmp_path))
    events.Reload()
    assert [event.value for event in events.Scalars("a")] == [2.0]


class _Counting(BoringModel):
    """A small model that notes the epoch of its last batch."""

    def __init__(self) -> None:
        super().__init__()
        self.epochs: list[int] = []

    def on_train_end(self) -> None:
        self.epochs.append(internals.epoch_of_last_batch(self.trainer))


def _train(model: _Counting, batches: int = 5, **options: Any) -> _Counting:
    off = "logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"
    options |= {"accelerator": "cpu", "check_val_every_n_epoch": None, "num_sanity_val_steps": 0}
    pl.Trainer(**options, **dict.fromkeys(off, False), limit_train_batches=batches).fit(model)
    return model


@pytest.mark.parametrize(("steps", "epoch"), [(4, 0), (5, 0), (6, 1), (10, 1)])
def test_epoch_of_last_batch_is_that_of_the_last_batch(steps: int, epoch: int) -> None:
    assert _train(_Counting(), max_steps=steps, val_check_interval=100).epochs == [epoch]


class _Resumable(list):
    """A loader with a state, which Lightning has not given to it."""

    state: Any = None

    def state_dict(self) -> dict[str, int]:
        return {}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.state = state


@pytest.mark.filterwarnings("ignore:.*does not have many workers:UserWarning")
def test_a_loader_gets_its_place_from_the_loop_and_its_state() -> None:
    loader, done = _Resumable(torch.ones(3, 2, 32)), []

    class Asking(_Counting):
        def train_dataloader(self) -> Any:
            return loader

        def on_train_start(self) -> None:
            loop = self.trainer.fit_loop
            loop._restarting, loop._combined_loader_states_to_load = True, [{"batches": 2}]
            internals.load_loader_states(self.trainer)
            loop._restarting = False

        def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
            asked = loader, object()
            done.append([internals.batches_done(self.trainer, each) for each in asked])

    _train(Asking(), batches=3, max_epochs=2)
    assert loader.state == {"batches": 2}
    assert done == [[0, 0], [1, 0], [2, 0]] * 2


def _saved(hook: str, **options: Any) -> list[dict[str, Any]]:
    """What Lightning saves at each call of a hook, in epochs of five batches."""
    saved: list[dict[str, Any]] = []

    class Saving(pl.Callback):
        pass

    def save(self: Any, trainer: pl.Trainer, *args: Any) -> None:
        saved.append(trainer._checkpoint_connector.dump_checkpoint())

    setattr(Saving, hook, save)
    _train(_Counting(), max_steps=8, val_check_interval=5, callbacks=[Saving()], **options)
    return saved


def _keys(state: Any) -> Any:
    return {name: _keys(inner) for name, inner in state.items()} if isinstance(state, dict) else 0


@pytest.mark.parametrize(
    ("hook", "call", "in_evaluation", "batches", "epochs"),
    [
        ("on_train_batch_start", 3, False, 3, [1, 0]),  # of the fourth batch
        ("on_train_batch_start", 5, False, 0, [2, 1]),  # of the first batch of an epoch
        ("on_train_epoch_start", 1, False, 0, [1, 1]),
        ("on_validation_batch_end", 0, True, 5, [1, 0]),
        ("on_validation_end", 0, False, 5, [1, 0]),
    ],
)
def test_settle_loops_says_which_batch_is_the_last_that_is_over(
    hook: str, call: int, in_evaluation: bool, batches: int, epochs: list[int]
) -> None:
    checkpoint = _saved(hook)[call]
    loops = checkpoint["loops"]["fit_loop"]
    keys, evaluation = _keys(loops), deepcopy(loops["epoch_loop.val_loop.batch_progress"])
    internals.settle_loops(checkpoint, batches_per_epoch=5, in_evaluation=in_evaluation)
    assert _keys(loops) == keys  # only what Lightning has is changed
    found = loops["epoch_loop.batch_progress"]
    assert set(found["current"].values()) == {batches}
    assert found["is_last_batch"] == (batches == 5)
    found = loops["epoch_progress"]["current"]
    assert [found["started"], found["completed"]] == epochs
    assert checkpoint["epoch"] == epochs[1] + (batches == 5)  # those that have no batch left
    waits = loops["epoch_loop.val_loop.batch_progress"] != evaluation
    assert waits == in_evaluation


def test_resume_epoch_lets_an_epoch_end_like_any_other() -> None:
    seen = []

    class Resumed(pl.Callback):
        def on_train_start(self, trainer: pl.Trainer, *args: Any) -> None:
            loop, progress = trainer.fit_loop, trainer.fit_loop.epoch_loop.batch_progress.current
            for done in (0, 2):
                pl.loops.loop._Loop.restarting.fset(loop, True)
                progress.completed = done
                internals.resume_epoch(trainer)
                seen.append((loop.restarting, loop.epoch_loop.restarting))
            progress.completed, loop.epoch_loop.restarting = 0, False

    _train(_Counting(), max_steps=1, val_check_interval=5, callbacks=[Resumed()])
    assert seen == [(False, False), (False, True)]
