"""Room in SeaweedFS: whether there is any, and how the room of deleted objects comes back once the disk is full.

A deleted object's room comes back when the volume that held it is rewritten, which needs as much room again for a moment. On a full disk
there is none: a file that only holds room (the ballast) gives way for it.
"""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import structlog

from supervisor.cloud.ports import CloudError

log = structlog.get_logger(__name__)

_MIB = 1 << 20
#: Below that, the next write may fail in the middle.
_NOTHING_LEFT_BYTES = 16 * _MIB
_EVERY_S = 15.0


def volume_mib(folder: Path) -> int:
    """Size SeaweedFS's volume files for the disk: small ones waste no room and are rewritten quickly, many cost open files.

    Units:   MiB; a power of two from 32 to 256, at most 0.5 % of the disk between them
    """
    share = shutil.disk_usage(folder).total // 200 >> 20
    return int(min(256, max(32, 1 << max(share, 1).bit_length() - 1)))


class StoreRoom:
    """The room of one SeaweedFS. `ask_master` GETs a path of its master and may raise CloudError."""

    def __init__(self, objects: Path, ballast: Path, *, collection: str, ask_master: Callable[[str], bytes]) -> None:
        self._objects = objects
        self._ballast = ballast
        self._collection = collection
        self._ask_master = ask_master
        self._tried_at = -_EVERY_S

    def is_full(self) -> bool:
        """Say whether another object would not fit: S3's own answer to a write (500) does not tell."""
        if self._free_bytes() < _NOTHING_LEFT_BYTES:
            return True
        try:
            answer = self._ask_master(f"/dir/assign?collection={self._collection}").lower()
        except CloudError:
            return False
        return b"no free volumes" in answer or b"no writable volumes" in answer

    def keep_ballast(self) -> None:
        """Hold room for one rewrite, where there is plenty or it was just won."""
        size = self._ballast_bytes()
        if not self._ballast.exists() and self._free_bytes() > 2 * size:
            with suppress(OSError), self._ballast.open("wb") as file:
                os.posix_fallocate(file.fileno(), 0, size)

    def win_back(self) -> None:
        """Have the volumes rewritten if the store is full and has something deleted in it. Repeat: safe; acts every 15 s at most."""
        if self._free_bytes() > 2 * self._ballast_bytes():
            self.keep_ballast()
            return
        if time.monotonic() < self._tried_at + _EVERY_S or not self.is_full():
            return
        self._tried_at = time.monotonic()
        try:
            deleted = self._deleted_bytes()
            if deleted < _MIB:
                return
            log.warning("object store is full; the room of deleted objects is won back", deleted_bytes=deleted)
            self._ballast.unlink(missing_ok=True)
            self._ask_master("/vol/vacuum?garbageThreshold=0.01")
        except CloudError as error:
            log.warning("room could not be won back; tried again later", error=str(error))
        self.keep_ballast()

    def _deleted_bytes(self) -> int:
        status = self._ask_master("/vol/status")
        return sum(int(count) for count in re.findall(rb'"DeletedByteCount":(\d+)', status))

    def _ballast_bytes(self) -> int:
        return (volume_mib(self._objects) + 32) * _MIB

    def _free_bytes(self) -> int:
        return shutil.disk_usage(self._objects).free
