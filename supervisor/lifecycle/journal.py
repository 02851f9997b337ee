"""Take in what nodes report: each journal entry once, whatever its order."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import islice

import structlog

from nodeimage.protocol import Failure, JournalEntry, Outcome, Output, Unreadable, journal_at_ms, journal_cursor, journal_prefix
from supervisor.domain.frame import FrameStatus
from supervisor.domain.problem import Problem
from supervisor.farm import Farm
from supervisor.store import attempts, events, frames, jobs
from supervisor.store.attempts import Attempt
from supervisor.store.database import Connection
from supervisor.store.frames import Delivery, Frame
from supervisor.store.instances import Instance
from supervisor.store.jobs import Job

from .blenders import note_blender
from .findings import is_told, problem_of
from .observe import read_all
from .redelivered import MOST_AT_ONCE, as_stored, delivered_again, stored_outputs
from .tick import Tick, Watch

log = structlog.get_logger(__name__)

#: Nodes' clocks differ, and a slow put comes after a quick one of a later time: the listing begins so much before the newest entry.
_OVERLAP = timedelta(seconds=120)
#: Entries taken in at once; the rest comes with the next tick, so that one job's flood does not hold up the others.
_MOST_AT_ONCE = 2000
#: Failures that the first retry answers with a fresh Blender without persistent data.
_PERHAPS_PERSISTENCE = frozenset({Failure.CRASH, Failure.ERROR, Failure.BAD_OUTPUT})


def take_in_journal(farm: Farm, job: Job, mine: Iterable[Instance], tick: Tick, watch: Watch, *, whole: bool = False) -> None:
    """Take in the entries that are new: from the cursor, or from the beginning where `whole` or it is time for that. Repeat: safe"""
    whole = whole or watch.is_whole_journal_due(job.id, tick.now)
    since_ms = 0 if whole else _since_ms(job, mine, tick)
    prefix = journal_prefix(job.id)
    after = journal_cursor(job.id, at_ms=since_ms)
    with farm.db.read() as connection:
        known = attempts.entries_from(connection, job.id, after.removeprefix(prefix))
    listed = (entry.key.removeprefix(prefix) for entry in farm.cloud.objects.list(prefix, after=after))
    new = list(islice((name for name in listed if name not in known), _MOST_AT_ONCE))
    read = zip(new, read_all(lambda name: _entry(farm, prefix, name), new), strict=True)
    told = [(name, entry) for name, entry in read if entry]
    again = delivered_again(farm, job.id, _understood(told))
    later = frozenset(again[MOST_AT_ONCE:])
    told = [(name, entry) for name, entry in told if isinstance(entry, Unreadable) or entry.frame not in later]
    if told:
        stored = stored_outputs(farm, job.id, again[:MOST_AT_ONCE], _understood(told))
        _write(farm, job, told, stored, at=tick.now)
    if whole and len(new) < _MOST_AT_ONCE and not later:
        watch.whole_journal_at[job.id] = tick.now


def _understood(told: Iterable[tuple[str, JournalEntry | Unreadable]]) -> list[JournalEntry]:
    return [entry for _, entry in told if isinstance(entry, JournalEntry)]


def _since_ms(job: Job, mine: Iterable[Instance], tick: Tick) -> int:
    """Where to list from: before the newest entry, and never ahead of our own clock; earlier if a node's clock is slow."""
    now_ms = _ms(tick.now)
    slow_ms = [_ms(one.beat_at) - one.heartbeat.at_ms for one in mine if one.is_rented and one.beat_at and one.heartbeat]
    overlap_ms = int(_OVERLAP.total_seconds() * 1000) + max([0, *slow_ms])
    return max(min(job.journal_ms, now_ms) - overlap_ms, 0)


def _ms(at: datetime) -> int:
    return int(at.timestamp() * 1000)


def _entry(farm: Farm, prefix: str, name: str) -> JournalEntry | Unreadable | None:
    stored = farm.cloud.objects.get(prefix + name)
    if stored is None:
        return None
    try:
        entry = JournalEntry.from_bytes(stored.body)
        _check_outputs(entry)
    except Unreadable as error:
        log.warning("journal entry not understood", key=prefix + name, error=str(error))
        return error
    return entry


def _check_outputs(entry: JournalEntry) -> None:
    """A node has keys for its own prefixes alone, the farm for all: a node must not get at the rest through the farm. Errors: Unreadable"""
    for output in entry.outputs:
        if {"", ".", ".."} & set(output.name.split("/")):
            raise Unreadable(f"it names an output outside of its frame: {output.name[:80]!r}")


def _write(
    farm: Farm,
    job: Job,
    entries: Sequence[tuple[str, JournalEntry | Unreadable]],
    stored: Mapping[int, frozenset[Output]],
    *,
    at: datetime,
) -> None:
    """Shape:   stored: of frames that were delivered more than once, what the store has"""
    with farm.db.write() as connection:
        newest_ms = job.journal_ms
        for name, entry in entries:
            if isinstance(entry, Unreadable):
                _note_unreadable(connection, job.id, name, entry, at=at)
            elif attempts.is_told(connection, job.id, nonce=entry.nonce, outcome=entry.outcome):
                attempts.add_attempt(connection, job.id, replace(_attempt(name, entry, at=at), outcome=attempts.REPEATED))
            elif attempts.add_attempt(connection, job.id, _attempt(name, entry, at=at)):
                _apply(connection, farm, job.id, entry, stored, at=at)
            newest_ms = max(newest_ms, _at_ms(name))
        jobs.change_job(connection, job.id, journal_ms=newest_ms)


