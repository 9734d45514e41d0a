"""``check-gradients --file`` as a command: processes, exit statuses, and files that misbehave."""

from pathlib import Path

import pytest

from cifar_lab.gradient_check import student_file
from cifar_lab.gradient_check.formulas import FORMULAS

STUDENTS = Path(__file__).parent / "students"
AT_LEISURE = ("--seconds", 600)  # however busy the machine is

BAD = """
import os, sys
import numpy as np
from helpers import mask

print("hello" * 1000)

class LinearModule:
    def __init__(self, n_in, n_out):
        self.params = {"weight": np.zeros((n_out, n_in)), "bias": np.zeros(n_out)}
        self.grads = {}
    def forward(self, x):
        return x.undefined

class SoftMaxModule:
    def forward(self, x):
        os._exit(3)

class CrossEntropyModule:
    def forward(self, x, y):
        return sys.exit("enough")

class LeakyReLUModule:
    pass

class ELUModule:
    def forward(self, x):
        return undefined + x

class ReLUModule:
    def forward(self, x):
        self.x = x
        return x * mask(x)
    def backward(self, dout):
        return dout * mask(self.x)
"""


def test_class_that_raises_or_ends_the_process_gets_a_line_and_the_next_is_checked(call):
    Path("bad.py").write_text(BAD)
    Path("helpers.py").write_text("def mask(x):\n    return x > 0\n")
    status, out, err = call("check-gradients", "--file", "bad.py", *AT_LEISURE)
    assert (status, err) == (1, "")
    assert max(map(len, out.splitlines())) <= 80
    found = " ".join(out.split())
    for line in (
        "LinearModule, forward pass (bad.py:12): WRONG bad.py:13 in forward: AttributeError: 'num",
        "SoftMaxModule, check: WRONG the program ended with exit status 3.",
        "CrossEntropyModule, forward pass (bad.py:20): WRONG bad.py:21 in forward: SystemExit: eno",
        "LeakyReLUModule, forward pass: WRONG TypeError: LeakyReLUModule() takes no arguments",
        "ELUModule, forward pass (bad.py:27): WRONG bad.py:28 in forward: NameError: name 'undef",
    ):
        assert line in found
    assert "ReLUModule x 0e+00" in found
    assert out.endswith("7 rows: 5 WRONG, 2 right.\n")


def test_class_that_hangs_gets_a_line(call):
    Path("hangs.py").write_text("class ReLUModule:\n def forward(self, x):\n  while True: pass\n")
    status, out, _ = call("check-gradients", "--file", "hangs.py", "--seconds", 2)
    assert status == 1
    assert "ReLUModule, check: WRONG\n  not done after 2 seconds" in out


def test_right_file_has_status_0(call):
    status, out, err = call("check-gradients", "--file", STUDENTS / "batch_norm.py", *AT_LEISURE)
    assert (status, err) == (0, "")
    assert out.startswith("batch_norm.py: largest relative errors; allowed against autograd: 1e-0")
    assert out.endswith("12 rows: 12 right.\n")


def test_layer_flag_names_a_layer_or_a_class(call, refused):
    _, out, _ = call(
        "check-gradients", "--file", STUDENTS / "modules.py", "--layer", "linear", *AT_LEISURE
    )
    assert out.endswith("4 rows: 4 right.\n")
    found = student_file.check_file(STUDENTS / "modules.py", "ELUModule", seconds=600)
    assert list(found) == ["ELUModule"]
    words = ("check-gradients", "--file", STUDENTS / "labels.py", "--layer")
    assert "labels.py: no linear; it has CrossEntropyModule" in refused(*words, "linear")
    assert "--layer liner: unknown; did you mean linear?" in refused(*words, "liner")


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (None, "no such file"),
        ("def f(:\n", "mine.py:1: SyntaxError: invalid syntax"),
        (
            "import numpy\n\nimport nothing_of_this_name\n",
            "mine.py:3 in <module>: Module",
        ),
        ("x = 1\n", "no class of the course (known: LinearModule, "),
        ("from torch import nn\nclass MLP(nn.Module): pass\n", "no class of the course"),
        ("while True: pass\n", "not done after 1 seconds, at mine.py:1 in <module>."),
        ("raise SystemExit\n", "mine.py:1 in <module>: SystemExit"),
    ],
)
def test_file_that_cannot_be_run_is_explained_in_a_line(source, message, refused):
    if source is not None:
        Path("mine.py").write_text(source)
    hangs = "while" in str(source)
    assert message in refused(
        "check-gradients", "--file", "mine.py", "--seconds", 1 if hangs else 600
    )


def test_neighbours_of_the_file_do_not_stand_in_for_modules_of_python():
    for name in ("random", "numpy", "json"):
        Path(f"{name}.py").write_text("raise ImportError('this is not yours')\n")
    source = (STUDENTS / "labels.py").read_text("utf-8")
    Path("modules.py").write_text(f"{source}\nfrom cifar_lab.course import MLP\n", "utf-8")
    found = student_file.check_file(Path("modules.py"), None, seconds=600)
    assert {name: len(rows) for name, rows in found.items()} == {"CrossEntropyModule": 2, "MLP": 7}
    assert {row.verdict for rows in found.values() for row in rows} == {"right"}


def test_a_misspelt_name_of_the_course_is_not_left_out():
    Path("modules.py").write_text("class LinearModul: pass\nclass Helper: pass\n", "utf-8")
    found = student_file.check_file(Path("modules.py"), None, seconds=600)
    assert [(name, rows[0].verdict) for name, rows in found.items()] == [("LinearModul", "WRONG")]
    assert "did you mean LinearModule?" in found["LinearModul"][0].notes[0]


def test_exercise_is_graded_one_by_one_and_never_overwritten(call, refused):
    status, out, _ = call("exercise", "a folder")
    path = Path("a folder/modules.py")
    assert status == 0
    assert f"check-gradients --file '{path}'\n" in out
    status, out, _ = call("check-gradients", "--file", path, *AT_LEISURE)
    assert (status, out.endswith("12 rows: 12 not done yet.\n")) == (0, True)
    head, relu = path.read_text("utf-8").split("class ReLUModule")
    relu = relu.replace("raise NotImplementedError", "return np.maximum(x, 0)", 1)
    path.write_text(f"{head}class ReLUModule{relu}", "utf-8")
    status, out, _ = call("check-gradients", "--file", path, "--layer", "relu", *AT_LEISURE)
    assert (status, out.endswith("2 rows: 1 right, 1 not done yet.\n")) == (0, True)
    relu = relu.replace("raise NotImplementedError", "dx = dout * (dout > 0)", 1)
    path.write_text(f"{head}class ReLUModule{relu}", "utf-8")
    status, out, _ = call("check-gradients", "--file", path, "--layer", "relu", *AT_LEISURE)
    assert (status, "It is None: a return is missing" in out) == (1, True)
    path.write_text("mine", "utf-8")
    assert "cannot be written (File exists); name another folder" in refused("exercise", "a folder")
    assert path.read_text("utf-8") == "mine"


def test_exercise_has_the_definitions_and_no_gradient(call):
    call("exercise", "week1")
    text = Path("week1/modules.py").read_text("utf-8")
    assert "each sample over its C features; σ² is divided by C" in text
    assert "each feature over the batch; σ² is divided by B" in text
    for formulas in FORMULAS.values():
        assert not [line for name, line in formulas.items() if name != "output" and line in text]
