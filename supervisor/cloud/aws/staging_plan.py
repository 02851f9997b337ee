"""What a job's workspace needs next, told from what is there: rules alone, for every combination of instance, volume, report, snapshot.

A staging instance, or the farm itself, fills a volume and says so in a report; the farm makes a snapshot of the volume, and gives all back.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from nodeimage.launch import StagingReport, StagingState
from supervisor.domain.workspace import WorkspaceMode

from .inventory import FarmInstance, FarmSnapshot, FarmVolume
from .own_plan import of_own_attempt
from .staging_terms import (
    FIRST_REPORT_WITHIN,
    SHOWN_WITHIN,
    SILENT_FOR,
    Plan,
    Seen,
    Step,
    being_filled,
    current_instance,
    current_volume,
    is_talking,
    lost,
    minutes,
    report_of,
    unseen,
)
from .workspace_records import Record

#: Snapshots of one content that may come to nothing.
MOST_FAILED_SNAPSHOTS = 2
#: An instance that says it is done shuts down by itself within this time.
ENDS_WITHIN = timedelta(seconds=60)
#: A snapshot is used although its volume can't be given back, after so long: the sweep goes on trying.
TIDIED_WITHIN = timedelta(minutes=3)
_ASKING = "an instance that copies its files is asked for"
_STARTING = "the instance that copies its files is starting"


def plan_of(record: Record, seen: Seen, *, now: datetime) -> Plan:
    """Say what the workspace needs next."""
    if record.problem:
        return _given_back(Plan(step=Step.NOTHING, problem=record.problem), seen)
    if record.mode is WorkspaceMode.S3:
        snapshot = f"s3:{record.content}" if record.is_frozen else None
        return Plan(step=Step.NOTHING, is_staged=True, staged_bytes=record.bytes, snapshot=snapshot)
    kept = best_snapshot(seen.snapshots)
    if kept is None:
        return _filling(record, seen, now)
    if kept.state == "completed":
        return _finished(record, seen, kept, now)
    return _being_made(record, seen, kept, now)


def best_snapshot(snapshots: Sequence[FarmSnapshot]) -> FarmSnapshot | None:
    """Of several of the same content: the first that was completed, else the first that is being made. Returns: None if there is neither"""
    usable = [each for each in snapshots if each.state in {"completed", "pending"}]
    return min(usable, key=lambda each: (each.state != "completed", each.started_at, each.id), default=None)


def _finished(record: Record, seen: Seen, kept: FarmSnapshot, now: datetime) -> Plan:
    left = [volume for volume in seen.volumes if not volume.is_ending]
    is_late = now - (kept.completed_at or kept.started_at) > TIDIED_WITHIN
    plan = Plan(
        step=Step.WAIT if left else Step.NOTHING,
        doing="the snapshot is made; its volume is given back" if left else "",
        is_staged=True,
        staged_bytes=record.bytes,
        snapshot=kept.id if not left or is_late else None,
    )
    return _given_back(plan, seen)


def _being_made(record: Record, seen: Seen, kept: FarmSnapshot, now: datetime) -> Plan:
    """A snapshot is on its way: this job's, or another's of the same files."""
    plan = Plan(
        step=Step.WAIT, doing=f"the snapshot is being made: {kept.progress_pct} %", is_staged=True, staged_bytes=record.bytes, snapshot=None
    )
    is_ending_itself = _is_done(record, seen) and seen.report_at is not None and now - seen.report_at < ENDS_WITHIN
    return _given_back(plan, seen, keep_volume=kept.volume, keep_instances=is_ending_itself)


def _filling(record: Record, seen: Seen, now: datetime) -> Plan:
    failed = sum(each.state == "error" for each in seen.snapshots)
    if failed >= MOST_FAILED_SNAPSHOTS:
        why = f"{failed} snapshots of its volume ended with an error of EC2's; try again later, or set [workspace] mode to s3"
        return _given_back(Plan(step=Step.GIVE_UP, problem=why), seen)
    if record.freeze_asked_at and now - record.freeze_asked_at < SHOWN_WITHIN:
        return Plan(step=Step.WAIT, doing="the snapshot is being made", is_staged=True, staged_bytes=record.bytes)
    if not record.token:
        return _given_back(Plan(step=Step.LAUNCH, doing=_ASKING), seen)
    instance = current_instance(record, seen)
    volume = current_volume(record, seen)
    plan = of_own_attempt(record, seen, volume, now) if record.host else _of_attempt(record, seen, instance, volume, now)
    if plan.step in {Step.LAUNCH, Step.GIVE_UP}:
        return _given_back(plan, seen)
    return _without_strays(plan, seen, instance, volume)


def _of_attempt(record: Record, seen: Seen, instance: FarmInstance | None, volume: FarmVolume | None, now: datetime) -> Plan:
    report = report_of(record, seen)
    if report and report.state is not StagingState.RUNNING:
        return _of_outcome(record, report, volume, since=now - (seen.report_at or now))
    if instance and instance.has_ended:
        said = seen.last_words or (report.message if report else "") or instance.note or "it gave no reason"
        return lost(record, f"{instance.id} ended before the files were on the volume: {said}")
    if report and is_talking(seen, now):
        return being_filled(record, report)
    if instance is None:
        return unseen(record, now, told=record.instance, what="the instance", waiting=_STARTING, asking=_ASKING)
    if report:
        return lost(record, f"{instance.id} has not reported for {minutes(SILENT_FOR)}; its last words: {report.message or 'none'}")
    if record.asked_at and now - record.asked_at > FIRST_REPORT_WITHIN:
        return lost(record, f"{instance.id} did not report within {minutes(FIRST_REPORT_WITHIN)}")
    return Plan(step=Step.WAIT, doing=_STARTING)


def _of_outcome(record: Record, report: StagingReport, volume: FarmVolume | None, *, since: timedelta) -> Plan:
    """The instance has said, so long ago, that it is done, or that it failed."""
    if report.state is StagingState.FAILED:
        return Plan(step=Step.GIVE_UP, problem=report.message or "the instance that copied its files failed, and gave no reason")
    if volume is None and since < SHOWN_WITHIN:  # a small project is on its volume before EC2 lists that
        return Plan(step=Step.WAIT, doing="the volume with its files is not to be seen yet", staged_bytes=record.bytes)
    if volume is None:
        return lost(record, "the volume that it filled is gone")
    return Plan(step=Step.FREEZE, doing="the snapshot is being made", is_staged=True, staged_bytes=record.bytes, volume=volume.id)


def _is_done(record: Record, seen: Seen) -> bool:
    report = report_of(record, seen)
    return report is not None and report.state is StagingState.DONE


def _given_back(plan: Plan, seen: Seen, *, keep_volume: str = "", keep_instances: bool = False) -> Plan:
    """The plan, with everything given back but what is named."""
    alive = () if keep_instances else tuple(each.id for each in seen.instances if not each.is_ending)
    let_go = _at_host(seen.volumes, but=keep_volume)
    return replace(plan, end=alive, let_go=let_go, delete=_free(seen.volumes, but=keep_volume), spare=keep_volume)


def _without_strays(plan: Plan, seen: Seen, instance: FarmInstance | None, volume: FarmVolume | None) -> Plan:
    """The plan, with whatever earlier attempts left behind given back."""
    mine = instance.id if instance else ""
    strays = tuple(each.id for each in seen.instances if each.id != mine and not each.is_ending)
    kept = volume.id if volume else ""
    return replace(plan, end=strays, let_go=_at_host(seen.volumes, but=kept), delete=_free(seen.volumes, but=kept))


def _free(volumes: Sequence[FarmVolume], *, but: str) -> tuple[str, ...]:
    return tuple(each.id for each in volumes if each.is_free and each.id != but)


def _at_host(volumes: Sequence[FarmVolume], *, but: str) -> tuple[str, ...]:
    return tuple(each.id for each in volumes if each.is_at_host and each.id != but)
