"""A user's own model: its settings, help and errors, and no import because a file names it."""

import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import yaml

from cifar_lab.cli import main
from cifar_lab.errors import UserError
from cifar_lab.models.classifier import CHECKPOINT_FORMAT
from cifar_lab.plan import Plan
from cifar_lab.recipes.own_model import import_model, is_own_model, name_of, settings_of_model
from cifar_lab.run.restore import load_model
from cifar_lab.run.run import Run

Capture = pytest.CaptureFixture[str]
NET = '''
    """A module of a user."""

    from collections.abc import Sequence
    from pathlib import Path
    from typing import Literal

    from torch import nn

    from cifar_lab.models import ImageClassifier

    Path("imported").touch()


    class Net(ImageClassifier):
        """One hidden layer.

        Args:
            width: number of hidden
                units.
            gated: whether there are gates.
            sizes: some sizes.
            kind: kind of layer.
            num_classes: number of classes of the data.
        """

        def __init__(
            self,
            width: int = 4,
            gated: bool = False,
            sizes: Sequence[int] = (2, 3),
            kind: Literal["plain", "deep"] = "plain",
            lr: float = 0.1,
            num_classes: int = 10,
        ) -> None:
            layers = nn.Flatten(), nn.Linear(3072, width), nn.Linear(width, num_classes)
            own = {"normalization": "standardize", "optimizer": "sgd", "lr": lr}
            super().__init__(nn.Sequential(*layers), num_classes=num_classes, **own)
            self.save_hyperparameters()


    class Strict(Net):
        def __init__(self, width: int, *, num_classes: int = 10) -> None:
            """A required setting.

            Args:
                width: number of units.
            """
            super().__init__(width, num_classes=num_classes)


    class NoClassifier(nn.Module):
        pass
'''
# Classes by the argument that is wrong with them.
WRONG = {
    "Untyped": "width=4",
    "Odd": "layer: nn.Module = nn.ReLU()",
    "Unreadable": "width: 'Missing' = 4",
    "Taken": "batch_size: int = 4",
}
WRONG_NET = """

class {name}(Net):
    def __init__(self, {argument}, num_classes: int = 10) -> None:
        super().__init__(num_classes=num_classes)
"""


@pytest.fixture
def module(tmp_path: Path) -> Iterator[str]:
    """The name of a module in the current folder, which has not been imported."""
    name = f"own_{abs(hash(tmp_path))}"
    wrong = (WRONG_NET.format(name=name, argument=argument) for name, argument in WRONG.items())
    Path(f"{name}.py").write_text(textwrap.dedent(NET) + "".join(wrong))
    yield name
    sys.modules.pop(name, None)
    import_model.cache_clear()


def test_what_has_the_form_of_a_name() -> None:
    assert all(map(is_own_model, ("a:B", "a.b_2.c:B.C")))
    assert not any(map(is_own_model, ("cnn", "a:", ":B", "a b:C", "a:B()", "/a:B", None, ["a:B"])))


def test_the_arguments_of_the_constructor_are_flags(module: str, capsys: Capture) -> None:
    words = f"--model {module}:Net --max-steps 3 --gated --sizes 7,8 --kind deep --width=16"
    assert main(["fit", *words.split(), "--print_config"]) == 0
    config = yaml.safe_load(capsys.readouterr().out)
    assert (config["model"], config["max_steps"]) == (f"{module}:Net", 3)
    own = {name: config[name] for name in ("width", "gated", "sizes", "kind", "lr")}
    assert own == {"width": 16, "gated": True, "sizes": [7, 8], "kind": "deep", "lr": 0.1}
    assert "num_classes" not in config


def test_the_help_tells_them_from_the_docstring(module: str, capsys: Capture) -> None:
    assert main(["fit", "--model", f"{module}:Net", "--help"]) == 0
    text = capsys.readouterr().out
    own = text.partition("settings of Net:\n")[2].splitlines()
    for name, told in (
        ("width N", "number of hidden units [4]"),
        ("gated", "whether there are gates"),
        ("sizes N", "some sizes [2,3]"),
        ("kind NAME", "plain|deep; kind of layer [plain]"),
        ("lr X", "learning rate, above 0 [0.1]"),  # from the class that it inherits from
    ):
        assert any(f"--{name}" in line and line.endswith(told) for line in own), own
    assert main(["fit", "--model", f"{module}:Strict", "--help"]) == 0
    assert "number of units" in capsys.readouterr().out


def test_python_takes_the_class_itself(module: str) -> None:
    net = import_model(f"{module}:Net")
    plan = Plan.of(net, max_epochs=1, width=5)
    assert plan == Plan.of(f"{module}:Net", max_epochs=1, width=5)
    assert plan.model_settings["width"] == 5
    assert name_of(net) == plan.settings.model == f"{module}:Net"
    assert Plan.of(f"{module}:Strict", max_steps=1, width=2).as_call() == (
        f"cifar_lab.fit('{module}:Strict', max_steps=1, width=2)"
    )


