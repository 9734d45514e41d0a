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
    """A small model that notes what the functions say at each batch."""

    def __init__(self) -> None:
        super().__init__()
        self.follows: list[bool] = []
        self.evaluated: list[int] = []
        self.epochs: list[int] = []

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.follows.append(internals.evaluation_follows(self.trainer))

    def on_validation_start(self) -> None:
        self.evaluated.append(self.global_step)

    def on_train_end(self) -> None:
        self.epochs.append(internals.epoch_of_last_batch(self.trainer))


def _train(model: _Counting, batches: int = 5, **options: Any) -> _Counting:
    off = "logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"
    options |= {"accelerator": "cpu", "check_val_every_n_epoch": None, "num_sanity_val_steps": 0}
    pl.Trainer(**options, **dict.fromkeys(off, False), limit_train_batches=batches).fit(model)
    return model


def test_evaluation_follows_says_what_lightning_does() -> None:
    model = _train(_Counting(), max_steps=10, val_check_interval=3)
    followed = [step for step, follows in enumerate(model.follows, 1) if follows]
    assert followed == model.evaluated == [3, 6, 9]


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


def _saved(steps: int) -> dict[str, Any]:
    """What Lightning saves after a step of an epoch of five."""
    saved: list[dict[str, Any]] = []

    class Saving(_Counting):
        def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
            saved.append(self.trainer._checkpoint_connector.dump_checkpoint())

    _train(Saving(), max_steps=steps, limit_val_batches=0, val_check_interval=100)
    return saved[-1]


def _keys(state: Any) -> Any:
    return {name: _keys(inner) for name, inner in state.items()} if isinstance(state, dict) else 0


def test_settle_loops_ends_a_finished_epoch_and_asks_for_a_due_evaluation() -> None:
    checkpoint = _saved(steps=5)
    loops = checkpoint["loops"]["fit_loop"]
    keys = _keys(loops)
    internals.settle_loops(checkpoint, batches_per_epoch=5, evaluation_is_due=True)
    assert _keys(loops) == keys  # only what Lightning has is changed
    assert checkpoint["epoch"] == 1
    assert loops["epoch_loop.batch_progress"]["current"]["ready"] == 0
    assert loops["epoch_progress"]["current"]["completed"] == 1
    assert loops["epoch_loop.val_loop.batch_progress"]["current"]["started"] == 1


def test_settle_loops_leaves_an_epoch_that_is_not_over() -> None:
    checkpoint = _saved(steps=4)
    loops = checkpoint["loops"]["fit_loop"]
    evaluation = deepcopy(loops["epoch_loop.val_loop.batch_progress"])
    internals.settle_loops(checkpoint, batches_per_epoch=5, evaluation_is_due=False)
    assert checkpoint["epoch"] == 0
    assert loops["epoch_loop.batch_progress"]["current"]["completed"] == 4
    assert loops["epoch_loop.val_loop.batch_progress"] == evaluation
