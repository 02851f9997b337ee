"""Pack received frames into zips, beside the tick: see that all are stored, and settle what is in it. No sound frame is read."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta
from threading import Event

import structlog

from nodeimage.protocol import Output, frames_prefix, output_key
from supervisor.cloud.ports import CloudError
from supervisor.domain.download import DownloadStatus
from supervisor.domain.frame import frames_in_words
from supervisor.domain.naming import Packed
from supervisor.domain.zip_plan import ZipPlan, index_of
from supervisor.farm import Farm
from supervisor.store import downloads as store
from supervisor.store import frames
from supervisor.store.downloads import Download

from .damage import note_damaged, sums_of
from .redelivered import measured_output
from .sending import BadFrame

log = structlog.get_logger(__name__)

_PROGRESS_S = 0.5
#: Between two looks for what is to be packed when nobody says that there is something; between two tries of the same.
_LOOK_S, _RETRY_S = 5.0, 10.0


class _Stopped(Exception):
    """The farm is stopping, or the download is not wanted any more."""


class Packer:
    """Packs one download after the other. Owned by the timers, which call it from one thread."""

    def __init__(self, farm: Farm) -> None:
        self._farm = farm
        self._stop = Event()
        self._not_before: dict[str, float] = {}  #: by the monotonic clock: what could not be packed is tried again

    def pack_waiting(self) -> float:
        """Pack what waits for it: just asked for, interrupted by a restart, or prevented by the store until now.

        Returns: in how many seconds to look again
        """
        with self._farm.db.read() as connection:
            waiting = store.in_status(connection, [DownloadStatus.PACKING])
        self._not_before = {each.id: self._not_before.get(each.id, 0.0) for each in waiting}
        for download in reversed(waiting):
            if self._not_before[download.id] <= time.monotonic():
                self._pack(download)
                self._not_before[download.id] = time.monotonic() + _RETRY_S
        return _LOOK_S

    def close(self) -> None:
        """Have `pack_waiting` return within a second or two. What was being packed is taken up again by the next start."""
        self._stop.set()

    def _pack(self, download: Download) -> None:
        try:
            pack(self._farm, download, go_on=lambda: not self._stop.is_set())
        except Exception:
            log.exception("packing broke down", download=download.id)
            reason = "packing broke down through a fault of the farm's own; its log says more. Pack the frames anew"
            _fail(self._farm, download, reason)


def pack(farm: Farm, download: Download, *, go_on: Callable[[], bool] = lambda: True) -> None:
    """Settle what is in a download: READY, or FAILED with the reason; or still PACKING with what it waits for.

    Repeat:  safe; begins anew with what is received by then
    """
    try:
        _pack(farm, download, go_on=go_on)
    except _Stopped:
        return
    except CloudError as error:
        log.warning("packing interrupted", download=download.id, error=str(error))
        with farm.db.write() as connection:
            store.note_wait(connection, download, reason="the object store does not answer; packing begins again when it does")


def retain_downloads(farm: Farm) -> None:
    """Delete downloads older than `[downloads] keep_days`."""
    keep_days, now = farm.config.downloads.keep_days, farm.now()
    with farm.db.read() as connection:
        ready = store.in_status(connection, [DownloadStatus.READY])
    for download in ready:
        if download.ready_at and now - download.ready_at > timedelta(days=keep_days):
            with farm.db.write() as connection:
                store.end(
                    connection, download, DownloadStatus.DELETED, reason=f"The zip was deleted: zips are kept for {keep_days:g} days."
                )
            log.info("download deleted", job=download.job, download=download.id)


def _pack(farm: Farm, download: Download, *, go_on: Callable[[], bool]) -> None:
    at = farm.now()  # before the frames are read: what comes after counts as newer than the zip
    with farm.db.read() as connection:
        outputs = store.outputs_to_pack(connection, download.job)
    with farm.db.write() as connection:
        if not store.begin_packing(connection, download, outputs=outputs, at=at):
            raise _Stopped
    with farm.db.read() as connection:
        suspect = set(frames.damaged(connection, download.job))
    bad = _bad_in_listing(farm, download, outputs, go_on=go_on)
    bad |= _bad_in_content(farm, download, [output for output in outputs if output.frame in suspect - bad.keys()], go_on=go_on)
    if bad:
        _end_damaged(farm, download, outputs, bad)
        return
    index = index_of(outputs, made_at=at.astimezone())
    zip_bytes = ZipPlan(index).bytes
    with farm.db.write() as connection:
        frames.note_damage(connection, download.job, dict.fromkeys(suspect, ""))
        store.end_packing(connection, download, index, zip_bytes=zip_bytes, at=farm.now())


def _bad_in_listing(farm: Farm, download: Download, outputs: list[Packed], *, go_on: Callable[[], bool]) -> dict[int, BadFrame]:
    """The frames of which an output is not there, or not of its size. One listing, however many they are"""
    progress, bad = _Progress(farm, download), {}
    missing = {output_key(download.job, output.frame, output.name): output for output in outputs}
    for listed in farm.cloud.objects.list(frames_prefix(download.job)):
        if not go_on():
            raise _Stopped
        output = missing.pop(listed.key, None)
        if output and listed.bytes != output.bytes:
            bad[output.frame] = BadFrame.differs(output.name, output.frame)
        progress.add(listed.bytes if output else 0)
    return {output.frame: BadFrame.gone(output.name, output.frame) for output in missing.values()} | bad


def _bad_in_content(farm: Farm, download: Download, outputs: list[Packed], *, go_on: Callable[[], bool]) -> dict[int, BadFrame]:
    """The frames, of those that were found damaged before, that still are: somebody may have put them back. Each is read whole"""
    bad = {}
    for output in outputs:
        if not go_on():
            raise _Stopped
        if measured_output(farm, download.job, output.frame, output.name) != Output(
            name=output.name, bytes=output.bytes, crc32=output.crc32
        ):
            bad[output.frame] = BadFrame.differs(output.name, output.frame)
    return bad


def _end_damaged(farm: Farm, download: Download, outputs: list[Packed], bad: dict[int, BadFrame]) -> None:
    """Let a download fail that lacks frames, and remember which. Errors: _Stopped - they were rendered anew meanwhile: it begins anew"""
    by_frame: dict[int, list[Packed]] = {}
    for output in outputs:
        by_frame.setdefault(output.frame, []).append(output)
    seen = {number: sums_of((output.name, output) for output in by_frame[number]) for number in bad}
    with farm.db.write() as connection:
        damaged = note_damaged(connection, download.job, {number: error.damage for number, error in bad.items()}, seen)
        if not damaged:
            raise _Stopped
        reason = _reason([bad[number] for number in sorted(damaged)])
        store.end(connection, download, DownloadStatus.FAILED, reason=reason)


def _reason(bad: list[BadFrame]) -> str:
    if len(bad) == 1:
        return str(bad[0])
    which = frames_in_words([error.frame for error in bad])
    return (
        f"{which} are not in the store as their nodes delivered them ({bad[0].damage}, for one); have them rendered again, then pack anew"
    )


class _Progress:
    """How many of the frames' bytes were found, written to the download's row about twice a second."""

    def __init__(self, farm: Farm, download: Download) -> None:
        self._farm = farm
        self._download = download
        self._done_bytes = 0
        self._noted = time.monotonic()

    def add(self, bytes_: int) -> None:
        """Errors: _Stopped - the download is not wanted any more"""
        self._done_bytes += bytes_
        if time.monotonic() - self._noted < _PROGRESS_S:
            return
        self._noted = time.monotonic()
        with self._farm.db.write() as connection:
            if not store.note_progress(connection, self._download, done_bytes=self._done_bytes):
                raise _Stopped


def _fail(farm: Farm, download: Download, reason: str) -> None:
    with farm.db.write() as connection:
        store.end(connection, download, DownloadStatus.FAILED, reason=reason)
