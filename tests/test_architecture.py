"""Imports go in one direction: a module imports only what comes before it."""

import ast
from pathlib import Path

import cifar_lab

ROOT = Path(cifar_lab.__file__).parent
# From what imports nothing of ours to what may import everything; names are modules or packages.
ORDER = """
    errors files settings recipes run_settings plan internals devices numpy_reference data layers
    optimizers models run dashboards inference training experiments course gradient_check cli
    __main__
"""
# A user's own model is imported when a name of one is given, to read the flags off its constructor.
ALLOWED = {("recipes", "models")}


def _imported(source: str, package: str) -> set[str]:
    """The modules and packages of ours that a source imports, also inside of functions."""
    modules: list[str] = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            modules += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = ["", f"cifar_lab.{package}.", "cifar_lab."][node.level]
            module = f"{above}{node.module or ''}".strip(".")
            # What is imported may itself be a module.
            modules += [module, *(f"{module}.{alias.name}" for alias in node.names)]
    parts = [module.split(".") for module in modules]
    return {part[1] for part in parts if part[0] == "cifar_lab" and len(part) > 1}


def _place(path: Path) -> str:
    """The module at the root, or the package, that a file belongs to."""
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def test_every_way_to_import_a_package_is_seen() -> None:
    ways = [
        "import cifar_lab.training.fit",
        "from cifar_lab import training",
        "from cifar_lab.training import fit",
        "from cifar_lab.training.fit import train",
        "from .. import training",
        "from ..training.fit import train",
    ]
    for way in ways:
        assert "training" in _imported(f"def later():\n    {way}", "layers"), way
    assert "training" not in _imported("from .training import x", "layers")


def test_every_file_has_its_place_and_imports_only_what_comes_before_it() -> None:
    order = ORDER.split()
    files = [path for path in ROOT.rglob("*.py") if path != ROOT / "__init__.py"]
    assert {_place(path) for path in files} == set(order)
    for path in files:
        place = _place(path)
        later = _imported(path.read_text("utf-8"), place) & {*order[order.index(place) + 1 :]}
        wrong = {name for name in later if (place, name) not in ALLOWED}
        assert not wrong, f"{path} imports {', '.join(wrong)}"
