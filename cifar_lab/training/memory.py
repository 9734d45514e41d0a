"""Keep memory in the process while it trains on the CPU.

glibc returns large freed blocks to the kernel, and gets them again page by page, each cleared.
Training steps allocate the same blocks over and over. On malloc's settings:
https://man7.org/linux/man-pages/man3/mallopt.3.html
"""

import ctypes
import platform
from collections.abc import Iterator
from contextlib import contextmanager

# Names and numbers of glibc's malloc.h.
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _MMAP_MAX = -1, -3, -4
_KEEP = {_MMAP_MAX: 0, _TRIM_THRESHOLD: -1}
# glibc itself reaches this value once it has seen blocks of 32 MiB.
_USUAL = {_MMAP_MAX: 65_536, _MMAP_THRESHOLD: 32 << 20, _TRIM_THRESHOLD: 64 << 20}


@contextmanager
def kept_memory() -> Iterator[None]:
    """Keep freed memory in the process within this context, and return it to the kernel at its end.

    Do nothing where the C library is not glibc.
    """
    if platform.libc_ver()[0] != "glibc":
        yield
        return
    libc = ctypes.CDLL(None)
    _set(libc, _KEEP)
    try:
        yield
    finally:
        _set(libc, _USUAL)
        libc.malloc_trim(0)


def _set(libc: ctypes.CDLL, values: dict[int, int]) -> None:
    for name, value in values.items():
        libc.mallopt(name, value)
