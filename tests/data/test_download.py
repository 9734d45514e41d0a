"""Downloading from servers that break off, stall, trickle, lie or are not there at all.

The mirrors are paths of one local server; the name of a path is the name of the method of
``Handler`` that answers it. No address outside this machine is asked.
"""

import concurrent.futures
import contextlib
import errno
import functools
import hashlib
import io
import os
import random
import socket
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import pytest

from cifar_lab.data import download, file_lock, mirror, progress
from cifar_lab.data.download import ARCHIVE_NAME, DownloadError, download_archive
from cifar_lab.data.mirror import Answer, Mirror
from cifar_lab.errors import UserError

pytestmark = pytest.mark.timeout(60)  # a broken time limit shows as a test that hangs

ARCHIVE = b"\x1f\x8b" + random.Random(0).randbytes(59_998)
THIRD = len(ARCHIVE) // 3
DEFAULT_ANSWER_SECONDS = download.ANSWER_SECONDS  # before a fixture shortens it


class Server(ThreadingHTTPServer):
    """Remembers what was asked and sent; ``released`` ends the answers that hang."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.released = threading.Event()
        self.asked: list[tuple[str, str | None]] = []  # (mirror, Range header)
        self.sent: list[int] = []  # bytes of each answer's body

    def url(self, mirror: str) -> str:
        return f"http://127.0.0.1:{self.server_port}/{mirror}"

    def urls(self, *mirrors: str) -> list[str]:
        return [self.url(mirror) for mirror in mirrors]


class Handler(BaseHTTPRequestHandler):
    server: Server

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        mirror = self.path.rsplit("/", 1)[-1]
        self.server.asked.append((mirror, self.headers["Range"]))
        self.server.sent.append(0)
        with contextlib.suppress(ConnectionError):  # the client has left
            getattr(self, mirror)()

    def head(self, status: int, **headers: object) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()

    def body(self, data: bytes) -> None:
        self.wfile.write(data)
        self.server.sent[-1] += len(data)

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
        self.body(self.begin()[:THIRD])
        self.server.released.wait()

    def held(self) -> None:
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

    def no_range(self) -> None:
        self.head(200, Content_Length=len(ARCHIVE))
        self.body(ARCHIVE)

    def no_range_breaks_off(self) -> None:
        self.head(200, Content_Length=len(ARCHIVE))
        self.body(ARCHIVE[: THIRD // 2])

    def refuses_range(self) -> None:
        if self.headers["Range"]:
            self.head(416)
        else:
            self.good()

    def wrong_range(self) -> None:
        if self.headers["Range"]:
            self.head(206, Content_Length=5, Content_Range="bytes 0-4/5")
            self.body(b"wrong")
        else:
            self.good()

    def wrong_bytes(self) -> None:
        self.body(self.begin()[:-1] + b"?")

    def wrong_length(self) -> None:
        self.head(200, Content_Length=len(ARCHIVE) - 1)
        self.body(ARCHIVE[:-1])

    def login_page(self) -> None:
        self.head(200, Content_Type="text/html")
        self.body(b"<html>Please log in</html>")

    def empty(self) -> None:
        self.head(200)

    def missing(self) -> None:
        self.send_error(404)

    def endless(self) -> None:
        self.head(200)
        self.body(ARCHIVE[:-1] + b"?")
        while not self.server.released.is_set():
            self.body(bytes(10_000))

    def redirects(self) -> None:
        self.head(302, Location=self.server.url("good"))

    def redirects_to_ftp(self) -> None:
        self.head(302, Location=f"ftp://127.0.0.1:{self.server.server_port}/good")


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        thread = threading.Thread(target=functools.partial(server.serve_forever, 0.01))
        thread.start()
        yield server
        server.released.set()
        server.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def small_and_local(monkeypatch: pytest.MonkeyPatch) -> None:
    """A small archive, short time limits, and no address but those of the test's server."""
    monkeypatch.setattr(download, "ARCHIVE_SIZE", len(ARCHIVE))
    monkeypatch.setattr(download, "ARCHIVE_MD5", hashlib.md5(ARCHIVE).hexdigest())
    monkeypatch.setattr(download, "MIRRORS", ("http://127.0.0.1:9/closed",))
    monkeypatch.setattr(download, "ANSWER_SECONDS", 3.0)
    for module in (download, mirror):
        monkeypatch.setattr(module, "CHUNK_BYTES", 7_000)  # the archive is of several
    monkeypatch.setattr(mirror, "STALL_SECONDS", 10.0)  # on a busy machine
    monkeypatch.setattr(mirror, "SPEED_WINDOW_SECONDS", 10.0)
    monkeypatch.setattr(mirror, "MIN_BYTES_PER_SECOND", 300_000)
    monkeypatch.setattr(file_lock, "LOCK_POLL_SECONDS", 0.02)
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy", "cifar_lab_mirror"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def part(tmp_path: Path) -> Path:
    """What an interrupted download left in ``tmp_path``: the first third."""
    path = tmp_path / f"{ARCHIVE_NAME}.part"
    path.write_bytes(ARCHIVE[:THIRD])
    return path


