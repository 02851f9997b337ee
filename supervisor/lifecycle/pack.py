"""Pack received frames into zips, beside the tick; delete zips by age and by total size."""

from __future__ import annotations

import errno
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from datetime import timedelta
from pathlib import Path
from threading import Event

import structlog
from zipstream import ZIP_STORED, ZipStream

from nodeimage.protocol import output_key
from supervisor.cloud.ports import CloudError
from supervisor.domain.download import DownloadStatus
from supervisor.domain.errors import OutOfSpace
from supervisor.domain.naming import Packed, names_in_zip
from supervisor.farm import Farm
from supervisor.room import check_room, has_room
from supervisor.store import downloads as store
from supervisor.store.downloads import Download

from .long_file import LongFile
from .readahead import read_ahead

log = structlog.get_logger(__name__)

_PROGRESS_S = 0.5
_WAIT_S = 10.0


class BadFrame(Exception):
    """A frame's output is not in the store as its node delivered it. The message says which and what to do."""


class _Stopped(Exception):
    """The farm is stopping, or the download is not wanted any more."""


def zip_path(farm: Farm, download_id: str) -> Path:
    return farm.downloads_folder / f"{download_id}.zip"


class Packer:
    """Packs in the background: one zip at a time, so that packing leaves the disk to the renders. Owned by the timers."""

    def __init__(self, farm: Farm, *, threads: int = 1) -> None:
        self._farm = farm
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="packer")
        self._stop = Event()
        self._running: dict[str, Future[None]] = {}
        self._not_before: dict[str, float] = {}  #: by the monotonic clock: what could not be packed is tried again

    def take_up(self) -> None:
        """Begin to pack what waits for it: just asked for, interrupted by a restart, or out of room until now. Returns at once."""
        self._settle()
        with self._farm.db.read() as connection:
            waiting = store.in_status(connection, [DownloadStatus.PACKING])
        for download in reversed(waiting):
            if download.id in self._running or self._not_before.get(download.id, 0.0) > time.monotonic():
                continue
            if download.reason and not has_room(self._farm, download.total_bytes):
                continue
            self._not_before[download.id] = time.monotonic() + _WAIT_S
            self._running[download.id] = self._pool.submit(pack, self._farm, download, go_on=lambda: not self._stop.is_set())

    def close(self) -> None:
        """Stop within a second or two. What was being packed is taken up again by the next start."""
        self._stop.set()
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _settle(self) -> None:
        for download_id, future in [*self._running.items()]:
            if not future.done():
                continue
            del self._running[download_id]
            error = None if future.cancelled() else future.exception()
            if error:
                log.error("packing broke down", download=download_id, exc_info=error)
                _fail(
                    self._farm, download_id, "packing broke down through a fault of the farm's own; its log says more. Pack the frames anew"
                )


def pack(farm: Farm, download: Download, *, go_on: Callable[[], bool] = lambda: True) -> None:
    """Make a download's zip: READY, or FAILED with the reason; or still PACKING with what it waits for.

    Repeat:  safe; begins anew with what is received by then
    """
    try:
        _pack(farm, download, go_on=go_on)
    except _Stopped:
        return
    except BadFrame as error:
        _fail(farm, download.id, str(error))
    except OutOfSpace as error:
        _wait(farm, download, str(error))
    except CloudError as error:
        log.warning("packing interrupted", download=download.id, error=str(error))
        _wait(farm, download, "the object store does not answer; packing begins again when it does")


def retain_downloads(farm: Farm) -> None:
    """Delete zips older than `[downloads] keep_days`, the oldest until all have at most `max_total_gib`, and files that no row owns."""
    limits, now = farm.config.downloads, farm.now()
    with farm.db.read() as connection:
        ready = store.in_status(connection, [DownloadStatus.READY])
        packing = store.in_status(connection, [DownloadStatus.PACKING])
    room = limits.max_total_gib * (1 << 30) - sum(download.total_bytes for download in packing)
    for download in ready:
        room -= download.total_bytes
        if download.ready_at and now - download.ready_at > timedelta(days=limits.keep_days):
            _delete(farm, download, f"The zip was deleted: zips are kept for {limits.keep_days:g} days.")
        elif room < 0:
            _delete(farm, download, f"The zip was deleted to make room for newer ones: all together may have {limits.max_total_gib:g} GiB.")
    _remove_strays(farm)


