"""A job's files for one node: copies that share their blocks where the file system can, links where it can't, plain copies else."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
from collections.abc import Callable
from pathlib import Path

#: Linux's FICLONE: the new file shares the old one's blocks until one of them is written to (Btrfs, XFS, bcachefs).
_FICLONE = 0x40049409

_Way = Callable[[Path, Path], None]


def copy_tree(source: Path, target: Path) -> None:
    """Make `target` hold what `source` holds. Each file is the cheapest kind of copy that works here.

    Links share the file itself: they are made of read-only files only, so that a node does not write into its neighbour's.
    Errors:  OSError - the disk is full, or the source is gone
    """
    ways: list[_Way] = [_reflink, _link, _copy]
    for folder, folders, files in os.walk(source):
        there = target / Path(folder).relative_to(source)
        there.mkdir(parents=True, exist_ok=True)
        for name in folders:
            (there / name).mkdir(exist_ok=True)
        for name in files:
            _copy_file(Path(folder) / name, there / name, ways)


def _copy_file(source: Path, target: Path, ways: list[_Way]) -> None:
    """Copy in the first of `ways` that works, and drop from them what this file system can't do at all."""
    for way in list(ways):
        try:
            way(source, target)
            return
        except OSError as error:
            if way is _copy or error.errno in {errno.ENOSPC, errno.EDQUOT, errno.ENOENT}:
                raise
            target.unlink(missing_ok=True)
            if error.errno != errno.EMLINK:  # too many links to this one file: others may still be linked
                ways.remove(way)


def _reflink(source: Path, target: Path) -> None:
    with source.open("rb") as old, target.open("xb") as new:
        fcntl.ioctl(new.fileno(), _FICLONE, old.fileno())


def _link(source: Path, target: Path) -> None:
    if source.stat().st_mode & 0o222:
        raise OSError(errno.EPERM, "only read-only files are linked", str(source))
    os.link(source, target)


def _copy(source: Path, target: Path) -> None:
    shutil.copyfile(source, target)
