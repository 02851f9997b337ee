"""An instance that fills a job's volume: every file fetched and verified, the volume unmounted, the farm told, the machine off.

The farm makes a snapshot of the volume as soon as it reads DONE, so DONE is said of an unmounted volume only.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

from nodeimage.agent.ending import Ending, EndKind, Stopped
from nodeimage.agent.ports import StoreError
from nodeimage.agent.surroundings import CannotPrepare
from nodeimage.launch import FileEntry, FileList, StagingReport, StagingState
from nodeimage.protocol import staging_key

from .crew import Crew
from .fetch import OWN_FOLDER, Fetch, path_in
from .instance import Instance
from .machine import CommandFailed
from .notices import now_ms
from .verified import Verified
from .workspace import read_file_list

log = logging.getLogger(__name__)

#: Between two reports: the farm gives up an instance that says nothing new for minutes.
REPORT_S = 3.0
_NO_ROOM = "The farm made it too small: delete the job and submit it again."
#: For the notes of what is verified.
_RESERVE_BYTES = 16 << 20
_FLUSHERS = 16
_TRIES, _PAUSE_S = 5, 3.0


class Staging:
    """The filling of one volume. Implements `Watcher`."""

    def __init__(self, instance: Instance, *, pause: Callable[[float], None] = time.sleep) -> None:
        self._instance = instance
        self._folder = instance.machine.workspace
        self._key = staging_key(instance.launch.job)
        self._mark = instance.machine.home / "staged"
        self._pause = pause
        self._files: FileList | None = None
        self._fetch: Fetch | None = None
        self._message = ""
        self._reported_at = -REPORT_S

    def run(self) -> Ending:
        """Fill the volume and tell the farm. Returns: why it ended; the machine is of no more use then

        Repeat:  safe: what is on the volume and verified is not fetched again, a volume that was unmounted is done
        """
        try:
            return self._run()
        except (CannotPrepare, CommandFailed) as error:
            self._tell_at_last(StagingState.FAILED, str(error))
            return Ending(kind=EndKind.UNFIT, reason=str(error))
        except Stopped as stopped:
            if stopped.ending.kind in (EndKind.OLD, EndKind.UNREACHABLE):
                self._message = f"The files could not be staged: {stopped.ending.reason}. Try again."
                self._report(StagingState.FAILED)
            return stopped.ending

    def _run(self) -> Ending:
        self._report(StagingState.RUNNING)
        self.look()
        files = self._files = read_file_list(self._instance.store, self._instance.launch.job, watcher=self, pause=self._pause)
        if not self._is_unmounted(files):
            self._fill(files)
        self._tell_at_last(StagingState.DONE, "")
        return Ending(kind=EndKind.NO_WORK, reason="the volume is filled")

    def _is_unmounted(self, files: FileList) -> bool:
        """Say whether an earlier life of this program came to the end, but for telling."""
        return self._mark.exists() and self._mark.read_text() == files.content

    def _fill(self, files: FileList) -> None:
        """Have every file on the volume, and the volume unmounted. Errors: CannotPrepare, CommandFailed, Stopped"""
        if not self._instance.machine.is_workspace_mounted():
            text = f"The volume to be filled is not mounted at {self._folder}."
            raise CannotPrepare(f"{text} Try again; if it comes back, build the image anew: kiln ami build.")
        self._fetch = Fetch(
            self._folder,
            files,
            self._instance.store,
            boot=self._instance.life.boot,
            free_bytes=_free_bytes,
            no_room=_NO_ROOM,
            reserve_bytes=_RESERVE_BYTES,
        )
        self._flush(files, self._fetch.run(self))
        self._unmount()
        self._mark.write_text(files.content)

    def _flush(self, files: FileList, verified: Verified) -> None:
        """Have every file's bytes on the volume: an error that the disk kept to itself shows here. Errors: CannotPrepare"""

        def flush(file: FileEntry) -> None:
            _sync(path_in(self._folder, file.path))

        try:
            Crew(files.files, flush, workers=_FLUSHERS, stop=threading.Event()).work_through(self.look)
            verified.note_flushed()
            _sync(self._folder / OWN_FOLDER)
        except OSError as error:
            raise CannotPrepare(f"The volume can't be written: {error}. Try again: the farm makes a new one.") from error

    def _unmount(self) -> None:
        for attempt in range(1, _TRIES + 1):
            try:
                self._instance.machine.unmount_workspace()
                return
            except CommandFailed as error:
                if attempt == _TRIES:
                    raise CommandFailed(f"The filled volume can't be unmounted: {error}. Try again: the farm makes a new one.") from error
                log.warning("volume is still busy", extra={"why": str(error)})
            self._pause(_PAUSE_S)
            self.look()

    # What the farm is told

    def look(self) -> None:
        """Implements `Watcher`. Errors: Stopped"""
        instance, launch = self._instance, self._instance.launch
        instance.pulse()
        if instance.stop.is_set():
            raise Stopped(EndKind.TOLD, "the instance was told to stop")
        if instance.left_s() < 0:
            raise Stopped(EndKind.OLD, f"the instance has lived for {launch.max_life_s:.0f} s, as long as it may")
        if instance.store.silent_s() > launch.unreachable_s:
            raise Stopped(EndKind.UNREACHABLE, f"the store has not answered for {launch.unreachable_s:.0f} s")
        if time.monotonic() - self._reported_at >= REPORT_S:
            self._report(StagingState.RUNNING)

    def tell(self, phase: str, problem: str = "") -> None:
        """Implements `Watcher`."""
        self._message = problem or phase

    def _report(self, state: StagingState) -> bool:
        """Returns: False if the store did not take it; the next report says more"""
        self._reported_at = time.monotonic()
        report = StagingReport(
            state=state,
            instance=self._instance.id,
            content=self._files.content if self._files else "",
            at_ms=now_ms(),
            done_bytes=self._fetch.done_bytes if self._fetch else 0,
            total_bytes=sum(file.bytes for file in self._files.files) if self._files else 0,
            message=self._message,
        )
        try:
            self._instance.store.put(self._key, report.to_bytes())
        except StoreError as error:
            log.warning("report not written", extra={"why": str(error)})
            return False
        return True

    def _tell_at_last(self, state: StagingState, message: str) -> None:
        """Say how it ended, for as long as an instance may try to reach the store."""
        self._message = message
        give_up_at = time.monotonic() + self._instance.launch.unreachable_s
        log.info("staging ends", extra={"state": str(state), "why": message})
        while not self._report(state) and time.monotonic() < give_up_at:
            self._instance.pulse()
            self._pause(_PAUSE_S)


def _free_bytes(folder: Path) -> int:
    """Room for root, who may use what the file system keeps from others."""
    there = os.statvfs(folder)
    return there.f_bfree * there.f_frsize


def _sync(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