def test_a_recipe_of_ones_own_holds_its_settings(module: str) -> None:
    Path("my.yaml").write_text(f"model: {module}:Net\nmax_steps: 9\nwidth: 6\n")
    plan = Plan.of(f"{module}:Net", recipe="my.yaml")
    assert (plan.settings.max_steps, plan.model_settings["width"]) == (9, 6)
    assert Plan.from_config(plan.as_config(), "", f"{module}:Net") == plan


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["Net"], "Net: give --max_steps or --max_epochs"),
        (["Net", "--widht", "3"], "--widht: unknown; did you mean --width?"),
        (["Net", "--dropout", "0.1"], "--dropout: a setting of deep_mlp, fast_mlp, not of own_"),
        (["Net", "--kind", "flat"], "--kind flat: expected one of plain, deep"),
        (["Nett"], "cannot be imported (AttributeError"),
        (["Strict", "--max_steps", "1"], "--width: "),
        (["Untyped"], "the argument width needs a type that a setting may have"),
        (["Odd"], "the argument layer needs a type that a setting may have"),
        (["Unreadable"], "its annotations cannot be read (name 'Missing' is not defined)"),
        (["Taken", "--max_steps", "1"], "its setting batch_size is one of every run; rename it"),
        (["NoClassifier"], "expected a subclass of cifar_lab.models.ImageClassifier"),
    ],
)
def test_what_is_wrong_with_a_model_is_explained(words, message, module: str, refused) -> None:
    assert message in refused("fit", "--model", f"{module}:{words[0]}", *words[1:])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("import no_such_module", "ModuleNotFoundError: No module named 'no_such_module'"),
        ("raise RuntimeError('a\\nb')", "RuntimeError: a)"),
        ("import sys; sys.exit(3)", "SystemExit: 3)"),
        ("def", "SyntaxError"),
    ],
)
def test_a_module_that_fails_is_explained_in_a_line(text: str, message: str, refused) -> None:
    Path("broken_module.py").write_text(text)
    told = f"--model broken_module:Net: cannot be imported ({message}"
    assert told in refused("fit", "--model", "broken_module:Net")


def test_no_file_makes_its_model_be_imported(module: str, refused) -> None:
    name = f"{module}:Net"
    told = f"a model of your own: give --model {name}"
    run = Path("logs/Net/version_0")
    (run / "checkpoints").mkdir(parents=True)
    (run / "checkpoints" / "last.ckpt").touch()
    config = Plan.of("mlp").as_config() | {"model": name, "recipe": name}
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    Path("theirs.yaml").write_text(f"model: {name}\nmax_steps: 1\n")
    Path("config.yaml").write_text("recipe: theirs.yaml\n")
    for flags in (
        f"--resume {run}",
        f"--resume {run} --model mlp",
        f"--config {run}/config.yaml",
        "--recipe theirs.yaml",
        "--recipe theirs.yaml --help",
        "--config theirs.yaml",
        "--config config.yaml",
    ):
        assert told in refused("fit", *flags.split())
    with pytest.raises(UserError, match=told):
        _ = Run.open(run).plan
    plan = Plan.from_config({"recipe": "theirs.yaml"}, "config.yaml: ")
    assert plan.settings.model == "cnn"  # the recipe is not read
    assert module not in sys.modules
    assert not Path("imported").exists()
    assert main(["fit", "--config", "theirs.yaml", "--model", name, "--print_config"]) == 0


@pytest.fixture
def own_checkpoint(module: str) -> tuple[Path, str]:
    """A checkpoint of the model, and the name of the model; its module is not imported."""
    name = f"{module}:Net"
    model = import_model(name)(width=3, num_classes=2)
    model.normalize.fill(torch.zeros(3, 1, 1), torch.ones(3, 1, 1))
    origin = {"format": CHECKPOINT_FORMAT, "model": name, "class_names": ["bird", "cat"]}
    content = {"hyper_parameters": dict(model.hparams), "cifar_lab": {**origin, "data": {}}}
    torch.save({"state_dict": model.state_dict(), **content}, "own.ckpt")
    sys.modules.pop(module)
    import_model.cache_clear()
    Path("imported").unlink()
    return Path("own.ckpt"), name


def test_a_checkpoint_is_read_if_its_model_is_named(own_checkpoint: tuple[Path, str]) -> None:
    path, name = own_checkpoint
    for model in (None, "mlp"):
        with pytest.raises(UserError, match="If it is your own, name it: --model module:Class"):
            load_model(path, model=model)
    assert not Path("imported").exists()
    model = load_model(path, model=name)
    assert type(model).__name__ == "Net"
    assert model.class_names == ("bird", "cat")
    with pytest.raises(UserError, match=f"a model '{name}', not {name.replace('Net', 'Strict')}"):
        load_model(path, model=name.replace("Net", "Strict"))


def test_the_commands_take_its_name(own_checkpoint, write_tree, refused, call) -> None:
    path, name = own_checkpoint
    tree = write_tree(classes=("bird", "cat"), train=1, test=2)
    image = next(tree.glob("test/cat/*"))
    commands = (
        ["evaluate", path, "--data_dir", tree],
        ["predict", path, image],
        ["export", path, "--format", "torch"],
        ["export", path, "--format", "safetensors"],
    )
    for words in commands:
        assert f"own.ckpt: a model '{name}', which is not one of" in refused(*words)
    found = [call(*words, "--model", name) for words in commands]
    assert [status for status, _, _ in found] == [0, 0, 0, 0]
    assert call("predict", "own.safetensors", image, "--model", name) == found[1]
    assert f"own.ckpt ({name})" in found[0][1]
    assert settings_of_model(name)["width"].default == 4
