"""One mirror of a file: connecting, what it answers, and reading at a sufficient speed.

What comes is foreign: an answer counts only if its headers announce the missing bytes. Whether
they are the right ones is for the md5 in ``cifar_lab.data.download`` to say.
"""

import concurrent.futures
import http.client
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass

STALL_SECONDS = 10.0  # without a byte
SPEED_WINDOW_SECONDS = 10.0
MIN_BYTES_PER_SECOND = 20_000  # 2.4 hours for the archive
CHUNK_BYTES = 1 << 18

Answer = tuple[http.client.HTTPResponse, int]  # and the offset in the file where it begins


class MirrorError(Exception):
    """Why a mirror was left, in a few words."""


@dataclass(frozen=True)
class Mirror:
    """One address of the file; its methods turn every failure of the network into MirrorError.

    Attributes:
        url: The address.
        size: Bytes of the whole file.
        seconds: Time limit for the beginning of an answer.
        patient: Whether any speed above zero is accepted.
    """

    url: str
    size: int
    seconds: float
    patient: bool

    def answer(self, start: int) -> Answer:
        """``ask`` with a time limit: in a thread, for the look-up of a name has none of its own."""
        future: concurrent.futures.Future[Answer] = concurrent.futures.Future()

        def work() -> None:
            try:
                future.set_result(self.ask(start))
            except Exception as error:
                future.set_exception(error)

        threading.Thread(target=work, daemon=True).start()
        if not concurrent.futures.wait([future], timeout=self.seconds).done:
            future.add_done_callback(_close_late)
            raise MirrorError(f"no answer within {self.seconds:.1f} s")
        return future.result()

    def ask(self, start: int) -> Answer:
        """Request the bytes from ``start`` on, all of them where the server cannot do that."""
        headers = {"User-Agent": "cifar_lab"} | ({"Range": f"bytes={start}-"} if start else {})
        try:
            request = urllib.request.Request(self.url, headers=headers)
            response = _opener().open(request, timeout=STALL_SECONDS)
        except urllib.error.HTTPError as error:
            error.close()
            if start and error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
                return self.ask(0)
            raise MirrorError(f"HTTP {error.code}") from error
        except (OSError, ValueError, http.client.HTTPException) as error:
            raise MirrorError(words(error)) from error
        return self.check(response, start)

    def check(self, response: http.client.HTTPResponse, start: int) -> Answer:
        """Refuse an answer whose headers announce something else than the file's bytes."""
        offset = 0
        if start and response.status == http.HTTPStatus.PARTIAL_CONTENT:
            offset = start
            announced = f"bytes {start}-{self.size - 1}/{self.size}"
            if response.headers["Content-Range"] != announced:
                response.close()
                return self.ask(0)
        if response.length not in (None, self.size - offset):
            response.close()
            raise MirrorError(f"offers {response.length} bytes instead of {self.size - offset}")
        return response, offset

    def chunks(self, response: http.client.HTTPResponse, limit: int) -> Iterator[bytes]:
        """Yield at most ``limit`` bytes; give up when they stall, or trickle and not patient."""
        began, got = time.monotonic(), 0
        while chunk := _read(response, min(limit, CHUNK_BYTES)):
            yield chunk
            limit -= len(chunk)
            got += len(chunk)
            elapsed = time.monotonic() - began
            if limit and elapsed >= SPEED_WINDOW_SECONDS:
                if not self.patient and got < MIN_BYTES_PER_SECOND * elapsed:
                    raise MirrorError(f"too slow, {got / elapsed / 1e3:.1f} kB/s")
                began, got = time.monotonic(), 0


def _opener() -> urllib.request.OpenerDirector:
    """The usual opener of urllib with its proxies and redirects, without ftp, file and data."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler,
        urllib.request.HTTPHandler,
        urllib.request.HTTPSHandler,
        urllib.request.HTTPRedirectHandler,
        urllib.request.HTTPErrorProcessor,
        urllib.request.HTTPDefaultErrorHandler,
        urllib.request.UnknownHandler,
    ):
        opener.add_handler(handler())
    return opener


def _close_late(future: concurrent.futures.Future[Answer]) -> None:
    if future.exception() is None:
        future.result()[0].close()


def _read(response: http.client.HTTPResponse, count: int) -> bytes:
    try:
        return response.read1(count) if count else b""  # read() would wait for all of ``count``
    except TimeoutError as error:
        raise MirrorError(f"sent nothing for {STALL_SECONDS:g} s") from error
    except (OSError, http.client.HTTPException) as error:
        raise MirrorError(words(error)) from error


def words(error: Exception) -> str:
    """What an error says, in one short line; urllib wraps the one that matters in ``reason``."""
    cause = getattr(error, "reason", error)
    text = getattr(cause, "strerror", None) or str(cause) or type(cause).__name__
    return "".join(letter for letter in text if letter.isprintable())[:100]
