"""Stubs of the layers for students to fill in, which ``check-gradients --file`` grades."""

import ast
import re
from collections.abc import Sequence
from pathlib import Path

from cifar_lab.errors import UserError
from cifar_lab.gradient_check.formulas import FORMULAS
from cifar_lab.gradient_check.student_layers import KINDS
from cifar_lab.settings import unknown

TEMPLATE = Path(__file__).with_name("stubs.py")
NAME = "modules.py"
LAYER_NORM = {"Batch": "Layer", "each feature over the batch": "each sample over its features"}


def write_exercise(folder: Path, layers: Sequence[str]) -> Path:
    """Write the stubs of some layers, or of all if none is named, into a new file of a folder.

    Raises:
        UserError: a layer is unknown, or the file exists.
    """
    known = list(FORMULAS)
    for layer in layers:
        if layer not in known:
            raise UserError(unknown("--layer", layer, known))
    path, text = folder / NAME, exercise(layers or known)
    if path.exists():
        raise UserError(f"{path}: exists already, and is left as it is; name another folder")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with path.open("x", encoding="utf-8") as stream:
            stream.write(text)
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror})") from error
    return path


def exercise(layers: Sequence[str]) -> str:
    """Return the source of the stubs of some layers."""
    source = TEMPLATE.read_text("utf-8")
    nodes = ast.parse(source).body
    stubs = {node.name: _text(source, node) for node in nodes if isinstance(node, ast.ClassDef)}
    chosen = [name for name, kind in KINDS.items() if kind.layer in layers]
    body = "\n\n\n".join(_filled(_stub(stubs, name), KINDS[name].layer) for name in chosen)
    heads = [_text(source, node) for node in nodes if not isinstance(node, ast.ClassDef)]
    docstring, *imports = heads
    used = [line for line in imports if re.search(rf"\b{_bound(line)}\b", body)]
    used[1:1] = [""] * used[0].startswith("from typing")
    return "\n".join([docstring, "", *used, "", "", body, ""])


def _text(source: str, node: ast.stmt) -> str:
    return ast.get_source_segment(source, node) or ""


def _bound(line: str) -> str:
    """Return a pattern of the names that an import binds."""
    names = line.partition("import ")[2].split(", ")
    return "(" + "|".join(name.rpartition(" as ")[2] for name in names) + ")"


def _stub(stubs: dict[str, str], name: str) -> str:
    """Return the stub of a class; that of layer normalization is made of batch normalization's."""
    if name in stubs:
        return stubs[name]
    text = stubs[name.replace("Layer", "Batch")]
    for old, new in LAYER_NORM.items():
        text = text.replace(old, new)
    return text


def _filled(stub: str, layer: str) -> str:
    """Put the formula of the output in its place, and the left side of those to be derived."""

    def fill(found: re.Match[str]) -> str:
        formula = FORMULAS[layer][found[1]]
        return formula if found[1] == "output" else f"{formula.partition(' = ')[0]} = ?"

    return re.sub("«([a-z]+)»", fill, stub)
