"""What is there of all workspaces: EC2 is asked for all jobs together, and its answer believed for a while."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Generic, Protocol, TypeVar

import structlog

from nodeimage.launch import Role, StagingReport, StagingState, node_of_instance
from nodeimage.protocol import Heartbeat, Unreadable, staging_key, status_key
from supervisor.cloud.ports import ObjectStore
from supervisor.domain.workspace import WorkspaceMode

from .inventory import FarmInstance, FarmSnapshot, FarmVolume, Inventory
from .staging_terms import SHOWN_WITHIN, Seen, current_instance, report_of
from .workspace_records import Record

log = structlog.get_logger(__name__)


class _Thing(Protocol):
    @property
    def id(self) -> str: ...


_T = TypeVar("_T", bound=_Thing)


class _Remembered(Generic[_T]):
    """Things that were made or listed a moment ago: a listing may lag behind, and must not make them seem gone."""

    def __init__(self) -> None:
        self._things: dict[str, tuple[_T, datetime]] = {}

    def note(self, thing: _T, *, at: datetime) -> None:
        self._things[thing.id] = (thing, at)

    def forget(self, id: str) -> None:
        self._things.pop(id, None)

    def with_missing(self, listed: Iterable[_T], *, at: datetime) -> list[_T]:
        """What is listed, and what was until a moment ago."""
        for thing in listed:
            self.note(thing, at=at)
        self._things = {id: kept for id, kept in self._things.items() if at - kept[1] < SHOWN_WITHIN}
        return [thing for thing, _ in self._things.values()]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Look:
    """What EC2 showed at one time, with what was read of the bucket right after it."""

    at: datetime
    instances: list[FarmInstance]
    volumes: list[FarmVolume]
    snapshots: list[FarmSnapshot]
    reports: dict[str, tuple[StagingReport | None, datetime | None]] = field(default_factory=dict)  #: by job
    last_words: dict[str, str] = field(default_factory=dict)  #: by instance


class Sight:
    """Looks at AWS for whoever decides on workspaces."""

    def __init__(self, inventory: Inventory, objects: ObjectStore, *, clock: Callable[[], datetime]) -> None:
        self._inventory = inventory
        self._objects = objects
        self._clock = clock
        self._look: _Look | None = None
        self._instances: _Remembered[FarmInstance] = _Remembered()
        self._snapshots: _Remembered[FarmSnapshot] = _Remembered()
        self._reports: dict[str, tuple[str, StagingReport | None, datetime]] = {}  #: job -> etag, report, since when it is so

    def of(self, record: Record, *, believed: timedelta) -> Seen:
        """What is there of a job's workspace, seen no longer ago than `believed`. Errors: Throttled, Unreachable, Refused"""
        if record.mode is WorkspaceMode.S3 or (record.problem and not record.token):
            return Seen()  # nothing was ever asked of EC2 for it
        look = self._latest(believed)
        seen = Seen(
            instances=[each for each in look.instances if each.job == record.job],
            volumes=[each for each in look.volumes if each.job == record.job and each.is_blank],
            snapshots=[each for each in look.snapshots if each.content == record.content],
        )
        if record.token:
            report, changed_at = self._report(look, record.job)
            seen = replace(seen, report=report, report_at=changed_at)
            seen = replace(seen, last_words=self._last_words(look, record, seen))
        return seen

    def everything(self, *, believed: timedelta = timedelta(0)) -> tuple[list[FarmInstance], list[FarmVolume], list[FarmSnapshot]]:
        """Staging instances, their blank volumes, and workspaces' snapshots of all jobs, seen no longer ago than `believed`."""
        look = self._latest(believed)
        return look.instances, [each for each in look.volumes if each.is_blank], [each for each in look.snapshots if each.content]

    def unfrozen_volumes(self, *, believed: timedelta) -> list[FarmVolume]:
        """Workspaces' volumes of all jobs of which no snapshot was begun. Errors: as `of`"""
        look = self._latest(believed)
        frozen = {each.volume for each in look.snapshots}
        return [each for each in look.volumes if each.id not in frozen]

    def look_again(self) -> None:
        """Believe nothing of what was seen: something was changed."""
        self._look = None

    def note_instance(self, instance: FarmInstance) -> None:
        """Take in an instance that was just launched: it may not be listed yet."""
        self._instances.note(instance, at=self._clock())
        self.look_again()

    def note_snapshot(self, snapshot: FarmSnapshot) -> None:
        """Take in a snapshot that was just begun: it may not be listed yet."""
        self._snapshots.note(snapshot, at=self._clock())
        self.look_again()

    def forget_snapshot(self, id: str) -> None:
        """Take in that a snapshot was deleted."""
        self._snapshots.forget(id)
        self.look_again()

    def forget_job(self, job: str) -> None:
        """Take in that a job's workspace was deleted."""
        self._reports.pop(job, None)
        self.look_again()

    def _latest(self, believed: timedelta) -> _Look:
        now = self._clock()
        if self._look is None or now - self._look.at >= believed:
            self._look = _Look(
                at=now,
                instances=self._instances.with_missing(self._inventory.instances(Role.STAGE), at=now),
                volumes=self._inventory.volumes(Role.STAGE),
                snapshots=self._snapshots.with_missing(self._inventory.snapshots(), at=now),
            )
        return self._look

    def _report(self, look: _Look, job: str) -> tuple[StagingReport | None, datetime | None]:
        """The job's report, read once a look, after EC2 was asked: what an instance wrote before its end is there when its end is seen."""
        if job not in look.reports:
            etag, report, changed_at = self._reports.get(job, ("", None, look.at))
            there = self._objects.get(staging_key(job), unless_etag=etag or None)
            if there is not None:
                report, changed_at = _read_report(job, there.body), self._clock()
                self._reports[job] = (there.etag, report, changed_at)
            look.reports[job] = (report, changed_at if report else None)
        return look.reports[job]

    def _last_words(self, look: _Look, record: Record, seen: Seen) -> str:
        """What the agent on a staging instance said last, where it ended without having done its work."""
        instance = current_instance(record, seen)
        report = report_of(record, seen)
        if instance is None or not instance.has_ended or (report and report.state is StagingState.DONE):
            return ""
        if instance.id not in look.last_words:
            there = self._objects.get(status_key(node_of_instance(instance.id)))
            look.last_words[instance.id] = _problem_in(there.body) if there else ""
        return look.last_words[instance.id]


def _read_report(job: str, body: bytes) -> StagingReport | None:
    try:
        return StagingReport.from_bytes(body)
    except Unreadable as error:
        log.warning("staging report not readable", job=job, error=str(error))
        return None


def _problem_in(body: bytes) -> str:
    try:
        return Heartbeat.from_bytes(body).problem
    except Unreadable:
        return ""
