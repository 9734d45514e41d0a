"""One mirror of a file: its response, and its bytes as long as they arrive fast enough.

A mirror is not trusted. A response is used only if its headers announce the missing bytes, and
``cifar_lab.data.download`` verifies them by the MD5 of the whole file.
"""

import concurrent.futures
import http.client
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from http import HTTPStatus

from cifar_lab.files import shown

STALL_SECONDS = 10.0  # without a byte
SPEED_WINDOW_SECONDS = 10.0
MIN_BYTES_PER_SECOND = 20_000  # 2.4 hours for the archive
CHUNK_BYTES = 1 << 18

Answer = tuple[http.client.HTTPResponse, int]  # a response, and its offset in the file


class MirrorError(Exception):
    """A short reason why a mirror was abandoned."""


@dataclass(frozen=True)
class Mirror:
    """One address of the file. Every network error becomes a ``MirrorError``."""

    url: str
    size: int  # of the whole file in bytes
    seconds: float  # time limit for the start of a response
    patient: bool  # whether any speed above zero is accepted

    def answer(self, start: int) -> Answer:
        """Request the bytes from ``start`` on; the server may send the whole file instead."""
        answer: concurrent.futures.Future[Answer] = concurrent.futures.Future()

        def work() -> None:
            try:
                answer.set_result(self._ask(start))
            except Exception as error:
                answer.set_exception(error)

        # The thread allows a time limit for everything, including the DNS lookup.
        threading.Thread(target=work, daemon=True).start()
        try:
            return answer.result(self.seconds)
        except concurrent.futures.TimeoutError:
            raise MirrorError(f"no answer within {self.seconds:.1f} s") from None

    def _ask(self, start: int) -> Answer:
        headers = {"User-Agent": "cifar_lab"} | ({"Range": f"bytes={start}-"} if start else {})
        try:
            request = urllib.request.Request(self.url, headers=headers)
            response = urllib.request.build_opener().open(request, timeout=STALL_SECONDS)
        except urllib.error.HTTPError as error:
            error.close()
            if start and error.code == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
                return self._ask(0)
            raise MirrorError(f"HTTP {error.code}") from error
        except (OSError, ValueError, http.client.HTTPException) as error:
            raise MirrorError(words(error)) from error
        if not isinstance(response, http.client.HTTPResponse):  # the server redirected to ftp
            raise MirrorError("not an answer of HTTP")
        offset = start if response.status == HTTPStatus.PARTIAL_CONTENT else 0
        announced = f"bytes {start}-{self.size - 1}/{self.size}"
        if offset and response.headers["Content-Range"] != announced:
            response.close()
            return self._ask(0)
        if response.length not in (None, self.size - offset):
            response.close()
            raise MirrorError(f"offers {response.length} bytes instead of {self.size - offset}")
        return response, offset

    def chunks(self, response: http.client.HTTPResponse, limit: int) -> Iterator[bytes]:
        """Yield at most ``limit`` bytes in chunks, as long as they arrive fast enough."""
        began, got = time.monotonic(), 0
        try:  # read() instead of read1() would wait for all bytes
            while limit and (chunk := response.read1(min(limit, CHUNK_BYTES))):
                yield chunk
                limit -= len(chunk)
                got += len(chunk)
                elapsed = time.monotonic() - began
                if limit and elapsed >= SPEED_WINDOW_SECONDS:
                    if not self.patient and got < MIN_BYTES_PER_SECOND * elapsed:
                        raise MirrorError(f"too slow, {got / elapsed / 1e3:.1f} kB/s")
                    began, got = time.monotonic(), 0
        except TimeoutError as error:
            raise MirrorError(f"sent nothing for {STALL_SECONDS:g} s") from error
        except (OSError, http.client.HTTPException) as error:
            raise MirrorError(words(error)) from error


def words(error: Exception) -> str:
    """Return the message of an error in one short line; urllib stores the cause in ``reason``."""
    cause = getattr(error, "reason", error)
    return shown(getattr(cause, "strerror", None) or str(cause) or type(cause).__name__)
