"""Blender's log: one file that Blender itself writes to, cut into the attempts' logs, and kept from filling the disk.

A file, not a pipe: nothing stalls when nobody reads, nothing is lost when the agent dies, and what was printed before an event was
sent is in the file when the event arrives.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

LINE_CHARACTERS = 1000
#: An attempt's log as delivered: its beginning and its end, each of so many bytes, if it is longer than both.
PART_BYTES = 512 * 1024
#: Blender's log file is emptied beyond this: a file that warns with every sample would fill the disk.
MOST_BYTES = 64 * 2**20
TAIL_BYTES = 8192
TAIL_LINES = 20

#: Lines that tell why, as against Blender's progress.
_TELLING = re.compile(
    r"error|warning|exception|traceback|fail|memory|abort|segmentation|cannot|can't|unable|missing|no camera", re.IGNORECASE
)
_PROGRESS = re.compile(r"^(Fra:|Saved:|Time:| *File \"|\s*$)")


class BlenderLog:
    """The log of one Blender process."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._start = 0
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")

    def open(self) -> int:
        """Open the file for Blender to append to. Returns: the descriptor, which the caller closes"""
        return os.open(self.path, os.O_WRONLY | os.O_APPEND)

    def size(self) -> int:
        """Bytes written so far; the file is emptied when they are too many."""
        size = self.path.stat().st_size
        if size > MOST_BYTES:
            os.truncate(self.path, 0)
            self._start = 0
            with self.path.open("ab") as file:
                file.write(b"... this log grew too long; what stood here was dropped\n")
            size = self.path.stat().st_size
        return size

    def cut(self, end: int | None = None) -> bytes:
        """Take what was written since the last cut, up to the byte `end`, its lines length-limited: the log of an attempt."""
        there = self.path.stat().st_size
        end = there if end is None else min(end, there)
        start, self._start = min(self._start, end), end
        with self.path.open("rb") as file:
            file.seek(start)
            if end - start <= 2 * PART_BYTES:
                return _limited(file.read(end - start))
            head = file.read(PART_BYTES)
            file.seek(end - PART_BYTES)
            tail = file.read(PART_BYTES)
        dropped = end - start - 2 * PART_BYTES
        return _limited(head) + f"\n... {dropped} bytes left out ...\n".encode() + _limited(tail)

    def tail(self) -> tuple[str, ...]:
        """The last lines, shortened."""
        with self.path.open("rb") as file:
            file.seek(max(0, self.path.stat().st_size - TAIL_BYTES))
            lines = file.read().decode(errors="replace").splitlines()
        return tuple(line[:200] for line in lines if line.strip())[-TAIL_LINES:]

    def telling_lines(self, most: int = 4) -> str:
        """The last lines that say what went wrong, else the very last ones, in one string."""
        lines = [line.strip() for line in self.tail() if not _PROGRESS.match(line)]
        telling = [line for line in lines if _TELLING.search(line)] or lines
        return " | ".join(telling[-most:])[:600]


def _limited(text: bytes) -> bytes:
    lines = text.decode(errors="replace").splitlines()
    cut = [line if len(line) <= LINE_CHARACTERS else line[:LINE_CHARACTERS] + " ..." for line in lines]
    return "".join(line + "\n" for line in cut).encode()
