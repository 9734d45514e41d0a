"""Lists of integers as a command line has them, such as seeds."""

from __future__ import annotations

from cifar_lab.errors import UserError
from cifar_lab.files import shown

MOST = 10_000  # numbers of a list; a slip of the finger is more


def integers(flag: str, text: str) -> list[int]:
    """The different integers of a list such as "0,1,2" or "0..2,7".

    Raises:
        UserError: something else.
    """
    numbers: list[int] = []
    try:
        for part in text.split(","):
            first, dots, last = part.partition("..")
            found = range(int(first), int(last) + 1) if dots else [int(part)]
            if not 0 < len(found) <= MOST - len(numbers):
                raise ValueError
            numbers += found
    except (ValueError, OverflowError) as error:  # len() of a range takes 64 bits
        raise UserError(
            f"{flag} {shown(text)}: expected integers separated by commas, or a range 0..4; at "
            f"most {MOST:,}"
        ) from error
    return list(dict.fromkeys(numbers))
