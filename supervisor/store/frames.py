"""Frames in the database. What a person sees as a frame's status is written here alone; who decides it is the lifecycle."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, and_, bindparam, func, insert, literal_column, select, update

from nodeimage.protocol import Output
from supervisor.domain.frame import FrameCounts, FrameStatus

from .schema import frames

_UNENDED = (FrameStatus.QUEUED, FrameStatus.RENDERING)
#: SQLite takes at most 32,766 variables in one statement.
_AT_ONCE = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """A frame as it was read."""

    number: int
    status: FrameStatus
    attempt: int  #: the current or last one
    node: str | None  #: that renders or rendered it
    avoid: tuple[str, ...]
    persistent_data: bool
    render_s: float | None
    peak_memory_bytes: int | None
    outputs: tuple[Output, ...]
    has_preview: bool
    logged_attempt: int
    reason: str
    failures: int
    began_at: datetime | None
    received_at: datetime | None
    damage: str  #: of a received one: what is wrong with its outputs in the store, as far as known; empty: nothing

    @property
    def is_ended(self) -> bool:
        return self.status not in _UNENDED


def add_frames(connection: Connection, job: str, numbers: Iterable[int]) -> None:
    """Queue the frames of a job that has none yet."""
    rows = [{"job_id": job, "number": number, "status": FrameStatus.QUEUED} for number in numbers]
    if rows:
        connection.execute(insert(frames), rows)


def find_frame(connection: Connection, job: str, number: int) -> Frame | None:
    row = connection.execute(select(frames).where(_of(job, number))).first()
    return _frame(row) if row else None


def frames_page(connection: Connection, job: str, *, after: int | None, limit: int) -> list[Frame]:
    """By number, following frame `after`."""
    chosen = select(frames).where(frames.c.job_id == job).order_by(frames.c.number).limit(limit)
    if after is not None:
        chosen = chosen.where(frames.c.number > after)
    return [_frame(row) for row in connection.execute(chosen)]


def marks(connection: Connection, job: str) -> list[tuple[int, FrameStatus, int, bool]]:
    """(number, status, attempt, has a preview) of every frame, ascending."""
    chosen = select(frames.c.number, frames.c.status, frames.c.attempt, frames.c.has_preview).where(frames.c.job_id == job)
    rows = connection.execute(chosen.order_by(frames.c.number))
    return [(number, FrameStatus(status), attempt, has_preview) for number, status, attempt, has_preview in rows]


def counts(connection: Connection, job: str) -> FrameCounts:
    return counts_of(connection, [job])[job]


def counts_of(connection: Connection, job_ids: Sequence[str]) -> dict[str, FrameCounts]:
    """The counts of several jobs in one read."""
    chosen = select(frames.c.job_id, frames.c.status, func.count()).where(frames.c.job_id.in_(job_ids))
    found: dict[str, dict[str, int]] = {job: {} for job in job_ids}
    for job, status, number in connection.execute(chosen.group_by(frames.c.job_id, frames.c.status)):
        found[job][status] = number
    return {job: _counts(by_status) for job, by_status in found.items()}


def counts_among(connection: Connection, job: str, chosen: Sequence[int]) -> FrameCounts:
    """The counts of some of a job's frames."""
    among = select(frames.c.status, func.count()).where((frames.c.job_id == job) & frames.c.number.in_(list(chosen)))
    return _counts({status: number for status, number in connection.execute(among.group_by(frames.c.status))})


def _counts(by_status: dict[str, int]) -> FrameCounts:
    return FrameCounts(
        total=sum(by_status.values()),
        received=by_status.get(FrameStatus.RECEIVED, 0),
        rendering=by_status.get(FrameStatus.RENDERING, 0),
        failed=by_status.get(FrameStatus.FAILED, 0),
    )


def numbers(connection: Connection, job: str, *statuses: FrameStatus) -> list[int]:
    """The frames in those statuses (none given: all), ascending."""
    chosen = select(frames.c.number).where(frames.c.job_id == job).order_by(frames.c.number)
    if statuses:
        chosen = chosen.where(frames.c.status.in_(statuses))
    return list(connection.execute(chosen).scalars())


def unended(connection: Connection, job: str) -> list[int]:
    """The frames that are neither received nor failed, ascending."""
    return numbers(connection, job, *_UNENDED)


def requeued(connection: Connection, job: str) -> list[Frame]:
    """The frames, ended or not, that had more than one attempt, ascending."""
    chosen = select(frames).where((frames.c.job_id == job) & (frames.c.attempt > 1)).order_by(frames.c.number)
    return [_frame(row) for row in connection.execute(chosen)]


def begin(connection: Connection, job: str, at_hand: Mapping[int, str], *, at: datetime) -> None:
    """Show frames as rendering, each on its node; those that are not free for that stay as they are. Shape: frame -> node"""
    free = and_(frames.c.status == FrameStatus.QUEUED, frames.c.frees_claim.is_(False))
    chosen = select(frames.c.number).where((frames.c.job_id == job) & frames.c.number.in_(list(at_hand)) & free)
    begun = [
        {"of": number, "status": FrameStatus.RENDERING, "node": at_hand[number], "began_at": at}
        for number in connection.execute(chosen).scalars()
    ]
    if begun:
        connection.execute(update(frames).where((frames.c.job_id == job) & (frames.c.number == bindparam("of"))), begun)


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """What a node delivered of a frame."""

    node: str
    attempt: int
    render_s: float
    peak_memory_bytes: int
    outputs: tuple[Output, ...]
    has_preview: bool


