"""The job's files on this instance: fetched from the projects bucket, or on the volume that came with it. Blender starts after."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from nodeimage.agent.ports import Refused, Silent, Store
from nodeimage.agent.surroundings import CannotPrepare, Watcher
from nodeimage.launch import FileEntry, FileList, WorkspaceKind
from nodeimage.protocol import Unreadable, files_key

from .crew import LOOK_S, Crew
from .fetch import Fetch, Source, path_in
from .verified import Verified

log = logging.getLogger(__name__)

#: The list is there before the instance is launched, and rights may take a moment to be known everywhere.
LIST_PATIENCE_S = 120.0
_PAUSE_S = 2.0
#: A volume made from a snapshot answers slowly at first: many questions at once.
_LOOKERS = 32

NO_ROOM_ON_ROOT = "Raise [aws] root_volume_gib, or submit the job so that its files come on a volume (workspace mode snapshot)."


class FileStore(Store, Source, Protocol):
    """The bucket, with its large files."""


def read_file_list(store: Store, job: str, *, watcher: Watcher, pause: Callable[[float], None] = time.sleep) -> FileList:
    """Read which files the job has, waiting for a store that is silent. Errors: CannotPrepare; whatever `watcher.look` raises"""
    give_up_at = time.monotonic() + LIST_PATIENCE_S
    while True:
        try:
            if (found := store.get(files_key(job))) is not None and found.body is not None:
                return FileList.from_bytes(found.body)
            why = "The list of the job's files is not in the object store; cancel the job and submit it again."
        except Unreadable as error:
            raise CannotPrepare(f"This agent can't read the list of the job's files: {error}.") from error
        except Refused as error:
            why = f"The store refuses the list of the job's files to the node: {error}; `kiln doctor` says more."
        except Silent as error:
            watcher.tell("fetching files", f"The store does not answer: {error}.")
            give_up_at, why = time.monotonic() + LIST_PATIENCE_S, ""
        if time.monotonic() > give_up_at:
            raise CannotPrepare(why)
        _wait(_PAUSE_S, watcher, pause)


def _wait(seconds: float, watcher: Watcher, pause: Callable[[float], None]) -> None:
    for _ in range(max(1, round(seconds / LOOK_S))):
        pause(LOOK_S)
        watcher.look()


class Workspace:
    """One job's files in one folder."""

    def __init__(
        self,
        folder: Path,
        *,
        job: str,
        kind: WorkspaceKind,
        store: FileStore,
        boot: str,
        is_mounted: Callable[[], bool],
        free_bytes: Callable[[Path], int],
        make_room: Callable[[int], None] = lambda needed: None,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        """Shape:   `make_room` is called with the bytes that the disk must have free, before it is looked whether it has"""
        self._folder = folder
        self._job = job
        self._kind = kind
        self._store = store
        self._boot = boot
        self._is_mounted = is_mounted
        self._free_bytes = free_bytes
        self._make_room = make_room
        self._pause = pause

    def prepare(self, watcher: Watcher) -> None:
        """Have every file of the job in the folder. Errors: CannotPrepare; whatever `watcher.look` raises"""
        watcher.tell("fetching files" if self._kind is WorkspaceKind.S3 else "checking files")
        files = read_file_list(self._store, self._job, watcher=watcher, pause=self._pause)
        began_at = time.monotonic()
        if self._kind is WorkspaceKind.S3:
            self._fetch(files, watcher)
        else:
            self._check_volume(files, watcher)
        took_s = round(time.monotonic() - began_at, 1)
        log.info("workspace is ready", extra={"job": self._job, "kind": str(self._kind), "files": len(files.files), "took_s": took_s})

    def _fetch(self, files: FileList, watcher: Watcher) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        fetch = Fetch(
            self._folder,
            files,
            self._store,
            boot=self._boot,
            free_bytes=self._free_bytes,
            make_room=self._make_room,
            no_room=NO_ROOM_ON_ROOT,
        )
        verified = fetch.run(watcher)
        # Blender need not wait for the disk.
        threading.Thread(target=_flush, args=(verified,), name="flush", daemon=True).start()

    def _check_volume(self, files: FileList, watcher: Watcher) -> None:
        if not self._is_mounted():
            raise CannotPrepare(f"The volume with the job's files is not mounted at {self._folder}. The farm launches another instance.")
        checked = 0

        def check(file: FileEntry) -> None:
            nonlocal checked
            check_size(self._folder, file)
            checked += 1

        def look() -> None:
            watcher.tell(f"checking files: {100 * checked // max(1, len(files.files))} %")
            watcher.look()

        Crew(files.files, check, workers=_LOOKERS, stop=threading.Event()).work_through(look)


def _flush(verified: Verified) -> None:
    os.sync()
    try:
        verified.note_flushed()
    except OSError as error:
        log.warning("not noted that the files are on the disk", extra={"why": str(error)})


def check_size(folder: Path, file: FileEntry) -> None:
    """Make sure that a file is there with its size. Errors: CannotPrepare"""
    try:
        there = path_in(folder, file.path).lstat().st_size
    except OSError as error:
        raise CannotPrepare(f"“{file.path}” is not on the volume with the job's files ({error}). {_STAGE_AGAIN}") from error
    if there != file.bytes:
        raise CannotPrepare(f"“{file.path}” has {there} bytes on the volume with the job's files instead of {file.bytes}. {_STAGE_AGAIN}")


_STAGE_AGAIN = "Cancel the job and submit it again: the farm makes a new volume."