def _pack(farm: Farm, download: Download, *, go_on: Callable[[], bool]) -> None:
    with farm.db.read() as connection:
        outputs = store.outputs_to_pack(connection, download.job)
    total = sum(output.bytes for output in outputs)
    check_room(farm, total, what="the zip")
    with farm.db.write() as connection:
        if not store.begin_packing(connection, download, outputs=outputs, at=farm.now()):
            raise _Stopped
    partial = zip_path(farm, download.id).with_suffix(".part")
    partial.parent.mkdir(parents=True, exist_ok=True)
    try:
        with _full_disk_refused(), LongFile(partial) as file:
            _write_zip(farm, download, outputs, file, go_on=go_on)
            file.finish()
        partial.replace(zip_path(farm, download.id))
    finally:
        partial.unlink(missing_ok=True)
    with farm.db.write() as connection:
        is_wanted = store.end(connection, download, DownloadStatus.READY, at=farm.now())
    if not is_wanted:
        zip_path(farm, download.id).unlink(missing_ok=True)


def _write_zip(farm: Farm, download: Download, outputs: list[Packed], file: LongFile, *, go_on: Callable[[], bool]) -> None:
    keys = [output_key(download.job, output.frame, output.name) for output in outputs]
    archive = ZipStream(compress_type=ZIP_STORED)
    progress = _Progress(farm, download)
    with closing(read_ahead(farm.cloud.objects, keys)) as contents:
        for output, name, content in zip(outputs, names_in_zip(outputs), contents, strict=True):
            archive.add(_watched(output, content, progress, go_on), name, size=output.bytes)
            for chunk in archive.file():
                file.write(chunk)
    for chunk in archive.finalize():
        file.write(chunk)
    _check(outputs, archive)


def _check(outputs: list[Packed], archive: ZipStream) -> None:
    """The zip's checksums were computed of what was written into it: they are what the nodes computed of what they delivered."""
    for output, written in zip(outputs, archive.info_list(), strict=True):
        if (written["size"], written["CRC"]) != (output.bytes, output.crc32):
            raise BadFrame(
                f"“{output.name}” of frame {output.frame} is not what its node delivered (size or checksum differ); "
                "have the frame rendered again, then pack anew"
            )


def _watched(output: Packed, chunks: Iterator[bytes], progress: _Progress, go_on: Callable[[], bool]) -> Iterator[bytes]:
    try:
        for chunk in chunks:
            if not go_on():
                raise _Stopped
            yield chunk
            progress.add(len(chunk))
    except FileNotFoundError as error:
        raise BadFrame(
            f"“{output.name}” of frame {output.frame} is gone from the store; have the frame rendered again, then pack anew"
        ) from error


class _Progress:
    """How far a zip is, written to its row about twice a second."""

    def __init__(self, farm: Farm, download: Download) -> None:
        self._farm = farm
        self._download = download
        self._done_bytes = 0
        self._noted = time.monotonic()

    def add(self, bytes_: int) -> None:
        """Errors: _Stopped - the download is not wanted any more; OutOfSpace"""
        self._done_bytes += bytes_
        if time.monotonic() - self._noted < _PROGRESS_S:
            return
        self._noted = time.monotonic()
        check_room(self._farm, 0, what="the zip")
        with self._farm.db.write() as connection:
            if not store.note_progress(connection, self._download, done_bytes=self._done_bytes):
                raise _Stopped


@contextmanager
def _full_disk_refused() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in {errno.ENOSPC, errno.EDQUOT}:
            raise
        raise OutOfSpace("The farm's disk is full.") from error


def _fail(farm: Farm, download_id: str, reason: str) -> None:
    with farm.db.write() as connection:
        seen = store.find(connection, download_id)
        if seen:
            store.end(connection, seen, DownloadStatus.FAILED, reason=reason)


def _wait(farm: Farm, download: Download, reason: str) -> None:
    with farm.db.write() as connection:
        store.note_wait(connection, download, reason=reason)


def _delete(farm: Farm, download: Download, reason: str) -> None:
    with farm.db.write() as connection:
        store.end(connection, download, DownloadStatus.DELETED, reason=reason)
    zip_path(farm, download.id).unlink(missing_ok=True)
    log.info("zip deleted", job=download.job, download=download.id, because=reason)


def _remove_strays(farm: Farm) -> None:
    there = list(farm.downloads_folder.glob("download_*"))  # before the rows: a zip begun after them is nobody's stray
    with farm.db.read() as connection:
        owned = {download.id for download in store.in_status(connection, [DownloadStatus.PACKING, DownloadStatus.READY])}
    for path in there:
        if path.stem not in owned:
            path.unlink(missing_ok=True)
            log.warning("stray zip deleted", path=str(path))
