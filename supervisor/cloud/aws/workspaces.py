"""Workspaces on AWS: a list of files that each instance fetches, or a snapshot of a volume that one instance filled.

What there is, is told by EC2 and the bucket alone, so a restart at any point goes on; `staging_plan` says what is next.
"""

from __future__ import annotations

import posixpath
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import structlog

from nodeimage.launch import FileEntry, FileList
from nodeimage.protocol import files_key, staging_key
from supervisor.cloud.ports import CloudError, ObjectStore, StagedFile, Unreachable, WorkspaceState
from supervisor.config import WorkspaceConfig
from supervisor.domain.workspace import WorkspaceMode

from .own_volumes import OwnVolumes
from .staging_attempts import Attempts
from .staging_hands import StagingHands
from .staging_plan import plan_of
from .staging_sight import Sight
from .staging_terms import Plan, Step
from .strays import Needed
from .volumes import MOST_GIB, gib_for
from .workspace_records import Record, Records

log = structlog.get_logger(__name__)

_GIB = 1 << 30
#: What is settled (a completed snapshot) is looked at no more often than this.
_SETTLED_BELIEVED = timedelta(seconds=15)


class AwsWorkspaces:
    """`Workspaces` on AWS."""

    def __init__(
        self,
        *,
        objects: ObjectStore,
        records: Records,
        sight: Sight,
        hands: StagingHands,
        own: OwnVolumes,
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
        self._own = own
        self._config = config
        self._believed = timedelta(seconds=believed_s)
        self._release_template = release_template
        self._clock = clock
        self._lock = threading.RLock()
        self._attempts = Attempts(records=records, sight=sight, hands=hands, own=own, believed=self._believed, clock=clock)

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
            begun_anew = replace(record, token="", instance="", host="", volume="", attempt=0, asked_at=None, freeze_asked_at=None)
            self._records.save(replace(begun_anew, problem=problem))
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
            self._attempts.forget(job)

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
        return WorkspaceState(
            staged_bytes=plan.staged_bytes,
            total_bytes=record.bytes,
            is_staged=plan.is_staged,
            snapshot=plan.snapshot,
            problem=plan.problem,
            doing=self._attempts.doing(record, plan),
        )

    def _plan(self, record: Record, *, believed: timedelta | None = None) -> Plan:
        seen = self._sight.of(record, believed=self._believed if believed is None else believed)
        return plan_of(record, self._own.look(record, seen), now=self._clock())

    def _advance(self, record: Record, *, request_id: str, may_freeze: bool = False) -> None:
        """Do what is next, as far as it can be done at once."""
        plan = self._plan(record)
        self._tidy(record, plan)
        if plan.step is Step.LAUNCH:
            self._attempts.begin(record, plan, request_id)
        elif plan.step is Step.ASK_AGAIN:
            self._attempts.ask(record)
        elif plan.step in {Step.ATTACH, Step.FILL, Step.DETACH}:
            self._handle(record, plan)
        elif plan.step is Step.FREEZE and may_freeze:
            self._freeze(record, plan.volume)
        elif plan.step is Step.GIVE_UP:
            log.warning("staging given up", job=record.job, because=plan.problem)
            self._records.save(replace(record, problem=plan.problem))

    def _tidy(self, record: Record, plan: Plan) -> None:
        """Give back what the plan says is needed no more."""
        if plan.end or plan.let_go or plan.delete:
            volumes = self._sight.of(record, believed=self._believed).volumes
            self._hands.end(plan.end, volumes, spare=plan.spare)
            self._own.let_go(each for each in volumes if each.id in plan.let_go)
            self._hands.delete_volumes(plan.delete)
            self._sight.look_again()

    def _handle(self, record: Record, plan: Plan) -> None:
        """Bring the volume that the farm fills itself one step on."""
        for volume in self._sight.of(record, believed=self._believed).volumes:
            if volume.id != plan.volume:
                continue
            if plan.step is Step.ATTACH:
                self._own.attach(volume)
            elif plan.step is Step.FILL:
                self._own.fill(volume)
            else:
                self._own.let_go([volume])
            self._sight.look_again()

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
        at_host = [each for each in mine if each.is_at_host]
        if alive or free or at_host:
            self._hands.end(alive, mine)
            self._own.let_go(at_host)
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
