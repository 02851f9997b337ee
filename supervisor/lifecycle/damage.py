"""Frames whose outputs in the store are not what their nodes delivered: remembered, so that people see them and can have them again."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Protocol

from supervisor.store import frames, jobs
from supervisor.store.database import Connection

#: The outputs of a frame: each one's name, size and checksum.
Sums = frozenset[tuple[str, int, int]]


class _Summed(Protocol):
    """An output, by whatever name its own name goes."""

    @property
    def bytes(self) -> int: ...

    @property
    def crc32(self) -> int: ...


def sums_of(outputs: Iterable[tuple[str, _Summed]]) -> Sums:
    return frozenset((name, output.bytes, output.crc32) for name, output in outputs)


def note_damaged(connection: Connection, job: str, found: Mapping[int, str], seen: Mapping[int, Sums]) -> list[int]:
    """Remember what is wrong with frames, unless they were delivered anew meanwhile, or are about to be.

    Shape:   found: frame -> what is wrong; seen: frame -> its outputs when that was found
    Returns: the frames of which it is so, ascending; of a job that is gone, all
    """
    if jobs.find_job(connection, job) is None:
        return sorted(found)
    now = {number: sums_of((o.name, o) for o in outputs) for number, outputs in frames.received_outputs(connection, job) if number in found}
    damaged = sorted(number for number in found if now.get(number) == seen[number])
    frames.note_damage(connection, job, {number: found[number] for number in damaged})
    return damaged