def receive(connection: Connection, job: str, number: int, delivery: Delivery, *, at: datetime) -> None:
    """Make a frame received, whatever it was."""
    values = {
        "status": FrameStatus.RECEIVED,
        "node": delivery.node,
        "attempt": func.max(frames.c.attempt, delivery.attempt),
        "logged_attempt": func.max(frames.c.logged_attempt, delivery.attempt),
        "render_s": delivery.render_s,
        "peak_memory_bytes": delivery.peak_memory_bytes,
        "outputs": [[output.name, output.bytes, output.crc32] for output in delivery.outputs],
        "has_preview": delivery.has_preview,
        "frees_claim": False,
        "received_at": at,
        "damage": "",
    }
    connection.execute(update(frames).where(_of(job, number)).values(**values))


def requeue(
    connection: Connection,
    job: str,
    number: int,
    *,
    reason: str,
    avoid: str | None = None,
    attempt: int = 0,
    counts_as_failure: bool = False,
    persistent_data: bool = True,
) -> None:
    """Queue a frame for its next attempt; its claim is to be deleted once the order says so.

    Shape:   avoid: a node that should leave it to others; attempt: the one that ended, where the frame does not know of it
    """
    seen = find_frame(connection, job, number)
    assert seen is not None, "the caller read it in this transaction"
    avoided = seen.avoid if avoid is None or avoid in seen.avoid else (*seen.avoid, avoid)
    values = {
        "status": FrameStatus.QUEUED,
        "attempt": max(seen.attempt, attempt) + 1,
        "node": None,
        "avoid": list(avoided),
        "persistent_data": seen.persistent_data and persistent_data,
        "failures": seen.failures + counts_as_failure,
        "frees_claim": True,
        "reason": reason,
        "received_at": None,
        "has_preview": False,
        "damage": "",
    }
    connection.execute(update(frames).where(_of(job, number)).values(**values))


def render_again(connection: Connection, job: str, numbers: Sequence[int], *, reason: str) -> None:
    """Queue ended frames as if they had never been rendered; attempt numbers go on, so that logs are kept and pictures are others."""
    fresh = {
        "status": FrameStatus.QUEUED,
        "attempt": frames.c.attempt + 1,
        "node": None,
        "avoid": [],
        "persistent_data": True,
        "failures": 0,
        "frees_claim": True,
        "reason": reason,
        "began_at": None,
        "received_at": None,
        "has_preview": False,
        "damage": "",
    }
    for start in range(0, len(numbers), _AT_ONCE):
        chosen = (frames.c.job_id == job) & frames.c.number.in_(numbers[start : start + _AT_ONCE])
        connection.execute(update(frames).where(chosen).values(**fresh))


def fail(connection: Connection, job: str, number: int, *, node: str, reason: str) -> None:
    """Make a frame failed: it used up its attempts."""
    failed = {"status": FrameStatus.FAILED, "node": node, "reason": reason, "failures": frames.c.failures + 1, "frees_claim": False}
    connection.execute(update(frames).where(_of(job, number)).values(**failed))


def note_log(connection: Connection, job: str, number: int, *, attempt: int) -> None:
    """Remember that the log of an attempt is in the bucket."""
    logged = update(frames).where(_of(job, number) & (frames.c.logged_attempt < attempt))
    connection.execute(logged.values(logged_attempt=attempt))


def queue_missing(connection: Connection, job: str) -> None:
    """Queue every frame that is not received, with fresh attempts; attempt numbers go on, so that logs are kept."""
    of_job = frames.c.job_id == job
    connection.execute(update(frames).where(of_job & (frames.c.failures > 0)).values(failures=0))
    missing = of_job & (frames.c.status != FrameStatus.RECEIVED)
    failed = missing & (frames.c.status == FrameStatus.FAILED)
    connection.execute(update(frames).where(failed).values(attempt=frames.c.attempt + 1, frees_claim=True))
    fresh = {"status": FrameStatus.QUEUED, "avoid": [], "persistent_data": True, "node": None, "began_at": None}
    connection.execute(update(frames).where(missing).values(**fresh))


def note_damage(connection: Connection, job: str, found: Mapping[int, str]) -> None:
    """Remember what is wrong with received frames' outputs in the store. Shape: frame -> what; empty: nothing any more"""
    of_it = (frames.c.job_id == job) & (frames.c.number == bindparam("of")) & (frames.c.status == FrameStatus.RECEIVED)
    if found:
        rows = [{"of": number, "what": damage} for number, damage in found.items()]
        connection.execute(update(frames).where(of_it).values(damage=bindparam("what")), rows)


