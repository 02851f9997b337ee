"""Uploads in parts: how large the parts are, which there are, and sizes in words."""

from __future__ import annotations

from collections.abc import Sequence

from .errors import Rejected

#: S3 takes 10,000 parts of an upload; fewer, larger ones keep the list of addresses short that an upload begins with.
MAX_PARTS = 2_000
_MIB = 1 << 20
_GIB = 1 << 30


def gib(bytes_: float) -> str:
    """Write a size in GiB, MiB, KiB or bytes, whichever reads best."""
    for unit, size in (("GiB", _GIB), ("MiB", _MIB), ("KiB", 1 << 10)):
        if abs(bytes_) >= size:
            return f"{bytes_ / size:.1f} {unit}"
    return f"{bytes_:.0f} bytes"


def part_size(length: int, *, smallest: int) -> int:
    """Choose the size of an upload's parts: `smallest`, or as many whole MiB as keep it within MAX_PARTS."""
    least = -(-length // MAX_PARTS)
    return max(smallest, -(-least // _MIB) * _MIB)


def part_count(length: int, part_bytes: int) -> int:
    return -(-length // part_bytes)


def part_length(number: int, *, length: int, part_bytes: int) -> int:
    """Say how long one part is: all are equal but the last. Errors: Rejected - field `number`: there is no such part"""
    count = part_count(length, part_bytes)
    if not 1 <= number <= count:
        raise Rejected(f"there is no part {number}; this upload has parts 1 to {count}", field="number")
    return part_bytes if number < count else length - part_bytes * (count - 1)


def check_complete(named: Sequence[int], *, length: int, part_bytes: int) -> None:
    """Errors: Rejected - field `parts`: the parts named are not each of the upload's parts, once; says which"""
    count = part_count(length, part_bytes)
    if len(set(named)) != len(named):
        twice = next(number for number in named if named.count(number) > 1)
        raise Rejected(f"part {twice} is named twice", field="parts")
    wanted = set(range(1, count + 1))
    if strange := set(named) - wanted:
        raise Rejected(f"there is no part {min(strange)}; this upload has parts 1 to {count}", field="parts")
    if missing := wanted - set(named):
        raise Rejected(
            f"part {min(missing)} of {count} is missing ({len(missing)} in all); upload it and complete the file again", field="parts"
        )
