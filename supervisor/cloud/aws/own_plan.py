"""How the filling of a volume by the farm's own instance goes on: rules alone.

The volume is made, attached, filled by a process of the farm's, detached, and frozen. After a restart of the farm what there is tells how
far it came. Where it comes to nothing, a staging instance does it: only what is wrong with the files themselves is wrong there too.
"""

from __future__ import annotations

from datetime import datetime

from nodeimage.launch import StagingReport, StagingState

from .inventory import FarmVolume
from .staging_terms import (
    FIRST_REPORT_WITHIN,
    SILENT_FOR,
    Filling,
    Plan,
    Seen,
    Step,
    being_filled,
    is_talking,
    lost,
    minutes,
    report_of,
    unseen,
)
from .workspace_records import Record

_ASKING = "a volume for its files is asked for"
_MAKING = "the volume for its files is being made"
_ATTACHING = "the volume for its files is being attached"
_BEGINNING = "the volume for its files is being made ready"


def of_own_attempt(record: Record, seen: Seen, volume: FarmVolume | None, now: datetime) -> Plan:
    """Say what the volume needs next. Shape:   volume: that the record asked for; None: it is not to be seen"""
    report = report_of(record, seen)
    if report and report.state is StagingState.FAILED:
        return Plan(step=Step.GIVE_UP, problem=report.message or "what copied its files failed, and gave no reason")
    if volume is None:
        if report and report.state is StagingState.DONE:
            return lost(record, "the volume that was filled is gone")
        return unseen(record, now, told=record.volume, what="the volume", waiting=_MAKING, asking=_ASKING)
    if report and report.state is StagingState.DONE:
        return _of_filled(record, volume, is_late=not is_talking(seen, now))
    if volume.state == "error":
        return lost(record, f"EC2 says that {volume.id} has an error")
    if record.host != seen.here:
        return lost(record, f"the farm fills no volumes on {record.host} any more")
    return _of_unfilled(record, seen, volume, report, now)


def _of_filled(record: Record, volume: FarmVolume, *, is_late: bool) -> Plan:
    if not volume.instance:
        doing = "the snapshot is being made"
        return Plan(step=Step.FREEZE, doing=doing, is_staged=True, staged_bytes=record.bytes, volume=volume.id)
    if is_late:
        return lost(record, f"{volume.id} could not be taken from {volume.instance}")
    step = Step.WAIT if volume.attachment == "detaching" else Step.DETACH
    return Plan(step=step, doing="the filled volume is being detached", staged_bytes=record.bytes, volume=volume.id)


def _of_unfilled(record: Record, seen: Seen, volume: FarmVolume, report: StagingReport | None, now: datetime) -> Plan:
    if seen.filling and seen.filling.status:
        return lost(record, f"{record.host} could not fill {volume.id}: {seen.filling.last_words or 'it gave no reason'}")
    if report and not is_talking(seen, now):
        return lost(record, f"the filling of {volume.id} has not gone on for {minutes(SILENT_FOR)}: {report.message or 'nobody knows why'}")
    if report is None and record.asked_at and now - record.asked_at > FIRST_REPORT_WITHIN:
        return lost(record, f"the filling of {volume.id} did not begin within {minutes(FIRST_REPORT_WITHIN)}")
    if volume.is_free:
        return Plan(step=Step.ATTACH, doing=_ATTACHING, volume=volume.id)
    if volume.attachment != "attached":
        return Plan(step=Step.WAIT, doing=_ATTACHING if volume.instance else _MAKING)
    return _of_attached(record, seen.filling, volume, report)


def _of_attached(record: Record, filling: Filling | None, volume: FarmVolume, report: StagingReport | None) -> Plan:
    if filling is None:  # not begun yet, or by a process of the farm's that has ended, and this with it
        return Plan(step=Step.FILL, doing=_BEGINNING, volume=volume.id)
    return being_filled(record, report) if report else Plan(step=Step.WAIT, doing=_BEGINNING)
