"""The files that commands write, tried before hours of work, and JSON that stands alone."""

import io
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from cifar_lab.cli.output import check_writable, print_json, writing
from cifar_lab.errors import UserError


def test_a_file_is_tried_as_it_will_be_written_and_nothing_is_changed() -> None:
    check_writable("--output", None)
    check_writable("--output", Path("new/x.json"))
    assert list(Path("new").iterdir()) == []
    for name in ("old", "new/x.json.part"):
        Path(name).write_text("kept")
    for name in ("old", "new/x.json"):
        check_writable("--output", Path(name))
    assert [path.name for path in Path("new").iterdir()] == ["x.json.part"]
    assert Path("old").read_text() == Path("new/x.json.part").read_text() == "kept"


def test_what_is_wrong_is_said_with_the_flag(tmp_path: Path) -> None:
    for path in (tmp_path, Path(os.devnull)):
        with pytest.raises(UserError, match=rf"^--output {path}: not a file$"):
            check_writable("--output", path)
    Path("file").touch()
    told = r"^--json_out file/x/y: cannot be written \(Not a directory\)$"
    with pytest.raises(UserError, match=told), writing("--json_out", Path("file/x/y")):
        pass
    told = r"^--out a/b: cannot be written \(No space"
    with pytest.raises(UserError, match=told), writing("--out", Path("a/b")):
        raise OSError(28, "No space left on device")
    assert Path("a").is_dir()


def test_json_is_alone_on_the_output(capsys: pytest.CaptureFixture[str]) -> None:
    def work() -> dict[str, Any]:
        print("working")
        return {"a": [1, None]}

    assert print_json(True, work) == {"a": [1, None]}
    assert capsys.readouterr() == ('{"a": [1, null]}\n', "working\n")
    assert print_json(False, work) == {"a": [1, None]}
    assert capsys.readouterr() == ("working\n", "")


def test_json_is_json_whatever_the_output_can_show(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = io.BytesIO()
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(shown, encoding="ascii"))
    print_json(True, lambda: {"folder": "données"})
    sys.stdout.flush()
    assert json.loads(shown.getvalue()) == {"folder": "données"}
