"""Send local files into a job: several at once, large ones in parts, going on where an earlier try stopped."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from http import HTTPStatus
from typing import BinaryIO, TypeVar
from urllib.parse import urlsplit

from app.api import models

from .client import ApiError, Client, ServerUnreachable
from .patience import WAITS_S, is_passing, patiently
from .project import BadProject, LocalFile

_T = TypeVar("_T")

#: Up to this size a file goes in one request: three would take longer.
SMALL_BYTES = 8 << 20
STREAMS = 4


class _Stopped(Exception):
    """The upload has failed elsewhere, or a person stopped it."""


class Uploader:
    """Sends files into one job."""

    def __init__(
        self,
        client: Client,
        job: str,
        *,
        on_bytes: Callable[[int], None],
        waits_s: tuple[float, ...] = WAITS_S,
        sleep: Callable[[float], object] | None = None,
    ) -> None:
        self._client = client
        self._job = job
        self._on_bytes = on_bytes  #: told of bytes sent, and, negative, of bytes that must be sent again
        self._waits_s = waits_s
        self._stopped = threading.Event()
        self._sleep = sleep or self._stopped.wait
        self._through_app = False  #: the store did not answer at the address that the farm gave

    def send(self, files: Iterable[LocalFile], *, on_file: Callable[[LocalFile, models.File], None]) -> None:
        """Send files; `on_file` is told of each, in this thread, as soon as it is complete. Errors: BadProject; as Client"""
        with ThreadPoolExecutor(STREAMS, thread_name_prefix="upload") as pool:
            small: list[tuple[LocalFile, Future[models.File]]] = []
            try:
                for file in files:
                    if file.bytes > SMALL_BYTES:
                        on_file(file, self._send_large(pool, file))
                    else:
                        small.append((file, pool.submit(self._send_small, file)))
                for file, sent in small:
                    on_file(file, sent.result())
            except BaseException:
                self._stopped.set()  # or Ctrl-C would wait for the parts under way
                pool.shutdown(wait=True, cancel_futures=True)
                raise

    def _send_small(self, file: LocalFile) -> models.File:
        content = _read(file)

        def put() -> models.File:
            self._check_not_stopped()
            return self._client.put_file(self._job, file.path, content, length=len(content))

        sent = self._patiently(put)
        self._on_bytes(len(content))
        return sent

    def _send_large(self, pool: ThreadPoolExecutor, file: LocalFile) -> models.File:
        new = models.NewFile(path=file.path, bytes=file.bytes, modified_ms=file.modified_ms)
        waits = iter(self._waits_s)
        while True:
            # begins it, or goes on with it: then with what is received and fresh addresses for the rest
            plan = self._patiently(lambda: self._client.begin_file(self._job, new, through_app=self._through_app))
            etags = {part.number: part.etag for part in plan.received}
            self._on_bytes(sum(_part_bytes(file, plan, number) for number in etags))
            failure = self._send_parts(pool, file, plan, etags) or self._complete(file, plan, etags)
            if isinstance(failure, models.File):
                return failure
            if isinstance(failure, ServerUnreachable) and len(etags) > len(plan.received):
                waits = iter(self._waits_s)  # it went forward: patience begins anew
            wait_s = next(waits, None)
            if wait_s is None:
                raise failure
            self._sleep(wait_s)
            self._on_bytes(-sum(_part_bytes(file, plan, number) for number in etags))

    def _complete(self, file: LocalFile, plan: models.UploadPlan, etags: dict[int, str]) -> models.File | ApiError:
        """Returns: the file, or the refusal after which the upload can go on: a part is not as the store has it."""
        _check_unchanged(file)
        try:
            return self._patiently(partial(self._client.complete_file, self._job, plan.id, etags))
        except ApiError as error:
            if any(each.field == "parts" for each in error.problem.errors):
                return error
            raise

    def _send_parts(self, pool: ThreadPoolExecutor, file: LocalFile, plan: models.UploadPlan, etags: dict[int, str]) -> Exception | None:
        """Send the parts that are missing, adding to `etags`. Returns: the first failure after which the upload can go on."""
        stop = threading.Event()
        sent = [(part, pool.submit(self._send_part, file, plan, part, stop)) for part in plan.parts]
        passing: Exception | None = None
        fatal: Exception | None = None
        for part, future in sent:
            try:
                etag = future.result()
            except (ServerUnreachable, ApiError, BadProject) as error:
                stop.set()
                if self._may_go_on(error, part.url):
                    passing = passing or error
                else:
                    fatal = fatal or error
            else:
                if etag:
                    etags[part.number] = etag
        if fatal:
            raise fatal
        return passing

    def _may_go_on(self, error: Exception, url: str) -> bool:
        is_direct = urlsplit(url).netloc != urlsplit(self._client.server).netloc
        if isinstance(error, ServerUnreachable) and is_direct:
            self._through_app = True
        # 403: the address has expired, or a proxy at the store's address does not know it
        return is_passing(error) or (
            isinstance(error, ApiError) and error.status in {HTTPStatus.FORBIDDEN, HTTPStatus.INTERNAL_SERVER_ERROR}
        )

    def _send_part(self, file: LocalFile, plan: models.UploadPlan, part: models.PartUrl, stop: threading.Event) -> str | None:
        if stop.is_set():
            return None
        length = _part_bytes(file, plan, part.number)
        with _open(file) as handle:
            handle.seek((part.number - 1) * plan.part_bytes)
            section = _Section(handle, length, on_bytes=self._on_bytes, check=self._check_not_stopped)
            try:
                return self._client.put_part(part.url, section, length=length)
            except BaseException:
                self._on_bytes(-section.taken)
                raise

    def _check_not_stopped(self) -> None:
        if self._stopped.is_set():
            raise _Stopped

    def _patiently(self, ask: Callable[[], _T]) -> _T:
        return patiently(ask, waits_s=self._waits_s, sleep=self._sleep)


class _Section(io.RawIOBase):
    """A stretch of a file as a file of its own, that tells how much of it was taken."""

    def __init__(self, handle: BinaryIO, length: int, *, on_bytes: Callable[[int], None], check: Callable[[], None]) -> None:
        self._check = check
        self._handle = handle
        self._left = length
        self._on_bytes = on_bytes
        self.taken = 0

    def read(self, size: int = -1) -> bytes:
        self._check()
        data = self._handle.read(self._left if size < 0 else min(size, self._left))
        self._left -= len(data)
        self.taken += len(data)
        self._on_bytes(len(data))
        return data


def _part_bytes(file: LocalFile, plan: models.UploadPlan, number: int) -> int:
    return min(plan.part_bytes, file.bytes - (number - 1) * plan.part_bytes)


def _open(file: LocalFile) -> BinaryIO:
    try:
        return file.source.open("rb")
    except OSError as error:
        raise BadProject(f"can't read {file.source}: {error.strerror}") from error


def _read(file: LocalFile) -> bytes:
    with _open(file) as handle:
        return handle.read()


def _check_unchanged(file: LocalFile) -> None:
    stat = file.source.stat()
    if (stat.st_size, stat.st_mtime_ns // 1_000_000) != (file.bytes, file.modified_ms):
        raise BadProject(f"{file.source} changed while it was being uploaded; run the command again")
