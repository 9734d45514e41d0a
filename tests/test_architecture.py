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
    "gradient_check",
)


def _imported(source: str, package: str) -> set[str]:
    """The packages of ours that a module of ``package`` imports, also inside of functions."""
    modules: list[str] = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            modules += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = ["", f"cifar_lab.{package}.", "cifar_lab."][node.level]
            module = f"{above}{node.module or ''}".strip(".")
            # What is imported may itself be a package.
            modules += [module, *(f"{module}.{alias.name}" for alias in node.names)]
    parts = [module.split(".") for module in modules]
    return {part[1] for part in parts if part[0] == "cifar_lab" and len(part) > 1}


def test_every_way_to_import_a_package_is_seen() -> None:
    ways = [
        "import cifar_lab.training.fit",
        "from cifar_lab import training",
        "from cifar_lab.training import fit",
        "from cifar_lab.training.fit import Plan",
        "from .. import training",
        "from ..training.fit import Plan",
    ]
    for way in ways:
        assert "training" in _imported(f"def later():\n    {way}", "layers"), way
    assert "training" not in _imported("from .training import x", "layers")


def test_every_package_has_its_place_and_imports_only_those_before_it() -> None:
    packages = {path.parent.name for path in ROOT.glob("*/__init__.py")} - {"recipes"}
    assert packages == set(ORDER)
    for place, package in enumerate(ORDER):
        for path in (ROOT / package).glob("*.py"):
            later = _imported(path.read_text("utf-8"), package) & set(ORDER[place + 1 :])
            assert not later, f"{path} imports {', '.join(later)}"
