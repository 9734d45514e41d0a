"""The check of a student's file, which is executed in a process of its own.

The process writes a line of JSON for each class that it has checked. If it takes too long or ends
early, another process continues with the next class.
"""

import difflib
import faulthandler
import importlib.util
import json
import os
import re
import subprocess
import sys
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

LAYERS = {**{name: kind.layer for name, kind in KINDS.items()}, "MLP": "mlp"}
"""The layer of each class that is checked."""
ALIKE = 0.88  # ratio of difflib from which a name is taken for a misspelt one

# Not -m, with which files of the current folder could shadow Python's modules.
PROGRAM = (
    f"import sys; sys.path[0] = {str(Path(__file__).parents[2])!r}; "
    "from cifar_lab.gradient_check.student_file import work; work(*sys.argv[1:])"
)


def check_file(path: Path, layer: str | None, seconds: float) -> dict[str, list[Row]]:
    """Check the classes of the course in a file.

    Args:
        path: Python file.
        layer: name of a layer, such as "linear", or of a class; None for all.
        seconds: time limit for running the file, and for the check of each class.

    Returns:
        The rows of each class, by its name. A class whose check did not end has one row, "check".

    Raises:
        UserError: The file cannot be read or run, or it has no class of the layer.
    """
    path = path.absolute()
    known = dict.fromkeys([*LAYERS.values(), *LAYERS])
    if layer is not None and layer not in known:
        raise UserError(unknown("--layer", layer, known))
    if not path.is_file():
        raise UserError(f"--file {path}: {'a folder' if path.is_dir() else 'no such file'}")
    found: dict[str, list[Row]] = {}
    while True:
        lines, ended = _run(path, seconds, [layer or "", *found])
        if not lines or "error" in lines[0]:
            raise UserError(f"--file {path}: {lines[0]['error'] if lines else ended}")
        classes = lines[0]["classes"]
        for line in lines[1:]:
            found |= {name: [Row(**row) for row in rows] for name, rows in line.items()}
        left = [name for name in classes if name not in found]
        if not left:
            return {name: found[name] for name in classes}
        found[left[0]] = [Row("check", WRONG, notes=[ended])]


def _run(path: Path, seconds: float, more: list[str]) -> tuple[list[dict[str, Any]], str]:
    """Run ``work`` in a process; return the lines that it wrote, and a text on how it ended."""
    words = [sys.executable, "-c", PROGRAM, str(path), str(seconds), *more]
    done = subprocess.run(
        words, stdin=subprocess.DEVNULL, capture_output=True, encoding="utf-8", errors="replace"
    )
    name = re.escape(ascii(path.name)[1:-1])
    place = re.search(rf'File ".*{name}", line (\d+) in (.+)', done.stderr)
    where = f", at {path.name}:{place[1]} in {place[2]}." if place else "."
    ended = f"the program ended with exit status {done.returncode}{where}"
    if "Timeout" in done.stderr:
        ended = f"not done after {seconds:g} seconds{where}"
    return [json.loads(line) for line in done.stdout.splitlines()], ended


def work(path: str, seconds: str, layer: str, *done: str) -> None:
    """Run the student's file and check its classes; this is the work of the process."""
    results, trace = (os.fdopen(os.dup(number), "w", encoding="utf-8") for number in (1, 2))
    for number in (1, 2):  # discard what the student's code prints
        os.dup2(os.open(os.devnull, os.O_WRONLY), number)
    faulthandler.enable(trace)

    def limit_time() -> None:  # then print where the code is, and end the process
        faulthandler.dump_traceback_later(float(seconds), file=trace, exit=True)

    def tell(**said: Any) -> None:
        print(json.dumps(said), file=results, flush=True)
        limit_time()

    limit_time()
    file = Path(path)
    module = attempt(lambda: load(file), file)
    classes = [] if isinstance(module, Failure) else _classes(module)
    wanted = [name for name in classes if not layer or layer in (name, LAYERS[name])]
    misspelt = {} if isinstance(module, Failure) else _misspelt(module, layer)
    if wanted or misspelt:
        tell(classes=[*wanted, *misspelt])
    elif isinstance(module, Failure):
        tell(error=module.text)
    elif classes:
        tell(error=f"no {layer}; it has {', '.join(classes)}")
    else:
        tell(error=f"no class of the course (known: {', '.join(LAYERS)})")
    for name in wanted:
        if name not in done:
            cls = getattr(module, name)
            rows = check_mlp(cls, file) if name == "MLP" else check_class(cls, name, file)
            tell(**{name: [asdict(row) for row in rows]})
    for name, meant in misspelt.items():
        note = f"The course has no class of this name; did you mean {meant}?"
        tell(**{name: [asdict(Row("check", WRONG, notes=[note]))]})
    os._exit(0)  # whatever threads the student's file has started


def _classes(module: ModuleType) -> list[str]:
    """Return the names of the classes to check. An MLP in PyTorch has no gradients to check."""
    found = {name: value for name, value in vars(module).items() if name in LAYERS}
    if isinstance(found.get("MLP"), type) and issubclass(found["MLP"], nn.Module):
        del found["MLP"]
    return list(found)


def _misspelt(module: ModuleType, layer: str) -> dict[str, str]:
    """Return the names of the file's own classes that are almost one of the course, with that."""
    missing = [n for n in LAYERS if not hasattr(module, n) and layer in ("", n, LAYERS[n])]
    found = {}
    for name, value in vars(module).items():
        is_own = isinstance(value, type) and value.__module__ == module.__name__
        if is_own and (near := difflib.get_close_matches(name, missing, 1, ALIKE)):
            found[name] = near[0]
    return found


def load(path: Path) -> ModuleType:
    """Run a Python file as a module; it may import other files in its folder."""
    sys.path.insert(0, str(path.parent))
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path.name} is not a Python file: its name must end in .py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module
