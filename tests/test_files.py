"""Files that are written whole or not at all."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from cifar_lab import files
from cifar_lab.cli import main


def test_a_rename_that_windows_forbids_for_a_while_is_tried_again(monkeypatch) -> None:
    replace, tries = os.replace, []

    def busy(source: Path, target: Path) -> None:
        tries.append(target)
        if len(tries) < 3:
            raise PermissionError("another program reads it")
        replace(source, target)

    monkeypatch.setattr("sys.platform", "win32")
    monkeypatch.setattr(files, "RENAME_PAUSES", (0.0, 0.0, 0.0))
    monkeypatch.setattr("os.replace", busy)
    files.write_atomically(Path("x"), b"new")
    assert (len(tries), Path("x").read_bytes()) == (3, b"new")
    monkeypatch.setattr("sys.platform", "linux")
    tries.clear()
    with pytest.raises(PermissionError):
        files.write_atomically(Path("x"), b"newer")
    assert Path("x").read_bytes() == b"new"
    assert not Path("x.part").exists()


def test_json_files_hold_names_that_are_no_utf8() -> None:
    content = {"command": "--data_dir /tmp/\udcff", "name": "Bücher"}
    files.write_json(Path("x.json"), content)
    text = Path("x.json").read_text("utf-8")
    assert json.loads(text) == content
    assert "Bücher" in text


RUN = "logs/mlp-synthetic/version_0"
WRITING = (  # commands that write files, and those that write them again, into the same folders
    (
        "fit --model mlp --hidden_units 8 --source synthetic --max_steps 4 --log_dir logs",
        f"fit --resume {RUN} --max_steps 6",
    ),
    (f"evaluate {RUN} --tta flip",) * 2,
    (f"export {RUN} --format torch",) * 2,
    ("report --quick --systems mlp --source synthetic --output out --reference ref",) * 2,
)


@pytest.mark.parametrize("link", [os.symlink, os.link])
def test_no_command_writes_through_a_link(link: Callable[[Path, Path], None]) -> None:
    """Every file that the commands wrote becomes a link to another one, and they run again."""
    for words, _ in WRITING:
        assert main(words.split()) == 0
    others = {}
    written = [path for folder in ("logs", "out", "ref") for path in Path(folder).rglob("*")]
    for number, path in enumerate(filter(Path.is_file, written)):
        other = path.rename(Path(f"other_{number}").absolute())
        os.utime(other, (1, 1))
        others[other] = other.read_bytes()
        link(other, path)
    for _, words in WRITING:
        assert main(words.split()) == 0
    assert {other: other.read_bytes() for other in others} == others
    assert {other.stat().st_mtime for other in others} == {1}
