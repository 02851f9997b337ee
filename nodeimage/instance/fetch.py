"""Bring a job's files from the projects bucket into a folder: many at once, large ones in parts, each verified, going on where it stopped.

A file arrives under another name and is renamed when it is whole, so what bears its own name is whole.
"""

from __future__ import annotations

import errno
import logging
import os
import random
import shutil
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Protocol

from nodeimage.agent.ports import Absent, Part, Refused, Silent
from nodeimage.agent.surroundings import CannotPrepare, Watcher
from nodeimage.launch import FileEntry, FileList

from .crc import crc32_of_parts
from .crew import Crew
from .verified import Verified

log = logging.getLogger(__name__)

#: Files and parts on their way at once. Amazon S3 gives 60 to 90 MB/s to each.
WORKERS = 24
#: A larger file comes in parts of this size.
PART_BYTES = 32 << 20
#: A store that does not answer about a part for longer ends the fetching.
PATIENCE_S = 600.0
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.2, 10.0
#: Refusals of one part that are tried again: a role's rights may take a moment to be known everywhere.
MOST_REFUSALS = 6
#: After so long without a byte, people are told.
STUCK_S = 20.0
#: Left free on the disk, for what the frames need until they are delivered.
RESERVE_BYTES = 1 << 30
#: Folder of our own in the workspace: parts on their way, and what is known to be whole.
OWN_FOLDER = ".kiln-fetch"


class Source(Protocol):
    """Where files come from. `agent.store.S3Store` is it."""

    def open_part(self, key: str, *, first: int, count: int) -> Part:
        """Begin to read a part of an object. Errors: Absent, Silent, Refused"""


@dataclass(slots=True, kw_only=True)
class _Arrival:
    """A file on its way. `lock` guards what its parts share."""

    file: FileEntry
    target: Path
    unchecked: Path
    left: int  #: parts that have not arrived
    lock: threading.Lock = field(default_factory=threading.Lock)
    fd: int | None = None
    parts: dict[int, tuple[int, int]] = field(default_factory=dict)  #: first byte -> (CRC-32, bytes)
    stored_bytes: int | None = None  #: size of the object, where it is not what it should be


@dataclass(frozen=True, slots=True, kw_only=True)
class _Piece:
    """A part of a file, or all of it."""

    arrival: _Arrival
    first: int
    count: int


class _Damaged(Exception):
    """What arrived is not what was stored: worth one more try."""


