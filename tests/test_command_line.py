"""What the small commands share: flags, errors, exit statuses."""

from collections.abc import Sequence

import pytest

from cifar_lab import command_line
from cifar_lab.errors import TrainingEndedError, UserError


def _parser() -> command_line.Parser:
    parser = command_line.Parser("tool.py", "Does things.")
    command_line.add_checkpoint(parser)
    command_line.add_device(parser)
    command_line.add_data(parser)
    command_line.add_output(parser, "the figure")
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
