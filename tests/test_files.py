"""Files that are written whole or not at all."""

import json
import os
from pathlib import Path

import pytest

from cifar_lab import files


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


def test_nothing_is_written_through_a_link() -> None:
    Path("notes").write_text("kept")
    Path("x.part").symlink_to("notes")
    with pytest.raises(FileExistsError):
        files.write_atomically(Path("x"), b"content")
    assert Path("notes").read_text() == "kept"
