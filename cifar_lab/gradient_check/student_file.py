"""The check of a student's file, which is code and is run, in a process of its own.

A process writes a line of JSON for each class that it has checked. One that takes too long, or ends
early, is replaced by another that goes on with the next class.
"""

import faulthandler
import importlib.util
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn

from cifar_lab.errors import UserError
from cifar_lab.gradient_check.student_check import WRONG, Failure, Row, attempt, check_class
from cifar_lab.gradient_check.student_layers import KINDS
from cifar_lab.gradient_check.student_mlp import check_mlp
from cifar_lab.settings import unknown

SECONDS = 20.0
"""What the check of one class may take, and what running the file may take."""

LAYERS = {**{name: kind.layer for name, kind in KINDS.items()}, "MLP": "mlp"}
"""The layer of each class that is checked. An MLP in PyTorch has nothing by hand, and is not."""

ROOT = Path(__file__).parents[2]
# Not -m, which would let files of the current folder stand in for modules of Python.
PROGRAM = (
    f"import sys; sys.path[0] = {str(ROOT)!r}; "
    "from cifar_lab.gradient_check.student_file import work; work(*sys.argv[1:])"
)


def check_file(
    path: Path, layer: str | None = None, seconds: float = SECONDS
) -> dict[str, list[Row]]:
    """Check the classes of the course in a file.

    Args:
        path: Python file.
        layer: name of a layer, such as "linear", or of a class; None for all.
        seconds: what one class may take.

    Returns:
        The rows of each class, by its name, in the order of the file. A class whose check did not
        come to its end has one row, which says why.

    Raises:
        UserError: the file cannot be read or run, or has no class that was asked for.
    """
    path = path.absolute()
    known = dict.fromkeys([*LAYERS.values(), *LAYERS])
    if layer is not None and layer not in known:
        raise UserError(unknown("--layer", layer, known))
    if not path.is_file():
        raise UserError(f"--file {path}: no such file")
    found: dict[str, list[Row]] = {}
    with tempfile.TemporaryDirectory() as folder:
        results, trace = Path(folder) / "results", Path(folder) / "trace"
        while True:
            status = _start(path, results, trace, seconds, [layer or "", *found])
            lines = [json.loads(line) for line in results.read_text("utf-8").splitlines()]
            text = trace.read_text("utf-8", "replace")
            if not lines or "error" in lines[0]:
                told = lines[0]["error"] if lines else _ended(status, text, path, seconds)
                raise UserError(f"--file {path}: {told}")
            wanted = _wanted(lines[0]["classes"], layer)
            if not wanted:
                raise UserError(_without_classes(path, lines[0]["classes"], layer))
            for line in lines[1:]:
                found |= {name: [Row(**row) for row in rows] for name, rows in line.items()}
            left = [name for name in wanted if name not in found]
            if not left:
                return found
            found[left[0]] = [Row("–", WRONG, notes=[_ended(status, text, path, seconds)])]


def _start(path: Path, results: Path, trace: Path, seconds: float, more: Sequence[str]) -> int:
    """Run a process that checks the classes of a layer which are not done yet; return its status.

    ``more`` is the layer, or "" for all, and the classes that are done.
    """
    results.write_text("")
    words = [sys.executable, "-c", PROGRAM, str(path), str(results), str(seconds), *more]
    with trace.open("wb") as stream:
        return subprocess.run(
            words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=stream
        ).returncode


def _ended(status: int, trace: str, path: Path, seconds: float) -> str:
    """Return why a process ended early, and in which line of the student's file."""
    name = re.escape(ascii(path.name)[1:-1])
    place = re.search(rf'File ".*{name}", line (\d+) in (.+)', trace)
    where = f", at {path.name}:{place[1]} in {place[2]}" if place else ""
    if "Timeout" in trace:
        return f"not done after {seconds:g} seconds{where}."
    said = f" ({trace.strip().splitlines()[-1]})" if "Traceback" in trace else ""
    return f"the program ended with exit status {status}{where}{said}."


def _wanted(classes: list[str], layer: str | None) -> list[str]:
    """Return those of the classes in a file that are asked for."""
    return [name for name in classes if not layer or layer in (name, LAYERS[name])]


def _without_classes(path: Path, classes: list[str], layer: str | None) -> str:
    """Return what to say of a file that has no class that is asked for."""
    if not classes:
        return f"--file {path}: no class of the course (known: {', '.join(LAYERS)})"
    return f"--layer {layer}: not in {path.name}, which has {', '.join(classes)}"


def work(path: str, results: str, seconds: str, layer: str, *done: str) -> None:
    """Run the student's file and check its classes: what the process does."""
    faulthandler.enable()
    with open(results, "w", encoding="utf-8") as stream:

        def tell(**said: Any) -> None:
            faulthandler.cancel_dump_traceback_later()
            stream.write(json.dumps(said) + "\n")
            stream.flush()
            # It prints where the code is, and ends the process.
            faulthandler.dump_traceback_later(float(seconds), exit=True)

        faulthandler.dump_traceback_later(float(seconds), exit=True)
        module = attempt(lambda: load(Path(path)), Path(path))
        if isinstance(module, Failure):
            tell(error=module.text or "it raises NotImplementedError when it is run")
            os._exit(0)
        classes = [name for name, value in vars(module).items() if _is_checked(name, value)]
        tell(classes=classes)
        for name in _wanted(classes, layer):
            if name not in done:
                cls = getattr(module, name)
                is_mlp = name == "MLP"
                rows = check_mlp(cls, Path(path)) if is_mlp else check_class(cls, name, Path(path))
                tell(**{name: [asdict(row) for row in rows]})
    os._exit(0)  # whatever threads the student's file has started


def _is_checked(name: str, value: Any) -> bool:
    is_torch_mlp = name == "MLP" and isinstance(value, type) and issubclass(value, nn.Module)
    return name in LAYERS and not is_torch_mlp


def load(path: Path) -> ModuleType:
    """Run a Python file as a module; it may import its neighbours."""
    sys.path.insert(0, str(path.parent))
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path.name} is no Python file: its name ends in .py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module
