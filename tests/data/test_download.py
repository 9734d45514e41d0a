"""Downloading from servers that break off, stall, trickle, lie or are not there at all.

The mirrors are paths of one local server; the name of a path is that of an answer in ``FIXED``, or
of the method of ``Handler`` that answers it. No address outside this machine is asked.
"""

import contextlib
import errno
import hashlib
import io
import os
import random
import re
import socket
import subprocess
import sys
import threading
import time
import urllib.request
import urllib.response
from concurrent.futures import ThreadPoolExecutor
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from unittest.mock import Mock

import pytest

from cifar_lab.data import download, mirror, progress
from cifar_lab.data.download import ARCHIVE_NAME, DownloadError, download_archive
from cifar_lab.errors import UserError

pytestmark = pytest.mark.timeout(60)  # a broken time limit shows as a test that hangs

ARCHIVE = b"\x1f\x8b" + random.Random(0).randbytes(59_998)
WRONG = ARCHIVE[:-1] + b"?"
THIRD = len(ARCHIVE) // 3
REST = f"bytes={THIRD}-"  # the Range header for what follows the first third
DEFAULT_ANSWER_SECONDS = download.ANSWER_SECONDS  # before a fixture shortens it

# Answers: status, body and headers. Names that end in "_range" are for requests of a range only.
LENGTH = {"Content_Length": len(ARCHIVE)}
FIXED: dict[str, tuple[int, bytes, dict[str, object]]] = {
    "no_range": (200, ARCHIVE, LENGTH),
    "no_range_breaks_off": (200, ARCHIVE[: THIRD // 2], LENGTH),
    "refuses_range": (416, b"", {}),
    "wrong_range": (206, b"wrong", {"Content_Length": 5, "Content_Range": "bytes 0-4/5"}),
    "wrong_length": (200, ARCHIVE[:-1], {"Content_Length": len(ARCHIVE) - 1}),
    "login_page": (200, b"<html>Please log in</html>", {"Content_Type": "text/html"}),
    "empty": (200, b"", {}),
    "missing": (404, b"", {}),
}


class Server(ThreadingHTTPServer):
    """Records what it was asked and what it sent; ``released`` ends the answers that hang."""

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.folder = folder
        self.released = threading.Event()
        self.asked: list[tuple[str, str | None]] = []  # (mirror, Range header)
        self.sent: list[int] = []  # bytes of each answer's body

    def url(self, mirror: str) -> str:
        return f"http://127.0.0.1:{self.server_port}/{mirror}"

    def urls(self, *mirrors: str) -> list[str]:
        return [self.url(mirror) for mirror in mirrors]

    def fetch(self, *mirrors: str, folder: Path | None = None) -> list[str]:
        """Download from these mirrors; return the lines that were reported."""
        told, folder = [], folder or self.folder
        assert download_archive(folder, self.urls(*mirrors), told.append) == folder / ARCHIVE_NAME
        assert_only_the_archive(folder)
        return told


class Handler(BaseHTTPRequestHandler):
    server: Server

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        mirror = self.path.rsplit("/", 1)[-1]
        self.server.asked.append((mirror, self.headers["Range"]))
        self.answer = len(self.server.sent)
        self.server.sent.append(0)
        with contextlib.suppress(ConnectionError):  # the client has left
            if mirror not in FIXED:
                getattr(self, mirror)()
            elif mirror.endswith("_range") and not self.headers["Range"]:
                self.good()
            else:
                status, data, headers = FIXED[mirror]
                self.head(status, **headers)
                self.body(data)

    def head(self, status: int, **headers: object) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()

    def body(self, data: bytes) -> None:
        self.server.sent[self.answer] += len(data)  # before the client can have them
        self.wfile.write(data)

    def begin(self) -> bytes:
        """Send the headers of a good answer; return the bytes that should follow."""
        if not self.headers["Range"]:
            self.head(200, Content_Length=len(ARCHIVE))
            return ARCHIVE
        start = int(self.headers["Range"].removeprefix("bytes=").removesuffix("-"))
        span = f"bytes {start}-{len(ARCHIVE) - 1}/{len(ARCHIVE)}"
        self.head(206, Content_Length=len(ARCHIVE) - start, Content_Range=span)
        return ARCHIVE[start:]

    def good(self) -> None:
        self.body(self.begin())

    def breaks_off(self) -> None:
        self.body(self.begin()[:THIRD])

    def stalls(self) -> None:
        data = self.begin()
        self.body(data[:THIRD])
        self.server.released.wait()
        self.body(data[THIRD:])

    def trickles(self) -> None:
        data = self.begin()
        for start in range(0, len(data), 6_000):
            self.body(data[start : start + 6_000])
            self.server.released.wait(0.05)

    def mute(self) -> None:
        self.server.released.wait()

    def wrong_bytes(self) -> None:
        self.body(self.begin()[:-1] + b"?")

    def endless(self) -> None:
        self.head(200)
        self.body(WRONG)
        while not self.server.released.is_set():
            self.body(bytes(10_000))

    def redirects(self) -> None:
        self.head(302, Location=self.server.url("good"))

    def redirects_to_ftp(self) -> None:
        self.head(302, Location=f"ftp://127.0.0.1:{self.server.server_port}/good")


@pytest.fixture
def server(tmp_path: Path):
    with Server(tmp_path) as server, ThreadPoolExecutor(1) as pool:
        pool.submit(server.serve_forever, 0.01)
        yield server
        server.released.set()
        server.shutdown()


@pytest.fixture(autouse=True)
def small_and_local(monkeypatch) -> None:
    """A small archive, short time limits, and no address but those of the test's server."""
    monkeypatch.setattr(download, "ARCHIVE_SIZE", len(ARCHIVE))
    monkeypatch.setattr(download, "ARCHIVE_MD5", hashlib.md5(ARCHIVE).hexdigest())
    monkeypatch.setattr(download, "MIRRORS", ("http://127.0.0.1:9/closed",))
    monkeypatch.setattr(download, "ANSWER_SECONDS", 3.0)
    monkeypatch.setattr(mirror, "CHUNK_BYTES", 7_000)  # the archive is of several
    monkeypatch.setattr(mirror, "STALL_SECONDS", 10.0)  # on a busy machine
    monkeypatch.setattr(mirror, "SPEED_WINDOW_SECONDS", 10.0)
    monkeypatch.setattr(mirror, "MIN_BYTES_PER_SECOND", 300_000)
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy", "cifar_lab_mirror"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


def assert_only_the_archive(folder: Path) -> None:
    assert [path.name for path in folder.iterdir()] == [ARCHIVE_NAME]
    assert (folder / ARCHIVE_NAME).read_bytes() == ARCHIVE


@pytest.fixture
def part(tmp_path: Path) -> Path:
    """What an interrupted download left in ``tmp_path``: the first third."""
    path = tmp_path / f"{ARCHIVE_NAME}.part"
    path.write_bytes(ARCHIVE[:THIRD])
    return path


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    (tmp_path / ARCHIVE_NAME).write_bytes(ARCHIVE)
    return tmp_path / ARCHIVE_NAME


def test_verified_archive_needs_no_server(archive, monkeypatch) -> None:
    md5 = Mock(wraps=hashlib.md5)
    monkeypatch.setattr(download.hashlib, "md5", md5)
    monkeypatch.setattr(download, "_own_part", None)  # the folder may be read-only
    assert download_archive(archive.parent) == archive
    md5.assert_called_once_with(ARCHIVE, usedforsecurity=False)  # as in FIPS mode


@pytest.mark.parametrize("content", [WRONG, b"damaged"])
def test_damaged_archive_is_kept_until_it_is_replaced(server, archive, content: bytes) -> None:
    archive.write_bytes(content)
    with pytest.raises(DownloadError):
        server.fetch("missing")
    assert archive.read_bytes() == content
    assert server.fetch("good")[0] == f"{archive} is damaged: downloading it anew"


@pytest.mark.parametrize(
    ("mirror", "asked", "sent"),
    [
        ("good", [("good", REST)], len(ARCHIVE) - THIRD),
        ("redirects", [("redirects", REST), ("good", REST)], len(ARCHIVE) - THIRD),
        ("no_range", [("no_range", REST)], len(ARCHIVE)),
        ("refuses_range", [("refuses_range", REST), ("refuses_range", None)], len(ARCHIVE)),
        ("wrong_range", [("wrong_range", REST), ("wrong_range", None)], len(ARCHIVE)),
    ],
)
@pytest.mark.usefixtures("part")
def test_a_part_is_resumed_where_the_server_can(server, mirror: str, asked: list, sent) -> None:
    server.fetch(mirror)
    assert server.asked == asked
    assert server.sent[-1] == sent


WHOLE, ANEW = [], [("good", None)]


@pytest.mark.parametrize(
    ("content", "asked"),
    [(ARCHIVE, WHOLE), (b"\x1f\x8b" + bytes(99), ANEW), (bytes(len(ARCHIVE) + 1), ANEW)],
)
def test_complete_part_is_used_and_a_damaged_one_dropped(server, part, content, asked) -> None:
    part.write_bytes(content)
    server.fetch("good")
    assert server.asked[-1:] == asked


@pytest.mark.parametrize(
    ("error", "raised"),
    [(KeyboardInterrupt(), KeyboardInterrupt), (OSError(errno.ENOSPC, "Disk full"), UserError)],
)
def test_interruption_and_full_disk_keep_the_part(server, part, error, raised, monkeypatch) -> None:
    monkeypatch.setattr(download.os, "fsync", Mock(side_effect=error))
    said = f"in the folder {part.parent}: Disk full" if raised is UserError else None
    with pytest.raises(raised, match=said):
        server.fetch("breaks_off")
    assert list(part.parent.iterdir()) == [part]
    assert part.read_bytes() == ARCHIVE[: 2 * THIRD]


def test_folder_that_cannot_be_written_is_named(server, monkeypatch) -> None:
    error = PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    monkeypatch.setattr(os, "open", Mock(side_effect=error))  # as for anybody but root
    with pytest.raises(UserError, match="--data_dir") as failure:
        server.fetch("good")
    assert f"in the folder {server.folder}:" in str(failure.value)
    assert server.asked == []


@pytest.mark.parametrize("name", [f"{ARCHIVE_NAME}.part", f"{ARCHIVE_NAME}.lock"])
@pytest.mark.parametrize("kind", ["link", "hard link", "pipe"])
def test_nothing_is_written_through_a_link_or_into_a_pipe(server, name: str, kind: str) -> None:
    other, path = server.folder / "other", server.folder / "data" / name
    other.write_text("mine")
    path.parent.mkdir()
    make = {"link": os.symlink, "hard link": os.link, "pipe": lambda _, path: os.mkfifo(path)}
    make[kind](other, path)
    with pytest.raises(UserError, match="is a link, pipe or folder; remove it"):
        server.fetch("good", folder=path.parent)
    assert other.read_text() == "mine"


@pytest.mark.parametrize(
    ("first", "why"),
    [("breaks_off", "broke off at 0.0 of 0.1 MB"), ("stalls", "sent nothing for 0.8 s")],
)
def test_the_next_mirror_sends_only_what_is_missing(server, first, why, monkeypatch) -> None:
    monkeypatch.setattr(mirror, "STALL_SECONDS", 0.8 if first == "stalls" else 10.0)
    assert f"127.0.0.1: {why}" in server.fetch(first, "good")
    assert server.asked == [(first, None), ("good", REST)]
    assert server.sent == [THIRD, len(ARCHIVE) - THIRD]


@pytest.mark.parametrize("damaged", [0, len(ARCHIVE)])  # bytes of a part, which less replaces
def test_a_server_is_asked_again_as_long_as_bytes_come(server, part, damaged: int) -> None:
    part.write_bytes(bytes(damaged))
    server.fetch("breaks_off")
    assert [start for _, start in server.asked] == [None, "bytes=20000-", "bytes=40000-"]


@pytest.mark.parametrize("mirror", ["wrong_bytes", "endless"])
def test_after_wrong_bytes_the_next_mirror_begins_at_zero(server, mirror: str) -> None:
    wrong = hashlib.md5(WRONG).hexdigest()  # an endless body is cut off at the archive's size
    said = f"127.0.0.1: wrong file, md5 {wrong} instead of {download.ARCHIVE_MD5}"
    with pytest.raises(DownloadError) as failure:
        server.fetch(mirror)
    assert said in str(failure.value)
    assert list(server.folder.iterdir()) == []
    assert said in server.fetch(mirror, "good")
    assert server.asked == [(mirror, None), (mirror, None), ("good", None)]


@pytest.mark.parametrize(
    ("mirror", "answer"),
    [
        ("missing", "HTTP 404"),
        ("wrong_length", "offers 59999 bytes instead of "),
        ("login_page", "sent text/html instead of the archive"),
        ("empty", "sent nothing instead of the archive"),
        ("redirects_to_ftp", "not an answer of HTTP"),
        ("mute", "no answer within 0.2 s"),
    ],
)
def test_useless_mirror_is_told_and_costs_nothing(
    server, part, mirror, answer, monkeypatch
) -> None:
    answer_by_ftp = urllib.response.addinfourl(io.BytesIO(), Message(), "")
    monkeypatch.setattr(urllib.request.FTPHandler, "ftp_open", lambda *given: answer_by_ftp)
    monkeypatch.setattr(download, "ANSWER_SECONDS", 0.2 if mirror == "mute" else 3.0)
    for folder, left in ((part.parent, [part]), (part.parent / "new" / "data", [])):
        with pytest.raises(DownloadError) as failure:
            server.fetch(mirror, folder=folder)
        assert f"127.0.0.1: {answer}" in str(failure.value)
        assert str(failure.value).count("\n") == 1
        assert f"Put the file of {server.url(mirror)} into {folder}" in str(failure.value)
        assert list(folder.iterdir()) == left
    assert part.read_bytes() == ARCHIVE[:THIRD]


@pytest.mark.usefixtures("part")
def test_whole_that_breaks_off_costs_no_byte_of_the_part(server) -> None:
    server.fetch("no_range_breaks_off", "good")
    assert server.asked[-1] == ("good", REST)


@pytest.mark.parametrize("mirrors", [["trickles", "good"], ["trickles", "missing"], ["trickles"]])
def test_slow_mirror_is_accepted_when_there_is_no_other(server, mirrors, monkeypatch) -> None:
    monkeypatch.setattr(mirror, "SPEED_WINDOW_SECONDS", 0.12)
    monkeypatch.setattr(download, "MAX_ROUNDS", 2)
    is_left = "127.0.0.1: too slow, " in "\n".join(server.fetch(*mirrors))
    assert [name for name, _ in server.asked][: len(mirrors)] == mirrors
    assert is_left == (len(mirrors) > 1)
    assert server.asked[-1][0] == ("good" if "good" in mirrors else "trickles")


def test_hanging_name_lookups_end_in_an_error_in_time(monkeypatch) -> None:
    end = threading.Event()

    def hang(*_: object) -> None:
        end.wait(20)
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    monkeypatch.setattr(download, "ANSWER_SECONDS", 0.6)
    began = time.monotonic()
    with pytest.raises(DownloadError, match=r"\(no answer within 0\.2 s\)"):
        download_archive(Path(), [f"http://{x}.test/x" for x in "abc"])
    assert time.monotonic() - began < 5
    assert DEFAULT_ANSWER_SECONDS < 10
    end.set()


def test_mirrors_are_the_argument_then_the_environment(server, monkeypatch, capsys) -> None:
    (closed,), (missing, good) = download.MIRRORS, server.urls("missing", "good")
    monkeypatch.setenv("CIFAR_LAB_MIRROR", f"{closed}, {missing} ,, {good}")
    download_archive(server.folder / "a")
    assert_only_the_archive(server.folder / "a")
    out, err = capsys.readouterr()
    told = ["127.0.0.1: Connection refused", "127.0.0.1: HTTP 404", f"Downloading {good} (0.1 MB)"]
    assert (out, err.splitlines()[:3]) == ("", told)
    server.fetch("no_range", folder=server.folder / "b")
    assert [mirror for mirror, _ in server.asked] == ["missing", "good", "no_range"]


@pytest.mark.parametrize(
    "url", ["ftp://127.0.0.1/x", "file:///x", "127.0.0.1/x", "http:///x", "http://[x/", "http://x"]
)
def test_mirror_that_is_not_http_is_refused(url: str) -> None:
    with pytest.raises(UserError, match="is not the http:// or https:// address") as failure:
        download_archive(Path(), [url])
    assert repr(url) in str(failure.value)
    assert list(Path().iterdir()) == []


def test_proxy_of_the_environment_is_asked(server, monkeypatch) -> None:
    monkeypatch.setenv("http_proxy", server.url(""))
    download_archive(server.folder, ["http://nowhere.test/good"])
    assert_only_the_archive(server.folder)


def test_downloads_at_once_share_one_transfer(server) -> None:
    archive = server.folder / "new" / ARCHIVE_NAME
    waiting = f"Waiting for another process that downloads {ARCHIVE_NAME} ({archive}.lock)"
    told: list[str] = []
    with ThreadPoolExecutor(3) as pool:
        for _ in range(3):
            pool.submit(download_archive, archive.parent, server.urls("stalls"), told.append)
        while told.count(waiting) < 2:
            time.sleep(0.01)
        server.released.wait(1.5)  # they look again meanwhile, but report it once
        server.released.set()
    assert_only_the_archive(archive.parent)
    assert server.asked == [("stalls", None)]
    assert told.count(waiting) == 2


@pytest.mark.parametrize("end", ["fails", "is killed"])
def test_waiting_download_goes_on_when_the_first_one_ends(server, end: str) -> None:
    folder, is_waiting = server.folder / "new", threading.Event()
    given = folder, server.urls("good"), lambda line: is_waiting.set()
    second = threading.Thread(target=download_archive, args=given)
    code = f"""
from pathlib import Path
from cifar_lab.data.download import _own_part
with _own_part(Path({str(folder / ARCHIVE_NAME)!r}), print):
    print("locked", flush=True)
    input()
"""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    root = Path(download.__file__).parents[2]
    with subprocess.Popen([sys.executable, "-c", code], cwd=root, **pipes) as first:
        assert first.stdout.readline() == b"locked\n"
        second.start()
        assert is_waiting.wait(5)
        if end == "is killed":
            first.kill()  # its lock file stays
        first.communicate(b"\n")
    second.join()
    assert_only_the_archive(folder)


@pytest.mark.skipif(sys.platform == "win32", reason="there is no flock")
@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP])
def test_file_system_without_locks_gets_its_own_part(server, part, number, monkeypatch) -> None:
    monkeypatch.setattr(download, "MAX_ROUNDS", 1)
    monkeypatch.setattr("fcntl.flock", Mock(side_effect=OSError(number, os.strerror(number))))
    with pytest.raises(DownloadError):
        server.fetch("breaks_off", "missing")
    assert list(part.parent.iterdir()) == [part]
    download_archive(part.parent, server.urls("good"))
    assert [server.asked[0], server.asked[-1]] == [("breaks_off", None), ("good", None)]
    assert sorted(path.name for path in part.parent.iterdir()) == [ARCHIVE_NAME, part.name]
    assert part.read_bytes() == ARCHIVE[:THIRD]


@pytest.mark.usefixtures("part")
def test_log_gets_address_and_size_then_a_line_now_and_then(server, monkeypatch) -> None:
    monkeypatch.setattr(progress, "LINE_SECONDS", 0.1)
    told = server.fetch("trickles")
    assert told[0] == f"Downloading {server.url('trickles')} (0.1 MB, resumed at 0.0 MB)"
    assert len(told) > 3
    assert told[-1].startswith(f"{ARCHIVE_NAME}  60.0kB of 60.0kB  ")
    assert told[-1].endswith("kB/s  00:00 left")


@pytest.mark.usefixtures("part")
def test_terminal_gets_one_bar_with_size_rate_and_time_left(server, monkeypatch) -> None:
    terminal = io.StringIO()
    terminal.isatty = lambda: True
    monkeypatch.setattr(sys, "stderr", terminal)
    assert server.fetch("trickles") == []
    states = terminal.getvalue().split("\r")[1:]
    assert len(states) > 2
    assert re.match(rf"{ARCHIVE_NAME}: 100%\|.* 60.0k/60.0k \[.*<00:00, .*B/s]\n$", states[-1])
    assert terminal.getvalue().count("\n") == 1
