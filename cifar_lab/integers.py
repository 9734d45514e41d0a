"""Lists of integers as a command line has them, such as seeds."""

from __future__ import annotations

from cifar_lab.errors import UserError


def integers(flag: str, text: str) -> list[int]:
    """The different integers of a list such as "0,1,2" or "0..2,7".

    Raises:
        UserError: something else.
    """
    numbers: list[int] = []
    try:
        for part in text.split(","):
            first, dots, last = part.partition("..")
            numbers += range(int(first), int(last) + 1) if dots else [int(part)]
    except ValueError:
        numbers = []
    if not numbers:
        raise UserError(f"{flag} {text}: expected integers separated by commas, or a range 0..4")
    return list(dict.fromkeys(numbers))
