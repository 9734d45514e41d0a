"""Mistakes planted in a student's file are named, and nothing that is right is blamed."""

from pathlib import Path

import pytest

from cifar_lab.gradient_check.student_check import (
    NOT_DONE,
    NOT_JUDGED,
    RIGHT,
    WRONG,
    check_class,
)
from cifar_lab.gradient_check.student_layers import KINDS

FOLDER = Path(__file__).parent / "students"
FILES = {path.stem: path.read_text("utf-8") for path in sorted(FOLDER.glob("*.py"))}
FILES["layer_norm"] = (
    FILES["batch_norm"].replace("Batch", "Layer").replace("(0, k", "(1, k").replace("[0]", "[1]")
)
LINEAR, RELU, LEAKY = "LinearModule", "ReLUModule", "LeakyReLUModule"
ELU, SOFTMAX, LOSS = "ELUModule", "SoftMaxModule", "CrossEntropyModule"
AUTOGRAD, FUNCTION = "CustomBatchNormAutograd", "CustomBatchNormManualFunction"
LAYER_AUTOGRAD, LAYER_FUNCTION = "CustomLayerNormAutograd", "CustomLayerNormManualFunction"

# The file, the right code and the wrong one, the class and its wrong answer, and what is said.
PLANTED = [
    ("modules", "dout.T @ self.x", "self.x.T @ dout", LINEAR, "weight", "It is transposed."),
    ("modules", "dout.T @ self.x", "dout.T @ self.x / len(dout)", LINEAR, "weight",
     "7 times too small in a batch of 7: it is divided by B once too often"),
    ("modules", "dout.T @ self.x", "-dout.T @ self.x", LINEAR, "weight", "wrong sign"),
    ("modules", '["weight"] = dout.T', '["weight"] += dout.T', LINEAR, "weight",
     "added to the result of the previous call"),
    ("modules", '["weight"] = dout.T', '["wieght"] = dout.T', LINEAR, "weight", "zero everywhere"),
    ("modules", "dout.sum(0)", "dout.mean(0)", LINEAR, "bias", "divided by B once too often"),
    ("modules", "dout.sum(0)", "dout", LINEAR, "bias", "not summed over the batch"),
    ("modules", "dout.sum(0)", "dout.sum(1)", LINEAR, "bias", "over the outputs, not over the sa"),
    ("modules", "dout.sum(0)", "dout.sum()", LINEAR, "bias", "summed over everything"),
    ("modules", 'dout @ self.params["weight"]\n', 'dout @ self.params["weight"].T\n', LINEAR, "x",
     "W is transposed."),
    ("modules", ' + self.params["bias"]', "", LINEAR, "output", "The bias is forgotten."),
    ("modules", "(self.x > 0)", "(dout > 0)", RELU, "x", "The mask is that of dY"),
    ("modules", "dout * (self.x > 0)", "dout", RELU, "x", "There is no mask"),
    ("modules", "dout * (self.x > 0)", "1.0 * (self.x > 0)", RELU, "x", "not multiplied by dY"),
    ("modules", "return np.maximum(x, 0)", "x[x < 0] = 0; return x", RELU, "output",
     "forward changes x in place"),
    ("modules", "return dout * (self.x > 0)", "dout[self.x < 0] = 0; return dout", RELU, "x",
     "backward changes dout in place"),
    ("modules", "self.neg_slope * dout)", "0 * dout)", LEAKY, "x", "Nothing passes below 0"),
    ("modules", "self.alpha * np.exp(self.x)", "np.exp(self.x)", ELU, "x", "α is forgotten."),
    ("modules", "(np.exp(x) - 1)", "np.exp(x) - 1", ELU, "output", "The −1 is not multiplied"),
    ("modules", "self.alpha * np.exp(self.x)", "self.alpha * (np.exp(self.x) - 1)", ELU, "x",
     "the factor is Y; it should be α exp(X)"),
    ("modules", "return np.einsum(\"bi,bij->bj\", dout, jacobian)",
     "return dout * self.p * (1 - self.p)", SOFTMAX, "x", "Only the diagonal of the Jacobian"),
    ("modules", "jacobian - np", "jacobian + np", SOFTMAX, "x", "is added, not subtracted"),
    ("modules", "x - x.max(axis=1, keepdims=True)", "x", SOFTMAX, "output", "overflow"),
    ("modules", "e / e.sum(axis=1, keepdims=True)", "e / e.sum()", SOFTMAX, "output",
     "The sum runs over all numbers"),
    ("modules", "-y / x / len(x)", "-y / x", LOSS, "x", "It is 6 times too large in a batch of 6"),
    ("modules", "-y / x / len(x)", "(x - y) / len(x)", LOSS, "x", "the gradient of the logits"),
    ("modules", "np.log(x)) / len(x)", "np.log(x))", LOSS, "output", "the factor 1/B of the mean"),
    ("labels", "dx[s, y[s]] = -1 / x[s, y[s]]", "dx[s, y[s] - 1] = -1 / x[s, y[s] - 1]", LOSS, "x",
     "class k − 1 is used in place"),
    ("labels", "dx[s, y[s]] = -1 / x[s, y[s]]", "dx[s, y[s] + 1] = -1 / x[s, y[s] + 1]", LOSS, "x",
     "class k + 1 is used in place"),
    ("labels", "[np.arange(len(x)), y]", "[np.arange(len(x)), y - 1]", LOSS, "output",
     "class k − 1 is used in place"),
    ("labels", "[np.arange(len(x)), y]", "[np.arange(len(x)), y + 1]", LOSS, "output",
     "class k + 1 is used in place"),
    ("modules", "return -y / x / len(x)", "return -y / self.x / len(x)", LOSS, "x",
     "backward is called on a new object, without forward"),
    ("labels", "-1 / x[s, y[s]] / len(x)", "-1 / x[s, y[s]]", LOSS, "x", "6 times too large"),
    ("loops", "dW += np.outer(dout[s], self.inputs[s])", "dW = np.outer(dout[s], self.inputs[s])",
     LINEAR, "weight", "Only the last sample counts"),
    ("loops", " - np.outer(self.p[s], self.p[s])", "", SOFTMAX, "x",
     "The term −p pᵀ of the Jacobian diag(p) − p pᵀ is missing."),
    ("loops", "e / sum(e)", "e / 2", SOFTMAX, "output", "23 of 24 numbers are wrong: [0, "),
    ("loops", "db += dout[s]", "db += 3 * dout[s]", LINEAR, "bias",
     "For an input of shape (7, 5), it is 3 times the right one."),
    ("batch_norm", "unbiased=False", "unbiased=True", AUTOGRAD, "output", "Bessel's correction"),
    ("batch_norm", "torch.sqrt(sigma + self.eps)", "(torch.sqrt(sigma) + self.eps)", AUTOGRAD,
     "output", "ε is outside of the root."),
    ("batch_norm", "input.mean(0, keepdim=True)\n        sigma = input.var(0, keepdim=True, unbias",
     "0.0\n        sigma = torch.ones(1)\n        zz = input.var(0, keepdim=True, unbias", AUTOGRAD,
     "output", "running statistics that start at 0 and 1"),
    ("batch_norm", "n * dxhat - s1 - xhat", "n * dxhat - xhat", FUNCTION, "x", "The term of the m"),
    ("batch_norm", " - xhat * s2", "", FUNCTION, "x", "The term of the variance, "),
    ("batch_norm", "r / n * (n * dxhat - s1 - xhat * s2)", "r * dxhat", FUNCTION, "x",
     "treated as constants"),
    ("batch_norm", "grad_output * gamma", "grad_output", FUNCTION, "x", "γ is forgotten"),
    ("batch_norm", "r / n * (", "r * (", FUNCTION, "x", "It is N times too large"),
    ("batch_norm", "n = xhat.shape[0]", "n = xhat.shape[0] - 1", FUNCTION, "x", "Bessel's"),
    ("batch_norm", "(grad_output * xhat).sum(0)", "(grad_output * xhat).mean(0)", FUNCTION, "gamma",
     "divided by B once too often"),
    ("batch_norm", "dx, dgamma, dbeta", "dx, dbeta, dgamma", FUNCTION, "beta", "It is dγ"),
    ("layer_norm", "dxhat.sum(1, keepdim=True)", "dxhat.sum(0, keepdim=True)", LAYER_FUNCTION, "x",
     "For an input of shape (7, 3), 20 of 21 numbers are wrong: [0, 0] is "),
    ("batch_norm", "torch.sqrt(sigma + self.eps)", "(input.std(0) + self.eps)", AUTOGRAD, "output",
     "ε is outside of the root, and σ² is divided by N − 1"),
    ("layer_norm", "= input.mean(1, keepdim=True)\n        sigma = input.var(1, keepdim=True,",
     "= input.mean(1)\n        sigma = input.var(1,", LAYER_AUTOGRAD, "output",
     "have the shape (B,), which broadcasts along the wrong axis"),
    ("layer_norm", " - s1", "", LAYER_FUNCTION, "x", "The term of the mean"),
    ("layer_norm", "grad_output.sum(0)", "grad_output.sum(1)", LAYER_FUNCTION, "beta",
     "It is summed over the features, not over the samples."),
]  # fmt: skip


