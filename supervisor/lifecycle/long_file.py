"""Write one large file from beginning to end, past the page cache: gigabytes that nobody reads soon would drive out what renders read."""

from __future__ import annotations

import errno
import mmap
import os
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Self

_BUFFER_BYTES = 4 << 20
_BLOCK_BYTES = 4096  #: direct writes begin and end on blocks


class LongFile:
    """A file that is whole and on the disk once `finish` returned. One buffer fills while the other is written."""

    def __init__(self, path: Path) -> None:
        """Begin the file, in place of one that is there. Errors: OSError"""
        self._descriptor = _open(path)
        self._buffers = [mmap.mmap(-1, _BUFFER_BYTES) for _ in range(2)]  # pages: memory that direct writes take
        self._filled = 0
        self._length = 0
        self._disk = ThreadPoolExecutor(1, thread_name_prefix="long-file")
        self._writing: Future[None] | None = None

    def write(self, data: bytes) -> None:
        """Errors: OSError - of this or an earlier write; the file is of no use then"""
        view = memoryview(data)
        self._length += len(view)
        while view:
            taken = min(len(view), _BUFFER_BYTES - self._filled)
            self._buffers[0][self._filled : self._filled + taken] = view[:taken]
            self._filled += taken
            view = view[taken:]
            if self._filled == _BUFFER_BYTES:
                self._send(_BUFFER_BYTES)

    def finish(self) -> None:
        """Make the file be on the disk. Errors: OSError"""
        if self._filled:
            self._send(-(-self._filled // _BLOCK_BYTES) * _BLOCK_BYTES)
        self._settle()
        os.ftruncate(self._descriptor, self._length)
        os.fsync(self._descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._disk.shutdown(wait=True)
        os.close(self._descriptor)
        for buffer in self._buffers:
            buffer.close()

    def _send(self, length: int) -> None:
        self._settle()
        self._writing = self._disk.submit(_write_all, self._descriptor, self._buffers[0], length)
        self._buffers.reverse()
        self._filled = 0

    def _settle(self) -> None:
        if self._writing:
            self._writing.result()
            self._writing = None


def _open(path: Path) -> int:
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    try:
        return os.open(path, flags | os.O_DIRECT, 0o600)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        return os.open(path, flags, 0o600)  # a file system that knows no direct writes, such as tmpfs


def _write_all(descriptor: int, buffer: mmap.mmap, length: int) -> None:
    with memoryview(buffer) as view:
        done = 0
        while done < length:
            done += os.write(descriptor, view[done:length])