def _at_ms(name: str) -> int:
    try:
        return journal_at_ms(name)
    except ValueError:
        return 0


def _attempt(name: str, entry: JournalEntry, *, at: datetime) -> Attempt:
    return Attempt(
        entry=name,
        frame=entry.frame,
        attempt=entry.attempt,
        node=entry.node,
        nonce=entry.nonce,
        outcome=entry.outcome,
        failure=entry.failure,
        message=entry.message,
        render_s=entry.render_s,
        at=datetime.fromtimestamp(entry.at_ms / 1000, UTC),
        taken_in_at=at,
    )


def _note_unreadable(connection: Connection, job: str, name: str, error: Unreadable, *, at: datetime) -> None:
    unread = Attempt(
        entry=name,
        frame=None,
        attempt=0,
        node="",
        nonce="",
        outcome=attempts.UNREADABLE,
        failure=None,
        message=str(error),
        render_s=0.0,
        at=at,
        taken_in_at=at,
    )
    if attempts.add_attempt(connection, job, unread):
        text = f"a report of a node can't be read: {error}"
        remedy = "Its frame is rendered again when the node ends. If this keeps coming, the nodes' agent does not fit this farm's version."
        events.put_problem(connection, job, Problem(code="unreadable", severity="warning", text=text, remedy=remedy, since=at))


def _apply(
    connection: Connection, farm: Farm, job: str, entry: JournalEntry, stored: Mapping[int, frozenset[Output]], *, at: datetime
) -> None:
    if entry.outcome is Outcome.OPENED:
        _apply_opened(connection, job, entry, at=at)
        return
    frame = frames.find_frame(connection, job, entry.frame) if entry.frame is not None else None
    if frame is None:
        return
    if entry.outcome is Outcome.FINISHED:
        _apply_finished(connection, job, frame, entry, stored.get(frame.number, frozenset()), at=at)
        return
    if entry.outcome is Outcome.FAILED:
        frames.note_log(connection, job, frame.number, attempt=entry.attempt)
    if frame.is_ended:
        return  # a node that was given up tells late what another one has settled
    if entry.outcome is Outcome.INTERRUPTED:
        reason = f"attempt {entry.attempt} was interrupted: {entry.message}"
        frames.requeue(connection, job, frame.number, reason=reason, attempt=entry.attempt)
    else:
        _apply_failed(connection, farm, job, frame, entry, at=at)


def _apply_opened(connection: Connection, job: str, entry: JournalEntry, *, at: datetime) -> None:
    told = events.problems_of(connection, job)
    for finding in entry.findings:
        if not is_told(finding, told):
            events.put_problem(connection, job, problem_of(finding, at=at))
    seen = jobs.find_job(connection, job)
    assert seen is not None, "it was read in this transaction"
    note_blender(connection, seen, entry.blender_version)
    if not seen.ordered and any(finding.code == "unbaked" for finding in entry.findings):
        jobs.change_job(connection, job, ordered=True)
        text = "the scene has an unbaked simulation: its frames depend on those before, so one instance renders all of them in order"
        events.add_event(connection, job, at=at, text=text)


def _apply_finished(
    connection: Connection, job: str, frame: Frame, entry: JournalEntry, stored: frozenset[Output], *, at: datetime
) -> None:
    outputs = entry.outputs
    if frame.status is FrameStatus.RECEIVED:
        outputs = as_stored(frame.outputs, entry.outputs, stored)
        if set(outputs) == set(frame.outputs):
            return
    delivery = Delivery(
        node=entry.node,
        attempt=entry.attempt,
        render_s=entry.render_s,
        peak_memory_bytes=entry.peak_memory_bytes,
        outputs=outputs,
        has_preview=entry.has_preview,
    )
    frames.receive(connection, job, frame.number, delivery, at=at)
    jobs.note_finished_frame(connection, job, at=at)
    events.clear_problem(connection, job, "node_lost")
    if frame.status is FrameStatus.FAILED:
        events.clear_problem(connection, job, "frame_failed", about=str(frame.number))


def _apply_failed(connection: Connection, farm: Farm, job: str, frame: Frame, entry: JournalEntry, *, at: datetime) -> None:
    reason = f"attempt {entry.attempt} on {entry.node} failed ({_words(entry.failure)}): {entry.message}"
    if frame.failures + 1 < farm.config.render.max_attempts:
        frames.requeue(
            connection,
            job,
            frame.number,
            reason=reason,
            avoid=entry.node,
            attempt=entry.attempt,
            counts_as_failure=True,
            persistent_data=entry.failure not in _PERHAPS_PERSISTENCE,
        )
        events.add_event(connection, job, at=at, text=f"frame {frame.number}: {reason}; it is tried again")
        return
    frames.fail(connection, job, frame.number, node=entry.node, reason=reason)
    text = f"frame {frame.number} failed {frame.failures + 1} times; {reason}"
    remedy = "The frame's log says more. When the cause is mended, retry the job: only what is missing is rendered."
    failed = Problem(code="frame_failed", about=str(frame.number), severity="error", text=text, remedy=remedy, since=at)
    events.put_problem(connection, job, failed)
    events.add_event(connection, job, at=at, text=text)


def _words(failure: Failure | None) -> str:
    return str(failure or Failure.ERROR).replace("_", " ")
