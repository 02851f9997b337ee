"""What a job's workspace needs next, told from what is there: rules alone, for every combination of instance, volume, report, snapshot.

A staging instance fills a volume and says so in its report; the farm makes a snapshot of the volume, and gives both back.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

from nodeimage.launch import StagingReport, StagingState
from supervisor.domain.workspace import WorkspaceMode

from .inventory import FarmInstance, FarmSnapshot, FarmVolume
from .workspace_records import Record

#: Staging instances that may be lost one after the other.
MOST_ATTEMPTS = 3
#: Snapshots of one content that may come to nothing.
MOST_FAILED_SNAPSHOTS = 2
#: Something asked for is listed within this time, or it never came to be.
SHOWN_WITHIN = timedelta(seconds=60)
#: After an asking whose answer is not known: what came of it is listed by then, as a rule, and need not be asked for again.
ANSWERED_WITHIN = timedelta(seconds=5)
#: Asking again with the same token is safe for so long: EC2 still knows the instance that the token stands for, ended or not.
ASKED_AGAIN_WITHIN = timedelta(minutes=10)
#: From asking for an instance to its first report: boot, and what comes before the files.
FIRST_REPORT_WITHIN = timedelta(minutes=10)
#: Between two changes of the report; it changes while files are fetched and while they are verified.
SILENT_FOR = timedelta(minutes=5)
#: An instance that says it is done shuts down by itself within this time.
ENDS_WITHIN = timedelta(seconds=60)
#: A snapshot is used although its volume can't be given back, after so long: the sweep goes on trying.
TIDIED_WITHIN = timedelta(minutes=3)


class Step(StrEnum):
    """What is to be done next."""

    WAIT = "wait"  #: nothing: something is on its way
    LAUNCH = "launch"  #: ask for a staging instance
    ASK_AGAIN = "ask_again"  #: ask for the same one: nobody knows whether the first asking was heard
    FREEZE = "freeze"  #: make a snapshot of the volume
    GIVE_UP = "give_up"  #: write down that it came to nothing
    NOTHING = "nothing"  #: it is settled


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What is there that concerns one job's workspace."""

    instances: Sequence[FarmInstance] = ()  #: staging instances of the job
    volumes: Sequence[FarmVolume] = ()  #: blank volumes made with them
    snapshots: Sequence[FarmSnapshot] = ()  #: of this content, whichever job they were made for
    report: StagingReport | None = None  #: read after the instances were
    report_at: datetime | None = None  #: when it changed last, by the farm's clock
    last_words: str = ""  #: of an instance that ended, where it left some


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to do next, and what to show until it is done."""

    step: Step
    doing: str = ""  #: for people
    staged_bytes: int = 0
    is_staged: bool = False
    snapshot: str | None = None
    problem: str = ""
    volume: str = ""  #: FREEZE: that the snapshot is made of
    lost: str = ""  #: LAUNCH: why the instance before came to nothing
    end: tuple[str, ...] = ()  #: instances to give back, with the volumes that they hold
    delete: tuple[str, ...] = ()  #: volumes to give back
    spare: str = ""  #: the volume that must not go, whatever holds it: a snapshot is being made of it


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
    plan = _of_attempt(record, seen, instance, volume, now)
    if plan.step in {Step.LAUNCH, Step.GIVE_UP}:
        return _given_back(plan, seen)
    return _without_strays(plan, seen, instance, volume)


def _of_attempt(record: Record, seen: Seen, instance: FarmInstance | None, volume: FarmVolume | None, now: datetime) -> Plan:
    report = report_of(record, seen)
    if report and report.state is not StagingState.RUNNING:
        return _of_outcome(record, report, volume)
    if instance and instance.has_ended:
        said = seen.last_words or (report.message if report else "") or instance.note or "it gave no reason"
        return _lost(record, f"{instance.id} ended before the files were on the volume: {said}")
    if report and seen.report_at and now - seen.report_at <= SILENT_FOR:
        return _being_filled(record, report)
    if instance is None:
        return _unseen(record, now)
    if report:
        return _lost(record, f"{instance.id} has not reported for {_minutes(SILENT_FOR)}; its last words: {report.message or 'none'}")
    if record.asked_at and now - record.asked_at > FIRST_REPORT_WITHIN:
        return _lost(record, f"{instance.id} did not report within {_minutes(FIRST_REPORT_WITHIN)}")
    return Plan(step=Step.WAIT, doing=_STARTING)


def _of_outcome(record: Record, report: StagingReport, volume: FarmVolume | None) -> Plan:
    """The instance has said that it is done, or that it failed."""
    if report.state is StagingState.FAILED:
        return Plan(step=Step.GIVE_UP, problem=report.message or "the instance that copied its files failed, and gave no reason")
    if volume is None:
        return _lost(record, "the volume that it filled is gone")
    return Plan(step=Step.FREEZE, doing="the snapshot is being made", is_staged=True, staged_bytes=record.bytes, volume=volume.id)


_ASKING = "an instance that copies its files is asked for"
_STARTING = "the instance that copies its files is starting"


def _being_filled(record: Record, report: StagingReport) -> Plan:
    staged = min(report.done_bytes, record.bytes)
    pct = 100 * report.done_bytes // report.total_bytes if report.total_bytes else 0
    return Plan(step=Step.WAIT, doing=f"the volume is being filled: {min(pct, 100)} %", staged_bytes=staged)


def _unseen(record: Record, now: datetime) -> Plan:
    """An instance was asked for, and none is to be seen."""
    since = now - record.asked_at if record.asked_at else ASKED_AGAIN_WITHIN
    if since >= ASKED_AGAIN_WITHIN:
        return _lost(record, f"the instance asked for as {record.token} is nowhere to be seen")
    if since < (SHOWN_WITHIN if record.instance else ANSWERED_WITHIN):
        return Plan(step=Step.WAIT, doing=_STARTING)
    return Plan(step=Step.ASK_AGAIN, doing=_ASKING)


def _lost(record: Record, why: str) -> Plan:
    if record.attempt < MOST_ATTEMPTS:
        return Plan(step=Step.LAUNCH, doing=f"another instance is asked for: {why}", lost=why)
    text = (
        f"{record.attempt} instances in a row did not get the files onto a volume; of the last: {why}. "
        "Submit it again; if it stays so, let each node fetch the files ([workspace] mode = s3)"
    )
    return Plan(step=Step.GIVE_UP, problem=text)


def current_instance(record: Record, seen: Seen) -> FarmInstance | None:
    """The staging instance that the record asked for; of several (asked for twice, once unheard) one that lives."""
    mine = [each for each in seen.instances if each.request == record.token and record.token]
    return min(mine, key=lambda each: (each.has_ended, each.id != record.instance, each.id), default=None)


def current_volume(record: Record, seen: Seen) -> FarmVolume | None:
    """The volume that the present staging instance fills."""
    instance = current_instance(record, seen)
    mine = [each for each in seen.volumes if each.request == record.token and record.token and not each.is_ending]
    return min(mine, key=lambda each: (instance is None or each.instance != instance.id, each.id), default=None)


def report_of(record: Record, seen: Seen) -> StagingReport | None:
    """The report, if it is by the present instance, and about these files; one that has not read the list yet names none."""
    if seen.report is None or seen.report.content not in {"", record.content}:
        return None
    instance = current_instance(record, seen)
    return seen.report if seen.report.instance == (instance.id if instance else record.instance) else None


def _is_done(record: Record, seen: Seen) -> bool:
    report = report_of(record, seen)
    return report is not None and report.state is StagingState.DONE


def _given_back(plan: Plan, seen: Seen, *, keep_volume: str = "", keep_instances: bool = False) -> Plan:
    """The plan, with everything given back but what is named."""
    alive = () if keep_instances else tuple(each.id for each in seen.instances if not each.is_ending)
    return replace(plan, end=alive, delete=_free(seen.volumes, but=keep_volume), spare=keep_volume)


def _without_strays(plan: Plan, seen: Seen, instance: FarmInstance | None, volume: FarmVolume | None) -> Plan:
    """The plan, with whatever earlier attempts left behind given back."""
    mine = instance.id if instance else ""
    strays = tuple(each.id for each in seen.instances if each.id != mine and not each.is_ending)
    return replace(plan, end=strays, delete=_free(seen.volumes, but=volume.id if volume else ""))


def _free(volumes: Sequence[FarmVolume], *, but: str) -> tuple[str, ...]:
    return tuple(each.id for each in volumes if each.is_free and each.id != but)


def _minutes(span: timedelta) -> str:
    return f"{int(span.total_seconds() // 60)} minutes"