class Fetch:
    """The fetching of one list of files into one folder."""

    def __init__(
        self,
        folder: Path,
        files: FileList,
        source: Source,
        *,
        boot: str,
        free_bytes: Callable[[Path], int],
        no_room: str,
        make_room: Callable[[int], None] = lambda needed: None,
        reserve_bytes: int = RESERVE_BYTES,
        workers: int = WORKERS,
    ) -> None:
        """Shape:   `no_room`: a sentence that says what to do when the disk is too small; `make_room` is called before, with the bytes that
        the disk must have free; `reserve_bytes` are left free
        """
        self.total_bytes = sum(file.bytes for file in files.files)
        self._folder = folder
        self._files = files
        self._source = source
        self._free_bytes = free_bytes
        self._no_room = no_room
        self._make_room = make_room
        self._reserve_bytes = reserve_bytes
        self._boot = boot
        self._workers = workers
        self._partial = folder / OWN_FOLDER / "partial"
        self._lock = threading.Lock()
        self._done_bytes = 0
        self._moved_at = time.monotonic()
        self._trouble = ""
        self._stop = threading.Event()
        self._arrivals: list[_Arrival] = []

    @property
    def done_bytes(self) -> int:
        """What is there, of files on their way too."""
        with self._lock:
            return self._done_bytes

    def run(self, watcher: Watcher) -> Verified:
        """Have every file there, verified. Returns: the notes of it. Errors: CannotPrepare; whatever `watcher.look` raises"""
        try:
            shutil.rmtree(self._partial, ignore_errors=True)
            self._partial.mkdir(parents=True)
            self._verified = Verified(self._folder / OWN_FOLDER, self._files, boot=self._boot)
            self._arrivals = list(self._missing())
            needed = sum(arrival.file.bytes for arrival in self._arrivals)
            self._check_room(needed)
            self._moved(self.total_bytes - needed)
            # The largest first: they would be what everybody waits for at the end.
            self._arrivals.sort(key=lambda arrival: arrival.file.bytes, reverse=True)
            pieces = [piece for arrival in self._arrivals for piece in _pieces(arrival)]
            Crew(pieces, self._bring, workers=self._workers, stop=self._stop).work_through(lambda: self._look(watcher))
        except OSError as error:
            raise CannotPrepare(_sentence(error, self._no_room)) from error
        finally:
            self._clean()
        return self._verified

    def _clean(self) -> None:
        """Leave nothing of what did not arrive."""
        self._stop.set()
        for arrival in self._arrivals:
            if arrival.fd is not None:
                os.close(arrival.fd)
        shutil.rmtree(self._partial, ignore_errors=True)

    def _look(self, watcher: Watcher) -> None:
        with self._lock:
            done, is_stuck = self._done_bytes, time.monotonic() - self._moved_at > STUCK_S
        pct = max(0, 100 * done // self.total_bytes) if self.total_bytes else 100
        problem = f"The node still waits for the job's files: {self._trouble or 'the store sends nothing'}." if is_stuck else ""
        watcher.tell(f"fetching files: {pct} %", problem)
        watcher.look()

    def _missing(self) -> Iterator[_Arrival]:
        for number, file in enumerate(self._files.files):
            target = path_in(self._folder, file.path)
            if not self._verified.holds(file, target):
                parts = max(1, -(-file.bytes // PART_BYTES))
                yield _Arrival(file=file, target=target, unchecked=self._partial / str(number), left=parts)

    def _check_room(self, needed: int) -> None:
        if not needed:
            return
        needed += self._reserve_bytes
        self._make_room(needed)
        free = self._free_bytes(self._folder)
        if needed > free:
            sizes = f"{_gib(needed)} and has {_gib(free)}"
            raise CannotPrepare(f"The disk is too small for the job's files: it needs {sizes}. {self._no_room}")

    # One part

    def _bring(self, piece: _Piece) -> None:
        """Have a part arrive: patiently while the store is silent. The last part of a file completes it. Errors: CannotPrepare, OSError"""
        arrival = piece.arrival
        with arrival.lock:
            if arrival.fd is None:
                arrival.fd = os.open(arrival.unchecked, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o664)
                os.truncate(arrival.fd, arrival.file.bytes)
        crc32 = self._received(piece, arrival.fd)
        if self._stop.is_set():
            return
        with arrival.lock:
            arrival.parts[piece.first] = (crc32, piece.count)
            arrival.left -= 1
            if arrival.left:
                return
        try:
            self._complete(arrival)
        except _Damaged:
            self._bring_again(arrival)

    def _received(self, piece: _Piece, fd: int) -> int:
        """Returns: the CRC-32 of what arrived; nothing of meaning if the work was broken off"""
        give_up_at, refusals, pause_s = time.monotonic() + PATIENCE_S, 0, FIRST_PAUSE_S
        while not self._stop.is_set():
            try:
                return self._receive(piece, fd)
            except Absent as error:
                raise CannotPrepare(f"“{piece.arrival.file.path}” is no longer in the object store; upload it again.") from error
            except Refused as error:
                refusals += 1
                if refusals == MOST_REFUSALS:
                    raise CannotPrepare(f"The store refuses the job's files to the node: {error}; `kiln doctor` says more.") from error
                self._trouble = str(error)
            except Silent as error:
                if time.monotonic() > give_up_at:
                    raise CannotPrepare(f"The store does not give the job's files to the node: {error}; try again when it does.") from error
                self._trouble = str(error)
            self._stop.wait(pause_s * random.uniform(0.5, 1.5))
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
        return 0

    def _receive(self, piece: _Piece, fd: int) -> int:
        """Errors: Silent, Absent, Refused; OSError - the disk's"""
        if not piece.count:
            return 0
        file, crc32, there = piece.arrival.file, 0, 0
        part = self._source.open_part(file.key, first=piece.first, count=piece.count)
        if part.object_bytes != file.bytes:
            piece.arrival.stored_bytes = part.object_bytes
        try:
            for block in part.blocks:
                if self._stop.is_set():
                    return 0
                if there + len(block) > piece.count:
                    break
                _write(fd, block, piece.first + there)
                crc32, there = zlib.crc32(block, crc32), there + len(block)
                self._moved(len(block))
            if there < piece.count and part.object_bytes == file.bytes:
                raise Silent(f"{file.key} ended after {there} bytes of {piece.count}")
        except Silent:
            self._moved(-there)
            raise
        return crc32

    def _moved(self, count: int) -> None:
        with self._lock:
            self._done_bytes += count
            if count > 0:
                self._moved_at = time.monotonic()

    # The whole file

    def _complete(self, arrival: _Arrival) -> None:
        """Check a file of which every part has arrived, and give it its name. Errors: _Damaged, OSError"""
        assert arrival.fd is not None, "its first part opened it"
        os.close(arrival.fd)
        arrival.fd = None
        file = arrival.file
        crc32 = crc32_of_parts(arrival.parts[first] for first in sorted(arrival.parts))
        if arrival.stored_bytes is not None:
            raise _Damaged(f"“{file.path}” has {arrival.stored_bytes} bytes in the object store instead of {file.bytes}; upload it again.")
        if file.checksum and file.checksum != f"crc32:{crc32:08x}":
            raise _Damaged(f"“{file.path}” does not match its checksum; upload it again.")
        _make_parents(self._folder, arrival.target)
        arrival.unchecked.replace(arrival.target)
        self._verified.note(file, arrival.target)

    def _bring_again(self, arrival: _Arrival) -> None:
        """Fetch a damaged file once more, in one thread. Errors: CannotPrepare - it is damaged again"""
        log.warning("file arrived damaged", extra={"path": arrival.file.path})
        self._moved(-sum(count for _, count in arrival.parts.values()))
        arrival.unchecked.unlink()
        arrival.parts.clear()
        arrival.stored_bytes = None
        arrival.fd = os.open(arrival.unchecked, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o664)
        for piece in _pieces(arrival):
            arrival.parts[piece.first] = (self._received(piece, arrival.fd), piece.count)
        if self._stop.is_set():
            return
        try:
            self._complete(arrival)
        except _Damaged as error:
            raise CannotPrepare(str(error)) from error


def path_in(folder: Path, name: str) -> Path:
    """The path of a job's file. Errors: CannotPrepare - it would lead out of the folder, whoever let it in"""
    parts = PurePosixPath(name).parts
    if not parts or name.startswith("/") or ".." in parts or "\0" in name or parts[0] == OWN_FOLDER:
        raise CannotPrepare(f"“{name}” leads out of the job's folder; delete this file and upload it under another name.")
    return folder.joinpath(*parts)


def _make_parents(folder: Path, target: Path) -> None:
    """Make the folders above a file. A link among them is replaced: what an earlier Blender left must not lead us out of the folder."""
    there = folder
    for part in target.parent.relative_to(folder).parts:
        there = there / part
        if there.is_symlink():
            there.unlink()
        with suppress(FileExistsError):
            there.mkdir()
        if not there.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(there))


def _pieces(arrival: _Arrival) -> Iterator[_Piece]:
    size = arrival.file.bytes
    for first in range(0, max(size, 1), PART_BYTES):
        yield _Piece(arrival=arrival, first=first, count=min(PART_BYTES, size - first))


def _write(fd: int, block: bytes, offset: int) -> None:
    rest = memoryview(block)
    while rest:
        written = os.pwrite(fd, rest, offset)
        rest, offset = rest[written:], offset + written


def _sentence(error: OSError, no_room: str) -> str:
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return f"The disk is full. {no_room}"
    if error.errno in {errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENOTEMPTY}:
        return f"“{error.filename2 or error.filename}” is the name of both a file and a folder; rename one of them and upload it again."
    if error.errno == errno.ENAMETOOLONG:
        return f"“{error.filename2 or error.filename}” is too long a name for the instance's disk; upload the file under a shorter one."
    return f"The job's files can't be written to the instance's disk: {error}. The farm launches another instance."


def _gib(count: int) -> str:
    return f"{count / 2**30:.1f} GiB"
