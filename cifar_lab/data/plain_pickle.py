"""An unpickler for the original files of CIFAR-10 that runs no code of theirs.

It knows dictionaries, lists, numbers, strings and arrays of bytes, and refuses the rest. An array
becomes ``PixelBytes`` and not NumPy's own, whose state is not checked when it is unpickled.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable
from typing import Any


class PixelBytes:
    """A uint8 array of a pickle, as it was stored.

    Attributes:
        content: its bytes, in C order.
    """

    content = b""

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        """Takes NumPy's state: version, shape, dtype, whether columns come first, bytes."""
        _, _, kind, by_columns, content = state
        if kind != "uint8" or by_columns or not isinstance(content, bytes):
            raise pickle.UnpicklingError("an array that is not of uint8 in C order")
        self.content = content


class _Uint8(str):
    """The only dtype; the pickle repeats its byte order and size, which say nothing here."""

    def __setstate__(self, state: object) -> None:
        pass


def unpickle(content: bytes) -> Any:
    """What the pickle holds; strings of Python 2, which wrote the originals, become bytes.

    Raises:
        Exception: of any kind, where the content is not that of such a file.
    """
    return _PlainUnpickler(io.BytesIO(content), encoding="bytes").load()


# The unpickler that is written in Python: for one wrong number in a damaged file, the one in C
# reserves and fills memory without limit. It is as fast here, where nearly all is one string.
class _PlainUnpickler(pickle._Unpickler):
    # Without mutable bytes, for which it too would reserve whatever the file says.
    dispatch = {  # noqa: RUF012
        code: load
        for code, load in pickle._Unpickler.dispatch.items()
        if code != pickle.BYTEARRAY8[0]
    }

    def find_class(self, module: str, name: str) -> Callable[..., Any]:
        # New functions each time: a pickle may set attributes of what it is given.
        allowed: dict[tuple[str, str], Callable[..., Any]] = {
            ("numpy.core.multiarray", "_reconstruct"): lambda *_: PixelBytes(),
            ("numpy._core.multiarray", "_reconstruct"): lambda *_: PixelBytes(),
            ("numpy", "ndarray"): lambda *_: PixelBytes(),
            ("numpy", "dtype"): lambda kind, *_: _dtype(kind),
            ("_codecs", "encode"): lambda text, _: _encode(text),
        }
        try:
            return allowed[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"{module}.{name} is not allowed here") from None


def _dtype(kind: bytes | str) -> _Uint8:
    if kind not in (b"u1", "u1"):
        raise pickle.UnpicklingError(f"an array of {kind!r} instead of uint8")
    return _Uint8("uint8")


def _encode(text: bytes | str) -> bytes:
    """How Python 3 writes bytes in protocol 2: as text of Latin-1."""
    return text.encode("latin1") if isinstance(text, str) else text