def assert_only_the_archive(folder: Path) -> None:
    assert [path.name for path in folder.iterdir()] == [ARCHIVE_NAME]
    assert (folder / ARCHIVE_NAME).read_bytes() == ARCHIVE


def quietly(text: str) -> None:
    """A report for tests that do not look at it."""


def test_archive_is_downloaded_into_a_folder_that_did_not_exist(
    server: Server, tmp_path: Path
) -> None:
    folder = tmp_path / "new" / "data"
    assert download_archive(folder, server.urls("good"), quietly) == folder / ARCHIVE_NAME
    assert_only_the_archive(folder)
    assert server.asked == [("good", None)]


def test_verified_archive_is_returned_without_asking_anyone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ARCHIVE_NAME).write_bytes(ARCHIVE)
    monkeypatch.setattr(download, "own_part", None)  # the folder may be read-only
    assert download_archive(tmp_path, report=quietly) == tmp_path / ARCHIVE_NAME


def test_damaged_archive_is_named_and_replaced(server: Server, tmp_path: Path) -> None:
    (tmp_path / ARCHIVE_NAME).write_bytes(ARCHIVE[:-1] + b"?")
    told: list[str] = []
    download_archive(tmp_path, server.urls("good"), told.append)
    assert_only_the_archive(tmp_path)
    assert told[0] == f"{tmp_path / ARCHIVE_NAME} is damaged: downloading it anew"


def test_damaged_archive_is_kept_when_nothing_better_comes(server: Server, tmp_path: Path) -> None:
    (tmp_path / ARCHIVE_NAME).write_bytes(b"damaged")
    with pytest.raises(DownloadError):
        download_archive(tmp_path, server.urls("missing"), quietly)
    assert (tmp_path / ARCHIVE_NAME).read_bytes() == b"damaged"


