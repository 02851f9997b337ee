"""The words in which it is said how a job's volume comes to be filled, and what both ways of filling it have in common.

`staging_plan` has the rules for a staging instance and for all that follows, `own_plan` those for the farm's own instance.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from nodeimage.launch import StagingReport

from .inventory import FarmInstance, FarmSnapshot, FarmVolume
from .workspace_records import Record

#: Attempts that may be lost one after the other, one on the farm's own instance included.
MOST_ATTEMPTS = 3
#: Something asked for is listed within this time, or it never came to be.
SHOWN_WITHIN = timedelta(seconds=60)
#: After an asking whose answer is not known: what came of it is listed by then, as a rule, and need not be asked for again.
ANSWERED_WITHIN = timedelta(seconds=5)
#: Asking again with the same token is safe for so long: EC2 still knows what the token stands for, ended or not.
ASKED_AGAIN_WITHIN = timedelta(minutes=10)
#: From asking for an instance, or a volume, to its first report: boot, and what comes before the files.
FIRST_REPORT_WITHIN = timedelta(minutes=10)
#: Between two changes of the report; it changes while files are fetched and while they are verified.
SILENT_FOR = timedelta(minutes=5)


class Step(StrEnum):
    """What is to be done next."""

    WAIT = "wait"  #: nothing: something is on its way
    LAUNCH = "launch"  #: ask for a staging instance, or for a volume that the farm fills itself
    ASK_AGAIN = "ask_again"  #: ask for the same one: nobody knows whether the first asking was heard
    ATTACH = "attach"  #: attach the volume to the farm's own instance
    FILL = "fill"  #: start what fills the volume there
    DETACH = "detach"  #: take the filled volume from the farm's own instance
    FREEZE = "freeze"  #: make a snapshot of the volume
    GIVE_UP = "give_up"  #: write down that it came to nothing
    NOTHING = "nothing"  #: it is settled


@dataclass(frozen=True, slots=True, kw_only=True)
class Filling:
    """A process of the farm's that fills a volume on the farm's own instance."""

    status: int | None = None  #: that it ended with; None: it runs
    last_words: str = ""  #: of one that ended


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What is there that concerns one job's workspace."""

    instances: Sequence[FarmInstance] = ()  #: staging instances of the job
    volumes: Sequence[FarmVolume] = ()  #: blank volumes made with them
    snapshots: Sequence[FarmSnapshot] = ()  #: of this content, whichever job they were made for
    report: StagingReport | None = None  #: read after the instances were
    report_at: datetime | None = None  #: when it changed last, by the farm's clock
    last_words: str = ""  #: of an instance that ended, where it left some
    here: str = ""  #: the instance that the farm runs on; empty: it may not fill volumes there
    filling: Filling | None = None  #: of the present volume, by this very process of the farm; None: it started none


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to do next, and what to show until it is done."""

    step: Step
    doing: str = ""  #: for people
    staged_bytes: int = 0
    is_staged: bool = False
    snapshot: str | None = None
    problem: str = ""
    volume: str = ""  #: ATTACH, FILL, DETACH, FREEZE: the one that this is done with
    lost: str = ""  #: LAUNCH: why the attempt before came to nothing
    end: tuple[str, ...] = ()  #: instances to give back, with the volumes that they hold
    let_go: tuple[str, ...] = ()  #: volumes to take from the farm's own instance
    delete: tuple[str, ...] = ()  #: volumes to give back
    spare: str = ""  #: the volume that must not go, whatever holds it: a snapshot is being made of it


def current_instance(record: Record, seen: Seen) -> FarmInstance | None:
    """The staging instance that the record asked for; of several (asked for twice, once unheard) one that lives."""
    mine = [each for each in seen.instances if each.request == record.token and record.token]
    return min(mine, key=lambda each: (each.has_ended, each.id != record.instance, each.id), default=None)


def current_volume(record: Record, seen: Seen) -> FarmVolume | None:
    """The volume that the present attempt fills."""
    instance = current_instance(record, seen)
    mine = [each for each in seen.volumes if each.request == record.token and record.token and not each.is_ending]
    return min(mine, key=lambda each: (instance is None or each.instance != instance.id, each.id), default=None)


def report_of(record: Record, seen: Seen) -> StagingReport | None:
    """The report, if it is of the present attempt, and about these files; one that has not read the list yet names none."""
    if seen.report is None or seen.report.content not in {"", record.content}:
        return None
    return seen.report if seen.report.instance == _reporter(record, seen) else None


def _reporter(record: Record, seen: Seen) -> str:
    """Who reports: an instance; what the farm's own instance fills is told apart by the volume."""
    if record.host:
        volume = current_volume(record, seen)
        return volume.id if volume else record.volume
    instance = current_instance(record, seen)
    return instance.id if instance else record.instance


def is_talking(seen: Seen, now: datetime) -> bool:
    """Whether the report has changed within the time in which it must."""
    return seen.report_at is not None and now - seen.report_at <= SILENT_FOR


def being_filled(record: Record, report: StagingReport) -> Plan:
    staged = min(report.done_bytes, record.bytes)
    pct = 100 * report.done_bytes // report.total_bytes if report.total_bytes else 0
    return Plan(step=Step.WAIT, doing=f"the volume is being filled: {min(pct, 100)} %", staged_bytes=staged)


def unseen(record: Record, now: datetime, *, told: str, what: str, waiting: str, asking: str) -> Plan:
    """Something was asked for, and is not to be seen.

    Shape:   told: its id, if EC2 has told it; waiting, asking: what people read meanwhile
    """
    since = now - record.asked_at if record.asked_at else ASKED_AGAIN_WITHIN
    if since >= ASKED_AGAIN_WITHIN:
        return lost(record, f"{what} asked for as {record.token} is nowhere to be seen")
    if since < (SHOWN_WITHIN if told else ANSWERED_WITHIN):
        return Plan(step=Step.WAIT, doing=waiting)
    return Plan(step=Step.ASK_AGAIN, doing=asking)


def lost(record: Record, why: str) -> Plan:
    """The present attempt came to nothing."""
    if record.attempt < MOST_ATTEMPTS:
        return Plan(step=Step.LAUNCH, doing=f"another instance is asked for: {why}", lost=why)
    text = (
        f"{record.attempt} attempts in a row did not get the files onto a volume; of the last: {why}. "
        "Submit it again; if it stays so, let each node fetch the files ([workspace] mode = s3)"
    )
    return Plan(step=Step.GIVE_UP, problem=text)


def minutes(span: timedelta) -> str:
    return f"{int(span.total_seconds() // 60)} minutes"
