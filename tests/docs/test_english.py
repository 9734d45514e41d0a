"""What a program can check of the English: lengths of sentences and pages, texts of arguments."""

import ast
import re
from pathlib import Path
from statistics import fmean

import pytest

ROOT = Path(__file__).parents[2]
DOCS = sorted((ROOT / "docs").glob("*.md"))
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *DOCS]
SOURCES = sorted((ROOT / "cifar_lab").rglob("*.py"))
# A second name or spelling of what the pages call normalize, optimizer, batch, color and so on.
SECOND = r"\b(?:normalis|standardis|recognis|optimis(?!ti)|mini-?batch|colour|behaviour|licence)\w*"


def _prose(path: Path) -> str:
    """The text of a page without code, tables, headings and comments; inline code is one `x`."""
    text = re.sub(r"^(```+).*?^\1$", "", path.read_text("utf-8"), flags=re.DOTALL | re.MULTILINE)
    text = re.sub(r"<!--.*?-->", "", text, flags=re.DOTALL)
    text = re.sub(r"^(\|| {4}|#|!\[).*$", "", text, flags=re.MULTILINE)
    text = re.sub(r"\$`[^`]*`\$|`[^`]*`", "`x`", text)
    return re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", text)


def _words(text: str) -> int:
    """The number of words; numbers and code are none."""
    return len(re.findall(r"(?<!`)\b[^\W\d_][\w'’-]*", text))


def _sentences(path: Path) -> list[str]:
    """The sentences of a page; an item of a list is one at least."""
    blocks = re.split(r"\n\s*\n|\n(?= *(?:[-*]|\d+\.) )", _prose(path))
    found = [
        part
        for block in blocks
        for part in re.split(r"(?<=[.!?])[)*\"]* ", " ".join(block.split()))
    ]
    return [sentence for sentence in found if _words(sentence)]


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_sentences_are_short(path: Path) -> None:
    lengths = {sentence: len(sentence.split()) for sentence in _sentences(path)}
    assert not [sentence for sentence, length in lengths.items() if length > 35]
    assert not lengths or fmean(lengths.values()) < 20


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_a_thing_has_one_name_and_one_spelling(path: Path) -> None:
    assert not re.findall(SECOND, _prose(path), re.IGNORECASE)


def test_pages_are_short() -> None:
    assert _words(_prose(ROOT / "README.md")) <= 1_200
    assert _words(_prose(ROOT / "docs" / "speed.md")) <= 1_500
    assert sum(_words(_prose(path)) for path in DOCS) <= 8_000


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_text_of_an_argument_says_what_it_is(path: Path) -> None:
    nodes = ast.walk(ast.parse(path.read_text("utf-8")))
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    texts = [ast.get_docstring(node) or "" for node in nodes if isinstance(node, kinds)]
    assert not re.findall(r"^ +\w+: (?:of|that)\b.*", "\n".join(texts), re.MULTILINE)
