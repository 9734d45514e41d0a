"""What the small commands share: flags, errors, exit statuses."""

import argparse
import io
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from cifar_lab import command_flags, command_line
from cifar_lab.errors import TrainingEndedError, UserError


def _parser() -> command_flags.Parser:
    parser = command_flags.Parser("tool.py", "Does things.")
    command_flags.add_checkpoint(parser)
    command_flags.add_device(parser)
    command_flags.add_data(parser)
    command_flags.add_output(parser, "the figure")
    return parser


def test_dashes_and_underscores_are_the_same() -> None:
    for word in ("--batch-size", "--batch_size"):
        options = _parser().parse(["a-b.ckpt", word, "7", "--data-dir=x-y"])
        assert (options.batch_size, options.data_dir, str(options.checkpoint)) == (
            7,
            "x-y",
            "a-b.ckpt",
        )


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["c", "--batchsize", "2"], "did you mean --batch_size"),
        (["c", "--batch", "2"], "unknown"),  # no abbreviations
        (["c", "--batch_size", "0"], "positive integer"),
        (["c", "--accelerator", "tpu"], "tpu"),
        (["c", "d"], "'d'"),
        ([], "CKPT"),
    ],
)
def test_what_is_wrong_is_said(words: list[str], said: str) -> None:
    with pytest.raises(UserError, match=said):
        _parser().parse(words)


@pytest.mark.parametrize(
    ("raised", "status", "said"),
    [
        (None, 7, ""),
        (UserError("no"), 2, "tool.py: no\n"),
        (KeyboardInterrupt(), 130, "\nInterrupted.\n"),
        (SystemExit(1), 130, "\nInterrupted.\n"),
        (SystemExit(0), 0, ""),
        (TrainingEndedError(130), 130, "\nInterrupted.\n"),
        (TrainingEndedError(143), 143, "\nInterrupted.\n"),
        (
            TrainingEndedError(1),
            1,
            "tool.py: a training ended with exit status 1; what is finished is kept\n",
        ),
    ],
)
def test_exit_statuses(
    raised: BaseException | None, status: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    @command_line.command("tool.py")
    def main(argv: Sequence[str]) -> int:
        if raised:
            raise raised
        return 7

    assert main([]) == status
    assert capsys.readouterr() == ("", said)


@pytest.mark.parametrize(("status", "expected"), [(0, 141), (130, 130)])
def test_an_output_that_nobody_reads_keeps_another_status(
    status: int, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Unread:
        def flush(self) -> None:
            raise BrokenPipeError

    @command_line.command("tool.py")
    def main(argv: Sequence[str]) -> int:
        return status

    monkeypatch.setattr("sys.stdout", Unread())
    monkeypatch.setattr(command_line, "discard", lambda stream: None)
    assert main([]) == expected


def _ends(raised: Exception | None = None, said: str = "") -> Callable[[Sequence[str]], int]:
    @command_line.command("tool.py")
    def main(argv: Sequence[str]) -> int:
        print(said, end="")
        if raised:
            raise raised
        return 0

    return main


def test_out_of_memory_is_said_in_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert _ends(RuntimeError("CUDA out of memory. Tried"))([]) == 1
    told = capsys.readouterr().err
    assert told == (
        "tool.py: out of memory (CUDA out of memory. Tried). A smaller --batch_size needs less.\n"
    )
    with pytest.raises(RuntimeError, match="another"):
        _ends(RuntimeError("another"))([])


def test_names_that_the_output_cannot_show_are_escaped(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = io.BytesIO()
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(shown, encoding="latin-1"))
    assert _ends(said="фото ü")([]) == 0
    assert shown.getvalue() == b"\\u0444\\u043e\\u0442\\u043e \xfc"


def test_a_closed_output_is_no_obstacle(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout", None)
    assert _ends(said="x")([]) == 0
    sys.stdout.close()


def test_a_missing_error_stream_is_no_obstacle(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr", None)
    assert _ends(UserError("no"))([]) == 2
    assert sys.stderr is not None  # for bars, which write to it
    sys.stderr.close()


def test_json_is_json_whatever_the_output_can_show(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = io.BytesIO()
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(shown, encoding="ascii"))

    @command_line.command("tool.py")
    def main(argv: Sequence[str]) -> int:
        command_line.print_json(argparse.Namespace(json=True), lambda: {"folder": "données"})
        return 0

    assert main([]) == 0
    sys.stdout.flush()
    assert json.loads(shown.getvalue()) == {"folder": "données"}


def test_trying_a_file_touches_none_of_those_beside_it() -> None:
    Path("r.json.part").write_text("notes")
    command_line.check_writable("--output", Path("r.json"))
    assert [path.name for path in Path().iterdir()] == ["r.json.part"]
    assert Path("r.json.part").read_text() == "notes"


def test_a_closed_error_stream_is_no_obstacle(monkeypatch: pytest.MonkeyPatch) -> None:
    class Unread(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    discarded = []
    monkeypatch.setattr("sys.stderr", Unread())
    monkeypatch.setattr(command_line, "discard", discarded.append)
    assert _ends(UserError("no"))([]) == 2
    assert len(discarded) == 1


def test_behind_two_dashes_words_are_left_as_they_are() -> None:
    words = ["--batch-size", "2", "--", "--my-photo.png"]
    assert command_flags.underscored(words) == ["--batch_size", "2", "--", "--my-photo.png"]


@pytest.mark.parametrize("words", [[""], ["a.ckpt", "--output", ""]])
def test_no_path_is_not_the_present_folder(words: list[str]) -> None:
    with pytest.raises(UserError, match="expected a path, got nothing"):
        _parser().parse(words)


def test_an_output_is_tried_as_it_will_be_written(tmp_path: Path) -> None:
    command_line.check_writable("--output", tmp_path / "new" / "x.json")
    assert list((tmp_path / "new").iterdir()) == []
    (tmp_path / "old").write_text("kept")
    command_line.check_writable("--output", tmp_path / "old")
    assert (tmp_path / "old").read_text() == "kept"
    for path in (tmp_path, Path(os.devnull)):
        with pytest.raises(UserError, match=r"--output .*: not a file"):
            command_line.check_writable("--output", path)