def damaged(connection: Connection, job: str) -> list[int]:
    """The received frames that are known to be damaged, ascending. Cheap: they have an index of their own."""
    chosen = select(frames.c.number).where((frames.c.job_id == job) & (frames.c.damage != literal_column("''")))
    return list(connection.execute(chosen.order_by(frames.c.number)).scalars())


def rendering_on(connection: Connection, job: str, nodes: Iterable[str]) -> list[int]:
    """The frames that are shown as rendering on one of those nodes, ascending."""
    on_them = (frames.c.job_id == job) & (frames.c.status == FrameStatus.RENDERING) & frames.c.node.in_(list(nodes))
    return list(connection.execute(select(frames.c.number).where(on_them).order_by(frames.c.number)).scalars())


def stop_rendering(connection: Connection, job: str) -> None:
    """Show the frames that were rendering as queued: nothing renders any more."""
    on_any = (frames.c.job_id == job) & (frames.c.status == FrameStatus.RENDERING)
    connection.execute(update(frames).where(on_any).values(status=FrameStatus.QUEUED, node=None))


def claims_to_free(connection: Connection, job: str) -> list[int]:
    """The frames whose claim in the bucket may be of an attempt that ended."""
    chosen = select(frames.c.number).where((frames.c.job_id == job) & frames.c.frees_claim.is_(True))
    return list(connection.execute(chosen).scalars())


def forget_claims(connection: Connection, job: str, freed: Sequence[int]) -> None:
    """Remember that those claims were seen to."""
    for start in range(0, len(freed), _AT_ONCE):
        of_job = (frames.c.job_id == job) & frames.c.number.in_(freed[start : start + _AT_ONCE])
        connection.execute(update(frames).where(of_job).values(frees_claim=False))


def received_outputs(connection: Connection, job: str) -> Iterator[tuple[int, tuple[Output, ...]]]:
    """Each received frame with its outputs, ascending; read while the connection is open."""
    chosen = select(frames.c.number, frames.c.outputs).where((frames.c.job_id == job) & (frames.c.status == FrameStatus.RECEIVED))
    for number, outputs in connection.execute(chosen.order_by(frames.c.number)):
        yield number, _outputs(outputs)


def outputs_received_after(connection: Connection, job: str, at: datetime) -> dict[int, tuple[Output, ...]]:
    """The outputs of the frames that were received later than that, by frame."""
    chosen = select(frames.c.number, frames.c.outputs).where((frames.c.job_id == job) & (frames.c.received_at > at))
    return {number: _outputs(outputs) for number, outputs in connection.execute(chosen)}


def received_bytes(connection: Connection, job: str) -> int:
    """What the outputs of a job's received frames amount to."""
    output = func.json_each(frames.c.outputs).table_valued("value", joins_implicitly=True)
    of_job = (frames.c.job_id == job) & (frames.c.status == FrameStatus.RECEIVED)
    length = func.coalesce(func.sum(func.json_extract(output.c.value, "$[1]")), 0)
    return int(connection.execute(select(length).select_from(frames, output).where(of_job)).scalar_one())


def newest_render_times(connection: Connection, job: str, *, limit: int) -> list[float]:
    """Seconds of the frames received last."""
    chosen = select(frames.c.render_s).where((frames.c.job_id == job) & (frames.c.status == FrameStatus.RECEIVED) & (frames.c.render_s > 0))
    return list(connection.execute(chosen.order_by(frames.c.received_at.desc()).limit(limit)).scalars())


def newest_with_preview(connection: Connection, job: str) -> int | None:
    """The frame received last that has a preview. Returns: None if there is none"""
    of_job = (frames.c.job_id == job) & (frames.c.status == FrameStatus.RECEIVED) & frames.c.has_preview.is_(True)
    chosen = select(frames.c.number).where(of_job).order_by(frames.c.received_at.desc(), frames.c.number.desc())
    return connection.execute(chosen.limit(1)).scalar()


def has_failing(connection: Connection, job: str) -> bool:
    """Say whether a frame ever had an attempt that counts. Cheap: only frames tried again are looked at."""
    tried_again = (frames.c.attempt > 1) & (frames.c.failures > 0)
    failed = (frames.c.attempt == 1) & (frames.c.status == FrameStatus.FAILED)
    return any(
        connection.execute(select(frames.c.number).where((frames.c.job_id == job) & those).limit(1)).first() is not None
        for those in (tried_again, failed)
    )


def has_received_since(connection: Connection, job: str, at: datetime) -> bool:
    return (
        connection.execute(select(frames.c.number).where((frames.c.job_id == job) & (frames.c.received_at >= at)).limit(1)).first()
        is not None
    )


def _of(job: str, number: int) -> ColumnElement[bool]:
    return (frames.c.job_id == job) & (frames.c.number == number)


def _outputs(raw: Any) -> tuple[Output, ...]:
    return tuple(Output(name=name, bytes=length, crc32=crc32) for name, length, crc32 in raw)


def _frame(row: Row[Any]) -> Frame:
    values = {name: value for name, value in row._mapping.items() if name in Frame.__dataclass_fields__}
    values["status"] = FrameStatus(row.status)
    values["avoid"] = tuple(row.avoid)
    values["outputs"] = _outputs(row.outputs)
    return Frame(**values)
