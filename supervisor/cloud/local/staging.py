"""Bring one job's files from the object store into a folder: several at once, each verified, going on where an earlier try stopped."""

from __future__ import annotations

import errno
import json
import os
import threading
import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import suppress
from functools import partial
from itertools import count
from pathlib import Path, PurePosixPath
from typing import BinaryIO

import structlog

from supervisor.cloud.ports import CloudError, ObjectStore, StagedFile, Throttled, Unreachable

log = structlog.get_logger(__name__)

_BLOCK_BYTES = 1 << 20
#: A store that is silent for longer ends the staging; it takes seconds to come back by itself.
_PATIENCE_S = 600.0
_LONGEST_PAUSE_S = 10.0


class _Problem(Exception):
    """Why staging can't go on, in a sentence that says what to do."""


class _Damaged(_Problem):
    """What arrived is not what was stored: worth one more try."""


class Staging:
    """One job's staging, in threads of `workers`. `files` is verified in full when `is_staged`."""

    def __init__(self, folder: Path, files: Sequence[StagedFile], *, objects: ObjectStore, workers: Executor) -> None:
        self.files = tuple(files)
        self.total_bytes = sum(file.bytes for file in files)
        self.problem = ""
        self.is_staged = False
        self._folder = folder
        self._target = folder / "files"
        self._objects = objects
        self._workers = workers
        self._stopped = threading.Event()
        self._idle = threading.Event()
        self._lock = threading.Lock()
        self._verified_bytes = 0
        self._arriving: dict[str, int] = {}
        self._left = 1  # tasks not ended; the first one plans the others

    def begin(self) -> None:
        """Start, and return at once."""
        self._workers.submit(self._task, self._plan)

    def stop(self, *, timeout_s: float = 10.0) -> bool:
        """Make the threads leave the folder alone. Returns: False if one of them still hangs after `timeout_s`"""
        self._stopped.set()
        return self._idle.wait(timeout_s)

    @property
    def staged_bytes(self) -> int:
        with self._lock:
            return self._verified_bytes + sum(self._arriving.values())

    @property
    def has_ended(self) -> bool:
        return self._idle.is_set()

    def _plan(self) -> None:
        """Keep what is there and verified, remove what does not belong there, and set out to fetch the rest."""
        self._target.mkdir(parents=True, exist_ok=True)
        (self._folder / "partial").mkdir(exist_ok=True)
        targets = {self._path_of(file): file for file in self.files}
        verified = self._read_verified()
        for folder, _, names in os.walk(self._target):
            for name in names:
                if Path(folder) / name not in targets:
                    (Path(folder) / name).unlink()
        missing = [file for path, file in targets.items() if not _is_verified(path, file, verified)]
        with self._lock:
            self._verified_bytes = self.total_bytes - sum(file.bytes for file in missing)
            self._left += len(missing)
        for file in missing:
            self._workers.submit(self._task, partial(self._bring, file))

    def _task(self, work: Callable[[], None]) -> None:
        try:
            if not self._stopped.is_set():
                work()
        except _Problem as problem:
            self._fail(str(problem))
        except OSError as error:
            self._fail(_sentence(error))
        except BaseException:
            log.exception("staging broke off", folder=self._folder.name)
            self._fail("staging broke off by a fault of the farm's own; its log says more")
            raise
        finally:
            with self._lock:
                self._left -= 1
                ended = not self._left
                self.is_staged = ended and not self.problem and not self._stopped.is_set()
            if ended:
                self._idle.set()

    def _fail(self, problem: str) -> None:
        with self._lock:
            if not self._stopped.is_set():
                self.problem = problem
                log.warning("staging ended", folder=self._folder.name, problem=problem)
        self._stopped.set()

    def _path_of(self, file: StagedFile) -> Path:
        """Errors: _Problem - the path leads out of the workspace, whoever let it in"""
        parts = PurePosixPath(file.path).parts
        if not parts or file.path.startswith("/") or ".." in parts or "\0" in file.path:
            raise _Problem(f"“{file.path}” leads out of the job's folder; delete this file and upload it under another name")
        return self._target.joinpath(*parts)

    def _bring(self, file: StagedFile) -> None:
        """Fetch a file until it is there and verified: patiently while the store is silent, once more if it arrives damaged."""
        give_up_at = time.monotonic() + _PATIENCE_S
        damaged = False
        for attempt in count():
            try:
                self._fetch(file)
                return
            except _Damaged:
                if damaged:
                    raise
                damaged = True
            except (Unreachable, Throttled) as error:
                if time.monotonic() > give_up_at:
                    raise _Problem(f"the object store does not answer: {error}; try again when it does") from error
            except CloudError as error:
                raise _Problem(f"“{file.path}” can't be read from the object store: {error}") from error
            if self._stopped.wait(min(_LONGEST_PAUSE_S, 0.2 * 2 ** min(attempt, 10))):
                return

    def _fetch(self, file: StagedFile) -> None:
        path = self._path_of(file)
        try:
            source = self._objects.open(file.key)
        except FileNotFoundError as error:
            raise _Problem(f"“{file.path}” is no longer in the object store; upload it again") from error
        unchecked = self._folder / "partial" / f"{threading.get_ident():x}"
        try:
            with source, unchecked.open("wb") as target:
                checksum = self._receive(file, source, target)
            if self._stopped.is_set():
                return
            _check(file, unchecked.stat().st_size, checksum)
            path.parent.mkdir(parents=True, exist_ok=True)
            unchecked.replace(path)
            self._note_verified(path, file)
        finally:
            with self._lock:
                self._arriving.pop(file.path, None)
            unchecked.unlink(missing_ok=True)

    def _receive(self, file: StagedFile, source: BinaryIO, target: BinaryIO) -> int:
        """Returns: the CRC-32 of what arrived"""
        checksum = 0
        while not self._stopped.is_set():
            block = source.read(_BLOCK_BYTES)
            if not block:
                break
            target.write(block)
            checksum = zlib.crc32(block, checksum)
            with self._lock:
                self._arriving[file.path] = self._arriving.get(file.path, 0) + len(block)
        return checksum

    def _note_verified(self, path: Path, file: StagedFile) -> None:
        """Write down that the file is good, with the time by which a later change of it would show."""
        entry = [file.path, file.bytes, file.checksum, path.stat().st_mtime_ns]
        with self._lock:
            with (self._folder / "verified.jsonl").open("a") as notes:
                notes.write(json.dumps(entry) + "\n")
            self._verified_bytes += file.bytes

    def _read_verified(self) -> dict[str, list[object]]:
        verified = {}
        with suppress(FileNotFoundError), (self._folder / "verified.jsonl").open() as notes:
            for line in notes:
                with suppress(ValueError, IndexError, TypeError):  # a line that a crash cut off
                    entry = json.loads(line)
                    verified[str(entry[0])] = entry
        return verified


def _is_verified(path: Path, file: StagedFile, verified: Mapping[str, Sequence[object]]) -> bool:
    try:
        there = path.stat()
    except OSError:
        return False
    return there.st_size == file.bytes and list(verified.get(file.path, ())) == [file.path, file.bytes, file.checksum, there.st_mtime_ns]


def _check(file: StagedFile, received: int, checksum: int) -> None:
    """Errors: _Damaged - size or checksum are not those of the file that was received from the client"""
    if received != file.bytes:
        raise _Damaged(f"“{file.path}” has {received} bytes in the object store instead of {file.bytes}; upload it again")
    if file.checksum and file.checksum != f"crc32:{checksum:08x}":
        raise _Damaged(f"“{file.path}” does not match its checksum; upload it again")


def _sentence(error: OSError) -> str:
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return "the disk is full; delete old jobs, or give the farm a larger disk, then try again"
    if error.errno in {errno.EEXIST, errno.ENOTDIR, errno.EISDIR}:
        return f"“{error.filename2 or error.filename}” is the name of both a file and a folder; rename one of them and upload it again"
    return f"the workspace can't be written: {error}"
