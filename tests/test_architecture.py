"""No arrow goes back: a package imports only those before it."""

import ast
from pathlib import Path

import cifar_lab

ROOT = Path(cifar_lab.__file__).parent
# From what knows nothing of the others to what knows them all.
ORDER = (
    "data",
    "layers",
    "numpy_reference",
    "optimizers",
    "models",
    "dashboards",
    "inference",
    "training",
    "report",
    "benchmark",
    "studies",
    "soak",
    "proof",
)


def _imported(path: Path) -> set[str]:
    """The packages of ours that a module imports, also inside of functions."""
    found = ast.walk(ast.parse(path.read_text("utf-8")))
    modules = {node.module or "" for node in found if isinstance(node, ast.ImportFrom)}
    parts = [module.split(".") for module in modules]
    return {part[1] for part in parts if part[0] == "cifar_lab" and len(part) > 1}


def test_every_package_has_its_place_and_imports_only_those_before_it() -> None:
    packages = {path.parent.name for path in ROOT.glob("*/__init__.py")} - {"recipes"}
    assert packages == set(ORDER)
    for place, package in enumerate(ORDER):
        for path in (ROOT / package).glob("*.py"):
            later = _imported(path) & set(ORDER[place + 1 :])
            assert not later, f"{path} imports {', '.join(later)}"
