"""What is known to be whole of a workspace, written down so that an agent started again fetches only what is missing."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from nodeimage.launch import FileEntry, FileList

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def this_boot(path: Path = BOOT_ID) -> str:
    """Name the run of the machine since it was switched on."""
    return path.read_text().strip()


class Verified:
    """The notes about one workspace. May be used from any thread.

    A file noted in this run of the machine is believed by its size and time. One of an earlier run is believed only if everything was
    flushed to the disk afterwards: a machine that loses its power keeps names and sizes, and may lose what they stand for.
    """

    def __init__(self, folder: Path, files: FileList, *, boot: str) -> None:
        """Shape:   `folder` is that of the notes, not of the files"""
        self._notes = folder / "verified.jsonl"
        self._flushed = folder / "flushed"
        self._content = files.content
        self._boot = boot
        self._lock = threading.Lock()
        folder.mkdir(parents=True, exist_ok=True)
        self._known = self._read()

    def holds(self, file: FileEntry, path: Path) -> bool:
        """Say whether the file is there and known to be whole."""
        try:
            there = path.lstat()
        except OSError:
            return False
        noted = self._known.get(file.path)
        return there.st_size == file.bytes and noted == [file.path, file.bytes, file.checksum, there.st_mtime_ns]

    def note(self, file: FileEntry, path: Path) -> None:
        """Write down that the file is whole. Errors: OSError"""
        entry = [file.path, file.bytes, file.checksum, path.lstat().st_mtime_ns]
        with self._lock, self._notes.open("a") as notes:
            notes.write(json.dumps([*entry, self._boot]) + "\n")

    def note_flushed(self) -> None:
        """Write down that all files reached the disk. Errors: OSError"""
        self._flushed.write_text(self._content)

    def _read(self) -> Mapping[str, Sequence[object]]:
        is_flushed, known = False, {}
        with suppress(OSError):
            is_flushed = self._flushed.read_text() == self._content
        with suppress(FileNotFoundError), self._notes.open() as notes:
            for line in notes:
                with suppress(ValueError, TypeError):  # a line that the end of the agent cut off
                    *entry, boot = json.loads(line)
                    if is_flushed or boot == self._boot:
                        known[str(entry[0])] = entry
        return known