def rows_of(source, tmp_path):
    """Check every class of a file, and return its rows by class and name of the answer."""
    path = tmp_path / "modules.py"
    path.write_text(source, "utf-8")
    names = {}
    exec(compile(source, str(path), "exec"), names)
    return {
        (name, row.name): row
        for name in KINDS
        if name in names
        for row in check_class(names[name], name, path)
    }


@pytest.mark.parametrize("name", FILES)
def test_right_layers_of_every_edition_are_not_blamed(name, tmp_path):
    rows = rows_of(FILES[name], tmp_path)
    assert {row.verdict for row in rows.values()} == {RIGHT}
    assert not any(row.notes for row in rows.values())


MISFITS = {
    "weight": (
        'class LinearModule:\n def __init__(self, a, b): self.params = {"weight": 0}',
        'expected params["weight"], an array of floats of shape (3, 5); found the shape () and ',
    ),
    "shape": (
        "import numpy as np\nclass LinearModule:\n def __init__(self, a, b):\n"
        '  self.params = {"weight": np.zeros((a, b)), "bias": np.zeros(b)}',
        'params["weight"], an array of floats of shape (3, 5); found the shape (5, 3) and dtype fl',
    ),
    "no module": (
        "class CustomBatchNormAutograd:\n def __init__(self, n, eps): pass",
        "expected an nn.Module with two parameters",
    ),
    "no parameters": (
        "from torch import nn\nclass CustomLayerNormAutograd(nn.Module):\n"
        " def __init__(self, n, eps): super().__init__()",
        "gamma and beta, each an nn.Parameter; found none.",
    ),
}


