"""Workspaces on AWS: a list of files that each instance fetches, or a snapshot of a volume that one instance filled.

What there is, is told by EC2 and the bucket alone, so a restart at any point goes on; `staging_plan` says what is next.
"""

from __future__ import annotations

import posixpath
import secrets
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import structlog

from nodeimage.launch import FileEntry, FileList
from nodeimage.protocol import files_key, staging_key
from supervisor.cloud.ports import CloudError, NoCapacity, ObjectStore, Refused, SignedOut, StagedFile, Unreachable, WorkspaceState
from supervisor.config import WorkspaceConfig
from supervisor.domain.workspace import WorkspaceMode

from .staging_hands import StagingHands, TokenUsed
from .staging_plan import Plan, Step, plan_of
from .staging_sight import Sight
from .strays import Needed
from .volumes import MOST_GIB, gib_for
from .workspace_records import Record, Records

log = structlog.get_logger(__name__)

_GIB = 1 << 30
#: What is settled (a completed snapshot) is looked at no more often than this.
_SETTLED_BELIEVED = timedelta(seconds=15)
_FIRST_PAUSE = timedelta(seconds=10)
_LONGEST_PAUSE = timedelta(seconds=120)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Pause:
    """There was no room for a staging instance: when it is asked for again."""

    until: datetime
    times: int
    why: str


