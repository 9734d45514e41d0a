"""Several callbacks behind one.

Lightning calls every hook of every callback in every step, six hooks each, most of them empty: for
ten callbacks that takes 0.17 ms of each step, for one 0.04 (AMD EPYC). Here a hook is called for
those that have it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from pytorch_lightning import Callback

HOOKS = [name for name in vars(Callback) if name.startswith("on_") or name == "setup"]


class Together(Callback):
    """Calls the hooks of callbacks in their order, and saves their states under their own keys.

    Args:
        callbacks: with different state keys.
    """

    def __init__(self, callbacks: Sequence[Callback]) -> None:
        self.callbacks = list(callbacks)
        for name in [*HOOKS, "teardown"]:
            having = [one for one in self.callbacks if _overrides(one, name)]
            if having:
                setattr(self, name, _all([getattr(one, name) for one in having]))

    def state_dict(self) -> dict[str, Any]:
        """The states of those that have one."""
        states = {one.state_key: one.state_dict() for one in self.callbacks}
        return {key: state for key, state in states.items() if state}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Gives each its state."""
        for one in self.callbacks:
            if one.state_key in state_dict:
                one.load_state_dict(state_dict[one.state_key])


def _overrides(callback: Callback, name: str) -> bool:
    return getattr(type(callback), name) is not getattr(Callback, name)


def _all(functions: Sequence[Callable[..., None]]) -> Callable[..., None]:
    """One function that calls all; itself where there is one."""
    if len(functions) == 1:
        return functions[0]

    def call(*args: Any, **kwargs: Any) -> None:
        for function in functions:
            function(*args, **kwargs)

    return call