@pytest.mark.parametrize("name", MISFITS)
def test_class_that_is_not_what_the_course_asks_for_gets_one_line(name, tmp_path):
    source, told = MISFITS[name]
    (row,) = rows_of(source, tmp_path).values()
    assert (row.name, row.verdict) == ("output", WRONG)
    assert told in row.notes[0]


@pytest.mark.parametrize(
    ("right", "wrong", "note"),
    [
        ("dout.sum(0)", "dout.sum(0, keepdims=True)", "the shape is (1, 3); expected (3,)."),
        ("np.maximum(x, 0)", "np.maximum(x, 0)[None]", "the shape is (1, 6, 5); expected (6, 5)."),
    ],
)
def test_right_numbers_in_a_shape_that_broadcasts_are_right_with_a_note(
    right, wrong, note, tmp_path
):
    rows = rows_of(FILES["modules"].replace(right, wrong), tmp_path)
    assert {row.verdict for row in rows.values()} == {RIGHT}
    assert [row.notes for row in rows.values() if row.notes] == [
        [f"The numbers are right, but {note}"]
    ]


@pytest.mark.parametrize(
    ("cls", "changes", "verdict"),
    [
        (ELU, {"(np.exp(x) - 1)": "(np.exp(x) - 2)"}, RIGHT),
        (SOFTMAX, {"e.sum(axis=1, keepdims=True)": "e.sum()"}, NOT_JUDGED),
        (ELU, {"return dout": "raise NotImplementedError; return dout"}, NOT_DONE),
    ],
)  # fmt: skip
def test_gradient_of_a_wrong_or_an_unfinished_layer_is_not_blamed(cls, changes, verdict, tmp_path):
    source = FILES["modules"]
    for old, new in changes.items():
        start = source.index(f"class {cls}")
        source = source[:start] + source[start:].replace(old, new, 1)
    rows = rows_of(source, tmp_path)
    assert rows[cls, "x"].verdict == verdict
    assert rows[cls, "output"].verdict == (RIGHT if verdict == NOT_DONE else WRONG)


@pytest.mark.parametrize(
    ("file", "right", "wrong", "cls", "answer", "told"), PLANTED, ids=lambda value: str(value)[:20]
)
def test_planted_mistake_is_named(file, right, wrong, cls, answer, told, tmp_path):
    assert FILES[file].count(right) == 1
    rows = rows_of(FILES[file].replace(right, wrong), tmp_path)
    blamed = {name for (name, _), row in rows.items() if row.verdict != RIGHT}
    assert blamed <= {cls, cls.replace("Function", "Module")}  # which calls the Function
    assert rows[cls, answer].verdict == WRONG
    assert told in " ".join(rows[cls, answer].notes)
