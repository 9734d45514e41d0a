"""Several callbacks behind one: order, states, and nothing called that is not there."""

from typing import Any

from pytorch_lightning import Callback

from cifar_lab.training.together import HOOKS, Together


class _Noting(Callback):
    def __init__(self, name: str, notes: list[str]) -> None:
        self.name, self.notes, self.state = name, notes, f"state of {name}"

    @property
    def state_key(self) -> str:
        return self.name

    def on_train_batch_end(self, *args: Any, **kwargs: Any) -> None:
        self.notes.append(self.name)

    def state_dict(self) -> dict[str, Any]:
        return {"it": self.state}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.state = state_dict["it"]


class _Setting(Callback):
    def __init__(self, notes: list[str]) -> None:
        self.notes = notes

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        self.notes.append(f"setup {stage}")


def test_hooks_are_called_in_order_and_only_where_there_is_one() -> None:
    notes: list[str] = []
    both = Together([_Noting("a", notes), _Setting(notes), _Noting("b", notes)])
    both.on_train_batch_end(None, None, None, None, 0)
    both.setup(None, None, stage="fit")
    both.on_train_start(None, None)
    assert notes == ["a", "b", "setup fit"]
    assert not {"on_before_backward", "on_train_start"} & set(vars(both))


def test_every_hook_of_lightning_is_passed_on() -> None:
    assert {"on_exception", "on_save_checkpoint", "on_test_batch_end", "setup"} <= set(HOOKS)
    known = {name for name in dir(Callback) if not name.startswith("_")}
    assert known == {*HOOKS, "teardown", "state_dict", "load_state_dict", "state_key"}


def test_states_are_kept_apart_and_given_back() -> None:
    saved = Together([_Noting("a", []), _Setting([]), _Noting("b", [])]).state_dict()
    assert saved == {"a": {"it": "state of a"}, "b": {"it": "state of b"}}
    first, second = _Noting("b", []), _Noting("c", [])
    Together([first, second]).load_state_dict({"b": {"it": "old"}, "gone": {}})
    assert (first.state, second.state) == ("old", "state of c")