@pytest.mark.parametrize(
    ("first", "why"),
    [("breaks_off", "broke off at 0.0 of 0.1 MB"), ("stalls", "sent nothing for 0.8 s")],
)
def test_only_missing_bytes_are_sent_by_the_next_mirror(
    server: Server,
    tmp_path: Path,
    first: str,
    why: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if first == "stalls":
        monkeypatch.setattr(mirror, "STALL_SECONDS", 0.8)
    told: list[str] = []
    download_archive(tmp_path, server.urls(first, "good"), told.append)
    assert f"127.0.0.1: {why}" in told
    assert_only_the_archive(tmp_path)
    assert server.asked == [(first, None), ("good", f"bytes={THIRD}-")]
    assert server.sent == [THIRD, len(ARCHIVE) - THIRD]


def test_part_of_an_earlier_download_is_resumed(server: Server, tmp_path: Path, part: Path) -> None:
    download_archive(tmp_path, server.urls("good"), quietly)
    assert_only_the_archive(tmp_path)
    assert server.asked == [("good", f"bytes={THIRD}-")]


def test_complete_part_needs_no_server(tmp_path: Path, part: Path) -> None:
    part.write_bytes(ARCHIVE)
    download_archive(tmp_path, report=quietly)
    assert_only_the_archive(tmp_path)


def test_server_that_breaks_off_is_asked_again_as_long_as_bytes_come(
    server: Server, tmp_path: Path
) -> None:
    download_archive(tmp_path, server.urls("breaks_off"), quietly)
    assert_only_the_archive(tmp_path)
    assert [start for _, start in server.asked] == [None, "bytes=20000-", "bytes=40000-"]


def test_server_without_range_sends_the_whole_anew(
    server: Server, tmp_path: Path, part: Path
) -> None:
    download_archive(tmp_path, server.urls("no_range"), quietly)
    assert_only_the_archive(tmp_path)
    assert server.sent == [len(ARCHIVE)]


def test_server_without_range_that_breaks_off_costs_no_byte_of_the_part(
    server: Server, tmp_path: Path, part: Path
) -> None:
    with pytest.raises(DownloadError):
        download_archive(tmp_path, server.urls("no_range_breaks_off"), quietly)
    assert part.read_bytes() == ARCHIVE[:THIRD]
    download_archive(tmp_path, server.urls("no_range_breaks_off", "good"), quietly)
    assert_only_the_archive(tmp_path)
    assert server.asked[-1] == ("good", f"bytes={THIRD}-")


def test_rounds_go_on_when_a_damaged_part_is_replaced_by_less(
    server: Server, tmp_path: Path, part: Path
) -> None:
    part.write_bytes(bytes(len(ARCHIVE)))
    download_archive(tmp_path, server.urls("breaks_off"), quietly)
    assert_only_the_archive(tmp_path)


@pytest.mark.parametrize("mirror", ["refuses_range", "wrong_range"])
def test_server_that_cannot_give_the_range_is_asked_for_the_whole(
    server: Server, tmp_path: Path, part: Path, mirror: str
) -> None:
    download_archive(tmp_path, server.urls(mirror), quietly)
    assert_only_the_archive(tmp_path)
    assert server.asked == [(mirror, f"bytes={THIRD}-"), (mirror, None)]


@pytest.mark.parametrize("content", [b"\x1f\x8b" + bytes(99), bytes(len(ARCHIVE) + 1)])
def test_damaged_or_too_long_part_is_dropped(
    server: Server, tmp_path: Path, part: Path, content: bytes
) -> None:
    part.write_bytes(content)
    download_archive(tmp_path, server.urls("good"), quietly)
    assert_only_the_archive(tmp_path)
    assert server.asked[-1] == ("good", None)


def test_mirror_with_wrong_bytes_is_named_and_the_next_begins_at_zero(
    server: Server, tmp_path: Path
) -> None:
    told: list[str] = []
    download_archive(tmp_path, server.urls("wrong_bytes", "good"), told.append)
    assert_only_the_archive(tmp_path)
    assert server.asked == [("wrong_bytes", None), ("good", None)]
    wrong = hashlib.md5(ARCHIVE[:-1] + b"?").hexdigest()
    expected = download.ARCHIVE_MD5
    assert f"127.0.0.1: wrong file, md5 {wrong} instead of {expected}" in told


@pytest.mark.parametrize(
    ("mirror", "answer"),
    [
        ("missing", "HTTP 404"),
        ("wrong_length", "offers 59999 bytes instead of 60000"),
        ("login_page", "sent text/html instead of the archive"),
        ("empty", "sent nothing instead of the archive"),
        ("wrong_bytes", "wrong file, md5 "),
        ("endless", "wrong file, md5 "),
        ("redirects_to_ftp", "unknown url type: ftp"),
        ("mute", "no answer within 0.2 s"),
    ],
)
def test_useless_mirror_is_described_and_leaves_nothing_behind(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mirror: str, answer: str
) -> None:
    monkeypatch.setattr(download, "ANSWER_SECONDS", 0.2 if mirror == "mute" else 3.0)
    folder = tmp_path / "new" / "data"
    with pytest.raises(DownloadError) as failure:
        download_archive(folder, server.urls(mirror), quietly)
    assert f"127.0.0.1: {answer}" in str(failure.value)
    assert str(failure.value).count("\n") == 1
    assert f"Put the file of {server.url(mirror)} into {folder}" in str(failure.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("mirror", ["missing", "wrong_length", "login_page", "redirects_to_ftp"])
def test_useless_mirror_costs_no_byte_of_the_part(
    server: Server, tmp_path: Path, part: Path, mirror: str
) -> None:
    with pytest.raises(DownloadError):
        download_archive(tmp_path, server.urls(mirror), quietly)
    assert list(tmp_path.iterdir()) == [part]
    assert part.read_bytes() == ARCHIVE[:THIRD]


def test_next_mirror_is_tried_after_404_and_closed_port(server: Server, tmp_path: Path) -> None:
    with socket.socket() as bound:  # bound, but nobody listens
        bound.bind(("127.0.0.1", 0))
        closed = f"http://127.0.0.1:{bound.getsockname()[1]}/good"
        told: list[str] = []
        download_archive(tmp_path, [closed, *server.urls("missing", "good")], told.append)
    assert_only_the_archive(tmp_path)
    assert told[:2] == ["127.0.0.1: Connection refused", "127.0.0.1: HTTP 404"]


def test_redirect_to_http_is_followed(server: Server, tmp_path: Path, part: Path) -> None:
    download_archive(tmp_path, server.urls("redirects"), quietly)
    assert_only_the_archive(tmp_path)
    assert server.asked[-1] == ("good", f"bytes={THIRD}-")


def test_slow_mirror_is_left_for_the_next(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mirror, "SPEED_WINDOW_SECONDS", 0.12)
    told: list[str] = []
    download_archive(tmp_path, server.urls("trickles", "good"), told.append)
    assert_only_the_archive(tmp_path)
    assert [name for name, _ in server.asked] == ["trickles", "good"]
    assert any(line.startswith("127.0.0.1: too slow, ") for line in told)


@pytest.mark.parametrize("mirrors", [["trickles"], ["trickles", "missing"]])
def test_slow_mirror_is_accepted_when_there_is_no_other(
    server: Server, tmp_path: Path, mirrors: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mirror, "SPEED_WINDOW_SECONDS", 0.12)
    monkeypatch.setattr(download, "MAX_ROUNDS", 2)
    download_archive(tmp_path, server.urls(*mirrors), quietly)
    assert_only_the_archive(tmp_path)


def test_endless_body_is_cut_off_at_the_size_of_the_archive(server: Server, tmp_path: Path) -> None:
    told: list[str] = []
    download_archive(tmp_path, server.urls("endless", "good"), told.append)
    assert_only_the_archive(tmp_path)
    assert "wrong file" in told[2]


def test_downloads_at_once_share_one_transfer(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "new"
    waiting = threading.Semaphore(0)

    def report(line: str) -> None:
        if line.startswith("Waiting for another process"):
            waiting.release()

    fetch = functools.partial(download_archive, folder, server.urls("held"), report)
    threads = [threading.Thread(target=fetch) for _ in range(3)]
    for thread in threads:
        thread.start()
    assert waiting.acquire(timeout=5)
    assert waiting.acquire(timeout=5)
    server.released.set()
    for thread in threads:
        thread.join()
    assert_only_the_archive(folder)
    assert server.asked == [("held", None)]


def test_waiting_download_goes_on_when_the_first_one_fails(server: Server, tmp_path: Path) -> None:
    folder = tmp_path / "new"
    is_waiting = threading.Event()

    def report(_: str) -> None:
        is_waiting.set()

    second = threading.Thread(target=download_archive, args=(folder, server.urls("good"), report))
    with file_lock.own_part(folder / ARCHIVE_NAME, quietly):  # the first one; it gets no byte
        second.start()
        assert is_waiting.wait(5)
    second.join()
    assert_only_the_archive(folder)


def test_lock_file_of_a_dead_process_does_not_block(server: Server, tmp_path: Path) -> None:
    (tmp_path / f"{ARCHIVE_NAME}.lock").touch()
    download_archive(tmp_path, server.urls("good"), quietly)
    assert_only_the_archive(tmp_path)


@pytest.mark.skipif(sys.platform == "win32", reason="the lock there is msvcrt's")
def test_file_system_without_locks_gets_a_part_of_its_own(
    server: Server, tmp_path: Path, part: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_locks(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(download, "MAX_ROUNDS", 1)
    monkeypatch.setattr(file_lock.fcntl, "flock", no_locks)
    with pytest.raises(DownloadError):
        download_archive(tmp_path, server.urls("breaks_off", "missing"), quietly)
    download_archive(tmp_path, server.urls("good"), quietly)
    assert server.asked[0] == ("breaks_off", None)
    assert server.asked[-1] == ("good", None)
    assert sorted(path.name for path in tmp_path.iterdir()) == [ARCHIVE_NAME, part.name]


def test_interruption_keeps_the_part(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(_: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(download.os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        download_archive(tmp_path, server.urls("breaks_off"), quietly)
    assert [path.name for path in tmp_path.iterdir()] == [f"{ARCHIVE_NAME}.part"]
    assert (tmp_path / f"{ARCHIVE_NAME}.part").read_bytes() == ARCHIVE[:THIRD]


def test_full_disk_is_an_error_that_names_the_folder(server: Server, tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1]))  # as good as a full disk
    try:
        with pytest.raises(UserError, match="File too large") as failure:
            download_archive(tmp_path, server.urls("good"), quietly)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert f"in the folder {tmp_path}:" in str(failure.value)
    assert list(tmp_path.iterdir()) == []


def test_full_disk_at_the_end_keeps_the_part(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def disk_full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(download.os, "fsync", disk_full)
    with pytest.raises(UserError, match="No space left on device"):
        download_archive(tmp_path, server.urls("good"), quietly)
    assert [path.name for path in tmp_path.iterdir()] == [f"{ARCHIVE_NAME}.part"]


def test_md5_is_asked_for_in_a_way_that_fips_machines_allow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ARCHIVE_NAME).write_bytes(ARCHIVE)
    md5 = hashlib.md5

    def strict(*, usedforsecurity: bool = True) -> object:
        assert not usedforsecurity
        return md5()

    monkeypatch.setattr(download.hashlib, "md5", strict)
    assert download_archive(tmp_path, report=quietly) == tmp_path / ARCHIVE_NAME


def test_folder_that_cannot_be_written_is_named(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="--data_dir") as failure:
        download_archive(tmp_path / "file" / "data", server.urls("good"), quietly)
    assert f"in the folder {tmp_path / 'file' / 'data'}:" in str(failure.value)
    assert server.asked == []


def test_hanging_name_lookups_end_in_an_error_in_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    end = threading.Event()

    def hang(*_: object) -> None:
        end.wait(20)
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    monkeypatch.setattr(download, "ANSWER_SECONDS", 0.6)
    began = time.monotonic()
    with pytest.raises(DownloadError, match=r"b\.test: no answer within 0\.2 s"):
        download_archive(tmp_path, [f"http://{x}.test/x" for x in "abc"], quietly)
    assert time.monotonic() - began < 5
    assert DEFAULT_ANSWER_SECONDS < 10
    end.set()


def test_answer_that_comes_too_late_is_closed(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed = threading.Event()
    ask, close_late = Mirror.ask, mirror._close_late

    def ask_late(self: Mirror, start: int) -> Answer:
        server.released.wait(0.3)
        return ask(self, start)

    def close(future: concurrent.futures.Future[Answer]) -> None:
        close_late(future)
        assert future.result()[0].isclosed()
        closed.set()

    monkeypatch.setattr(Mirror, "ask", ask_late)
    monkeypatch.setattr(mirror, "_close_late", close)
    monkeypatch.setattr(download, "ANSWER_SECONDS", 0.1)
    with pytest.raises(DownloadError):
        download_archive(tmp_path, server.urls("good"), quietly)
    assert closed.wait(5)


def test_environment_replaces_the_mirrors_and_the_argument_replaces_both(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    missing, good = server.urls("missing", "good")
    monkeypatch.setenv("CIFAR_LAB_MIRROR", f" {missing} ,, {good}")
    download_archive(tmp_path / "a", report=quietly)
    download_archive(tmp_path / "b", server.urls("no_range"), quietly)
    assert [mirror for mirror, _ in server.asked] == ["missing", "good", "no_range"]


@pytest.mark.parametrize(
    "url", ["ftp://127.0.0.1/x", "file:///etc/hostname", "127.0.0.1/x", "http:///x", "http://[x/"]
)
def test_mirror_that_is_not_http_is_refused(tmp_path: Path, url: str) -> None:
    with pytest.raises(UserError, match="is not the http:// or https:// address") as failure:
        download_archive(tmp_path, [url], quietly)
    assert repr(url) in str(failure.value)
    assert list(tmp_path.iterdir()) == []


def test_proxy_of_the_environment_is_asked(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", server.url(""))
    download_archive(tmp_path, ["http://nowhere.test/good"], quietly)
    assert_only_the_archive(tmp_path)


def test_log_gets_address_and_size_then_a_line_now_and_then_and_the_end(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: Path
) -> None:
    monkeypatch.setattr(progress, "LINE_SECONDS", 0.1)
    told: list[str] = []
    download_archive(tmp_path, server.urls("trickles"), told.append)
    assert told[0] == f"Downloading {server.url('trickles')} (0.1 MB, resumed at 0.0 MB)"
    assert len(told) > 3
    assert told[-1].startswith(f"{ARCHIVE_NAME}  0.1 of 0.1 MB  ")
    assert told[-1].endswith(" kB/s  0:00 left")


def test_terminal_gets_one_line_that_is_rewritten(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(progress, "REDRAW_SECONDS", 0.1)
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    download_archive(tmp_path, server.urls("trickles"))
    states = terminal.getvalue().split("\r")[1:]
    assert len(states) > 2
    assert all(len(state.rstrip("\n")) == progress.LINE_WIDTH for state in states)
    assert [state.count("\n") for state in states] == [0] * (len(states) - 1) + [1]


def test_progress_line_tells_size_rate_and_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter([100.0, 102.0])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(now))
    state = progress.Progress("x.tar.gz", "url", 17_500_000, 170_500_000, quietly)
    state.size += 24_600_000
    assert state.line() == "x.tar.gz  42.1 of 170.5 MB  12.3 MB/s  0:10 left"


def test_default_report_goes_to_stderr(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    download_archive(tmp_path, server.urls("good"))
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith(f"Downloading {server.url('good')} (0.1 MB)\n")


@pytest.mark.parametrize("name", [f"{ARCHIVE_NAME}.part", f"{ARCHIVE_NAME}.lock"])
@pytest.mark.parametrize("kind", ["link", "pipe"])
def test_nothing_is_written_through_a_link_or_into_a_pipe(
    server: Server, tmp_path: Path, name: str, kind: str
) -> None:
    other = tmp_path / "other"
    other.write_text("mine")
    (tmp_path / "data").mkdir()
    path = tmp_path / "data" / name
    path.symlink_to(other) if kind == "link" else os.mkfifo(path)
    with pytest.raises(UserError, match="is a link, pipe or folder; remove it"):
        download_archive(tmp_path / "data", server.urls("good"), quietly)
    assert other.read_text() == "mine"


def test_windows_locks_the_same_byte_whatever_is_in_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    places = []
    fake = SimpleNamespace(LK_NBLCK=2)
    fake.locking = lambda number, mode, count: places.append(os.lseek(number, 0, os.SEEK_CUR))
    monkeypatch.setattr(file_lock, "msvcrt", fake, raising=False)
    monkeypatch.setattr(file_lock.sys, "platform", "win32")
    for text in ("", "12345"):
        (tmp_path / "run.lock").write_text(text)
        with (tmp_path / "run.lock").open("a+") as file:
            assert file_lock.try_lock(file)
            file.truncate(0)
            file.write("678")
        assert (tmp_path / "run.lock").read_text() == "678"
    assert places == [file_lock.LOCKED_BYTE] * 2
