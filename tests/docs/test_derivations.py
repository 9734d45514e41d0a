"""`docs/derivations.md` names a function that exists beside every formula; its links lead on."""

import importlib
import re
from pathlib import Path
from pkgutil import resolve_name

import pytest

from cifar_lab.gradient_check import formulas
from cifar_lab.numpy_reference.layer import Layer
from cifar_lab.numpy_reference.pooling import Pool

PAGE = Path(__file__).parents[2] / "docs" / "derivations.md"
TEXT = PAGE.read_text("utf-8")
NAME = re.compile(r"`(cifar_lab(?:\.\w+)+)`")
SECTIONS = dict(
    section.split("\n", 1) for section in re.split(r"^## ", TEXT, flags=re.MULTILINE)[1:]
)


@pytest.mark.parametrize("name", sorted(set(NAME.findall(TEXT))))
def test_function_beside_a_formula_exists(name):
    assert callable(resolve_name(name))


@pytest.mark.parametrize("title", [title for title in SECTIONS if title != "Against the report"])
def test_section_with_a_formula_names_the_function_that_computes_it(title):
    assert "```math" in SECTIONS[title]
    assert NAME.search(SECTIONS[title].rsplit("```", 1)[1]), "after the last formula"


def test_every_layer_with_a_gradient_of_its_own_is_derived():
    importlib.import_module("cifar_lab.numpy_reference.network")  # imports every layer
    layers = {cls for cls in [*Layer.__subclasses__(), *Pool.__subclasses__()] if cls is not Pool}
    layers = {cls for cls in layers if cls.__module__.startswith("cifar_lab.numpy_reference.")}
    named = {
        resolve_name(name).__qualname__ for name in NAME.findall(TEXT) if name.endswith(".backward")
    }
    missing = {cls.__name__ for cls in layers} - {name.split(".")[0] for name in named}
    assert missing == {"Flatten"}  # the same numbers in another shape


def test_sections_that_the_check_of_a_students_file_names_are_there():
    assert set(formulas.SECTIONS.values()) <= SECTIONS.keys()


def test_links_lead_somewhere():
    anchors = {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in SECTIONS}
    for target in re.findall(r"\]\(([^)]+)\)", TEXT):
        if target.startswith("#"):
            assert target[1:] in anchors
        elif not target.startswith("https://"):
            assert (PAGE.parent / target).exists()


def test_formulas_are_written_as_github_renders_them():
    fences = re.findall(r"^```.*$", TEXT, flags=re.MULTILINE)
    assert fences == ["```math", "```"] * (len(fences) // 2)
    formulas = re.findall(r"```math\n(.*?)```", TEXT, flags=re.DOTALL)
    formulas += re.findall(r"\$`(.*?)`\$", TEXT)
    assert all(formula.count("{") == formula.count("}") for formula in formulas)
    assert not any("\\operatorname" in formula for formula in formulas)  # GitHub refuses it
    assert TEXT.count("$") == 2 * len(re.findall(r"\$`[^`]*`\$", TEXT))  # all in backticks
