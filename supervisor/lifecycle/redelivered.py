"""Frames that two nodes delivered: the later upload took the place of the earlier, so the store alone says whose outputs are there."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import closing

from nodeimage.protocol import JournalEntry, Outcome, Output, output_key
from supervisor.domain.frame import FrameStatus
from supervisor.farm import Farm
from supervisor.inspection.stream import copy_with_checksum
from supervisor.store import frames

from .observe import read_all

#: Frames that are looked into in one tick: each is read whole.
MOST_AT_ONCE = 20


def delivered_again(farm: Farm, job: str, entries: Iterable[JournalEntry]) -> list[int]:
    """The frames of those entries that come with other outputs than a delivery before, ascending."""
    told: dict[int, list[tuple[Output, ...]]] = {}
    for entry in entries:
        if entry.outcome is Outcome.FINISHED and entry.frame is not None:
            told.setdefault(entry.frame, []).append(entry.outputs)
    with farm.db.read() as connection:
        for number in told:
            frame = frames.find_frame(connection, job, number)
            if frame and frame.status is FrameStatus.RECEIVED:
                told[number].append(frame.outputs)
    return sorted(number for number, outputs in told.items() if len({frozenset(each) for each in outputs}) > 1)


def stored_outputs(farm: Farm, job: str, numbers: Collection[int], entries: Iterable[JournalEntry]) -> dict[int, frozenset[Output]]:
    """What the store has of those frames, as it is: each output that one of the entries names, read whole."""
    named = ((entry.frame, output.name) for entry in entries for output in entry.outputs)
    wanted = sorted({(number, name) for number, name in named if number is not None and number in numbers})
    found: dict[int, set[Output]] = {number: set() for number in numbers}
    measured = read_all(lambda one: measured_output(farm, job, *one), wanted)
    for (number, _), output in zip(wanted, measured, strict=True):
        if output:
            found[number].add(output)
    return {number: frozenset(outputs) for number, outputs in found.items()}


def measured_output(farm: Farm, job: str, frame: int, name: str) -> Output | None:
    """Read an output for its size and checksum. Returns: None if it is not there. Errors: CloudError"""
    try:
        with closing(farm.cloud.objects.open(output_key(job, frame, name))) as source:
            read = copy_with_checksum(source, lambda _: None, go_on=lambda: True)
    except FileNotFoundError:
        return None
    assert read is not None, "nobody said stop"
    return Output(name=name, bytes=read[0], crc32=read[1])


def as_stored(before: Sequence[Output], now: Sequence[Output], stored: Collection[Output]) -> tuple[Output, ...]:
    """The outputs of a frame that was delivered twice: those of before that are still in the store, and for the rest the newer word."""
    there: Mapping[str, Output] = {output.name: output for output in before if output in stored}
    return tuple(there.get(output.name, output) for output in now)