class AwsWorkspaces:
    """`Workspaces` on AWS."""

    def __init__(
        self,
        *,
        objects: ObjectStore,
        records: Records,
        sight: Sight,
        hands: StagingHands,
        config: WorkspaceConfig,
        believed_s: float,
        release_template: Callable[[str], object],
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """Shape:   believed_s: how long one look at EC2 is believed; release_template: deletes a job's versions of the launch template"""
        self._objects = objects
        self._records = records
        self._sight = sight
        self._hands = hands
        self._config = config
        self._believed = timedelta(seconds=believed_s)
        self._release_template = release_template
        self._clock = clock
        self._lock = threading.RLock()
        self._pauses: dict[str, _Pause] = {}

    def stage(self, job: str, files: Sequence[StagedFile], *, request_id: str, mode: WorkspaceMode | None = None) -> None:
        wanted = FileList(files=tuple(FileEntry(path=file.path, key=file.key, bytes=file.bytes, checksum=file.checksum) for file in files))
        with self._lock:
            record = self._records.find(job)
            if record is None or not _goes_on(record, wanted, mode):
                record = self._begin(job, wanted, mode, before=record)
            if not record.problem:
                self._advance(record, request_id=request_id)

    def state(self, job: str) -> WorkspaceState | None:
        with self._lock:
            record = self._records.find(job)
            return self._shown(record) if record else None

    def snapshot(self, job: str, *, request_id: str) -> None:
        with self._lock:
            record = self._records.find(job)
            if record is None or record.problem:
                return
            if record.mode is WorkspaceMode.S3:
                if not record.is_frozen:
                    self._records.save(replace(record, is_frozen=True))
                return
            self._advance(record, request_id=request_id, may_freeze=True)

    def release_copies(self, job: str) -> bool:
        with self._lock:
            record = self._records.find(job)
            if record and record.mode is WorkspaceMode.SNAPSHOT and not self._is_given_back(record):
                return False
        self._release_template(job)
        return True

    def _is_given_back(self, record: Record) -> bool:
        """Give back what fills a volume for a job, and the volume. Returns: whether nothing of that is left"""
        if record.token:
            problem = self._plan(record).problem
            self._give_back(record.job)
            # What was half done begins anew when the job goes on; a snapshot in the making is not stopped.
            self._records.save(replace(record, token="", instance="", attempt=0, asked_at=None, freeze_asked_at=None, problem=problem))
        else:
            self._give_back(record.job, believed=self._believed)
        instances, volumes, _ = self._sight.everything(believed=self._believed)
        return not (
            any(each.job == record.job and each.state != "terminated" for each in instances)
            or any(each.job == record.job and not each.is_ending for each in volumes)
        )

    def delete(self, job: str) -> None:
        self._release_template(job)
        with self._lock:
            self._records.refresh()
            record = self._records.find(job)
            if record is None or record.mode is WorkspaceMode.SNAPSHOT:
                self._give_back(job)
                self._delete_snapshots(job, record.content if record else "")
            self._objects.delete([files_key(job), staging_key(job)])
            # Last of all: as long as it is there, the sweep knows that there is something to delete.
            self._records.forget(job)
            self._sight.forget_job(job)
            self._pauses.pop(job, None)

    def jobs(self) -> Sequence[str]:
        with self._lock:
            return sorted(self._records.all())

    def needed(self, known_jobs: frozenset[str]) -> Needed:
        """What the workspaces of known jobs need of what there is: the sweep spares it."""
        with self._lock:
            self._records.refresh()
            records = [record for job, record in self._records.all().items() if job in known_jobs and not record.problem]
        of_volumes = [record for record in records if record.mode is WorkspaceMode.SNAPSHOT]
        return Needed(
            tokens={record.token: record.content for record in of_volumes if record.token},
            contents=frozenset(record.content for record in of_volumes),
        )

    def _begin(self, job: str, wanted: FileList, mode: WorkspaceMode | None, *, before: Record | None) -> Record:
        """Verify that the files are there, and write down what is to become of them."""
        if before and before.mode is WorkspaceMode.SNAPSHOT:
            self._give_back(job)
        total = sum(file.bytes for file in wanted.files)
        record = Record(
            job=job,
            content=wanted.content,
            mode=self._chosen_mode(mode, total),
            bytes=total,
            gib=gib_for([(file.path, file.bytes) for file in wanted.files]),
            problem=self._what_is_missing(wanted),
        )
        if record.mode is WorkspaceMode.SNAPSHOT and record.gib > MOST_GIB:
            record = replace(
                record, problem=f"its files need a volume of {record.gib} GiB, and there is none above {MOST_GIB}; use mode s3"
            )
        if not record.problem:
            self._objects.put(files_key(job), wanted.to_bytes())
        self._records.save(record)
        if before and before.mode is WorkspaceMode.SNAPSHOT and before.content != wanted.content:
            self._delete_snapshots(job, before.content)
        return record

    def _chosen_mode(self, asked: WorkspaceMode | None, total_bytes: int) -> WorkspaceMode:
        mode = asked or WorkspaceMode(self._config.mode)
        if mode is not WorkspaceMode.AUTO:
            return mode
        return WorkspaceMode.SNAPSHOT if total_bytes >= self._config.snapshot_from_gib * _GIB else WorkspaceMode.S3

    def _what_is_missing(self, wanted: FileList) -> str:
        """Compare the files with one listing of the bucket. Returns: what is wrong with the first that differs; empty: all are there"""
        if not wanted.files:
            return ""
        folder = posixpath.commonpath([posixpath.dirname(file.key) for file in wanted.files])
        there = {listed.key: listed.bytes for listed in self._objects.list(f"{folder}/")}
        for file in wanted.files:
            if file.key not in there:
                return f"“{file.path}” is no longer in the bucket; upload it again"
            if there[file.key] != file.bytes:
                return f"“{file.path}” has {there[file.key]} bytes instead of {file.bytes}; upload it again"
        return ""

    def _shown(self, record: Record) -> WorkspaceState:
        plan = self._plan(record, believed=_SETTLED_BELIEVED)
        if plan.step is not Step.NOTHING:
            plan = self._plan(record)
        pause = self._pauses.get(record.job)
        doing = f"waiting for an instance that copies its files: {pause.why}" if pause and plan.step is Step.LAUNCH else plan.doing
        return WorkspaceState(
            staged_bytes=plan.staged_bytes,
            total_bytes=record.bytes,
            is_staged=plan.is_staged,
            snapshot=plan.snapshot,
            problem=plan.problem,
            doing=doing,
        )

    def _plan(self, record: Record, *, believed: timedelta | None = None) -> Plan:
        seen = self._sight.of(record, believed=self._believed if believed is None else believed)
        return plan_of(record, seen, now=self._clock())

    def _advance(self, record: Record, *, request_id: str, may_freeze: bool = False) -> None:
        """Do what is next, as far as it can be done at once."""
        plan = self._plan(record)
        self._tidy(record, plan)
        if plan.step is Step.LAUNCH:
            self._launch(record, plan, request_id)
        elif plan.step is Step.ASK_AGAIN:
            self._ask(record)
        elif plan.step is Step.FREEZE and may_freeze:
            self._freeze(record, plan.volume)
        elif plan.step is Step.GIVE_UP:
            log.warning("staging given up", job=record.job, because=plan.problem)
            self._records.save(replace(record, problem=plan.problem))

    def _tidy(self, record: Record, plan: Plan) -> None:
        """Give back what the plan says is needed no more."""
        if plan.end or plan.delete:
            volumes = self._sight.of(record, believed=self._believed).volumes
            self._hands.end(plan.end, volumes, spare=plan.spare)
            self._hands.delete_volumes(plan.delete)
            self._sight.look_again()

    def _launch(self, record: Record, plan: Plan, request_id: str) -> None:
        """Write down that a staging instance is asked for, and ask for it."""
        now = self._clock()
        pause = self._pauses.get(record.job)
        if pause and now < pause.until:
            return
        if plan.lost:
            log.warning("staging instance lost", job=record.job, attempt=record.attempt, because=plan.lost)
        token = f"{request_id[:40]}-{secrets.token_hex(6)}"
        record = replace(record, token=token, attempt=record.attempt + 1, instance="", asked_at=now, freeze_asked_at=None)
        self._records.save(record)
        self._ask(record)

    def _ask(self, record: Record) -> None:
        try:
            instance = self._hands.launch(record)
        except NoCapacity as error:
            self._wait_for_room(record, error)
        except SignedOut:
            raise
        except TokenUsed:
            # What the token stands for is given back as a stray; the next tick takes a new token.
            self._records.save(replace(record, token="", attempt=record.attempt - 1))
        except Refused as error:
            self._records.save(replace(record, problem=f"no instance that copies its files can be launched: {error}"))
        else:
            self._pauses.pop(record.job, None)
            self._records.save(replace(record, instance=instance.id))
            self._sight.note_instance(instance)

    def _wait_for_room(self, record: Record, error: NoCapacity) -> None:
        times = self._pauses[record.job].times + 1 if record.job in self._pauses else 1
        pause = min(_FIRST_PAUSE * 2 ** min(times - 1, 10), _LONGEST_PAUSE)
        self._pauses[record.job] = _Pause(until=self._clock() + pause, times=times, why=str(error))
        self._records.save(replace(record, token="", attempt=record.attempt - 1))

    def _freeze(self, record: Record, volume: str) -> None:
        """Write down that a snapshot is asked for, and ask: EC2 takes no token here, so asking again must wait for what came of it."""
        self._records.save(replace(record, freeze_asked_at=self._clock()))
        try:
            snapshot = self._hands.freeze(record, volume)
        except Unreachable:
            raise
        except CloudError:
            self._records.save(record)
            raise
        self._sight.note_snapshot(snapshot)

    def _give_back(self, job: str, *, believed: timedelta = timedelta(0)) -> None:
        """End whatever fills a volume for the job, with the volume; but for one that a snapshot is being made of."""
        instances, volumes, snapshots = self._sight.everything(believed=believed)
        being_frozen = {each.volume for each in snapshots if each.state == "pending"}
        mine = [each for each in volumes if each.job == job and not each.is_ending and each.id not in being_frozen]
        alive, free = [each.id for each in instances if each.job == job and not each.is_ending], [each.id for each in mine if each.is_free]
        if alive or free:
            self._hands.end(alive, mine)
            self._hands.delete_volumes(free)
            self._sight.look_again()

    def _delete_snapshots(self, job: str, content: str) -> None:
        """Delete the snapshots that a job made, or used, unless a workspace that stays has the same content."""
        others = self._records.all().values()
        used = {each.content for each in others if each.mode is WorkspaceMode.SNAPSHOT and (each.job, each.content) != (job, content)}
        _, _, snapshots = self._sight.everything()
        doomed = [each.id for each in snapshots if (each.job == job or each.content == content) and each.content not in used]
        self._hands.delete_snapshots(doomed)
        for id in doomed:
            self._sight.forget_snapshot(id)


def _goes_on(record: Record, wanted: FileList, mode: WorkspaceMode | None) -> bool:
    """Whether what is recorded is what is wanted, and can still come to a good end."""
    is_other_mode = mode in {WorkspaceMode.S3, WorkspaceMode.SNAPSHOT} and mode is not record.mode
    return record.content == wanted.content and not is_other_mode and not record.problem
