"""``cifar-lab exercise``: stubs of layers to fill in, which ``check-gradients --file`` grades."""

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cifar_lab import gradient_check
from cifar_lab.cli.parser import Command
from cifar_lab.errors import UserError
from cifar_lab.settings import MISSING, Setting

STUBS = Path(gradient_check.__file__).with_name("stubs.py")
FOLDER = Setting(
    "folder", Path, MISSING, "folder for the file, created if it is missing", "arguments"
)
COMMAND = Command(
    "exercise",
    "Writes modules.py: the layers of the course with their signatures and definitions. You\n"
    "derive the gradients and write the code. check-gradients --file says what is right, what is\n"
    "wrong and what is not done yet. An existing file is never overwritten.\n\n"
    "Exit status: 0 done, 2 wrong input.",
    positionals=(FOLDER,),
    example="week1",
)


def run(options: Any, given: Mapping[str, str], command: str) -> int:
    """Run the command; return its exit status."""
    from cifar_lab.cli.main import program

    path = options.folder / "modules.py"
    try:
        options.folder.mkdir(parents=True, exist_ok=True)
        with path.open("x", encoding="utf-8") as stream:
            stream.write(stubs())
    except OSError as error:
        told = f"cannot be written ({error.strerror}); name another folder"
        raise UserError(f"{path}: {told}") from error
    print(f"{path}: written. Fill it in, and check it as often as you like:")
    print(f"{program('check-gradients')} --file {shlex.quote(str(path))}")
    return 0


def stubs() -> str:
    """Return the stubs; layer normalization has those of batch normalization, on another axis."""
    text = STUBS.read_text("utf-8")
    norm = text[text.index("class CustomBatchNorm") :].replace("Batch", "Layer")
    norm = norm.replace("each feature over the batch", "each sample over its C features")
    return f"{text}\n\n{norm.replace('divided by B', 'divided by C')}"
