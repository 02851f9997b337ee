"""Block devices over files, which stand in for volumes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ami.check.commands import run


@contextmanager
def loop_volume(file: Path, *, bytes: int) -> Iterator[str]:
    """A blank block device over a file. Returns: its path"""
    with file.open("wb") as empty:
        empty.truncate(bytes)
    device = run("losetup", "--find", "--show", file).strip()
    try:
        yield device
    finally:
        run("losetup", "--detach", device, status=None)
        file.unlink(missing_ok=True)


def detach_left_over(folder: Path) -> None:
    """Detach what a killed run left in a folder: a loop device is the one thing that does not end with its namespace."""
    for line in run("losetup", "--list", "--noheadings", "--output", "NAME,BACK-FILE").splitlines():
        name, _, file = line.partition(" ")
        if file.strip().startswith(str(folder)):
            run("losetup", "--detach", name)
