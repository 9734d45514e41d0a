"""Text as Markdown: what must not break a table or a block of code."""

from cifar_lab.dashboards.text import code_block, table


def test_a_cell_keeps_to_its_row_and_column() -> None:
    lines = table({"command": "a | b\nc", "seed": 0}).splitlines()
    assert lines == ["| what | value |", "|---|---|", "| command | a \\| b c |", "| seed | 0 |"]


def test_code_is_indented_as_a_whole() -> None:
    assert code_block("lr: 0.1\nbatch_size: 2\n") == "    lr: 0.1\n    batch_size: 2"
