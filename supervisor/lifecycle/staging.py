"""Bring a job's files into its workspace, and freeze it."""

from __future__ import annotations

from supervisor.cloud.ports import Full, StagedFile, WorkspaceState
from supervisor.domain.file import FileStatus
from supervisor.domain.job import JobStatus
from supervisor.domain.problem import Problem
from supervisor.domain.upload import gib
from supervisor.domain.workspace import WorkspaceMode
from supervisor.farm import Farm
from supervisor.room import has_room
from supervisor.store import events, files, jobs
from supervisor.store.jobs import Job

from .asking import give_up
from .tick import Tick, Watch, soon_s

_DISK_FULL = "disk_full"


def step_submitted(farm: Farm, job: Job, tick: Tick, _watch: Watch) -> float | None:
    """Take the job up."""
    with farm.db.write() as connection:
        jobs.move(connection, job, JobStatus.STAGING, because="its files are being made ready", at=tick.now)
    return None


def step_staging(farm: Farm, job: Job, tick: Tick, _watch: Watch) -> float | None:
    """Have the files copied and verified; then freeze them."""
    state = farm.cloud.workspaces.state(job.id)
    if _is_in_progress(state):
        state = _stage(farm, job, tick, state)
    if state and state.is_staged:
        with farm.db.write() as connection:
            because = "every file is in its place; the workspace is being frozen"
            jobs.move(connection, job, JobStatus.SNAPSHOTTING, because=because, at=tick.now)
        return None
    if state and state.problem:
        return _end_or_wait(farm, job, state, tick)
    return soon_s(job, tick)


def step_snapshotting(farm: Farm, job: Job, tick: Tick, _watch: Watch) -> float | None:
    """Have the workspace frozen; then launch."""
    state = farm.cloud.workspaces.state(job.id)
    if _is_in_progress(state):  # lost since it was staged
        state = _stage(farm, job, tick, state)
    if state and state.is_staged and not state.snapshot:
        farm.cloud.workspaces.snapshot(job.id, request_id=f"{job.id}-snapshot")
        state = farm.cloud.workspaces.state(job.id)
        _say_progress(farm, job, state)
    if state and state.snapshot:
        with farm.db.write() as connection:
            jobs.move(connection, job, JobStatus.LAUNCHING, because="the workspace is ready; instances are asked for", at=tick.now)
        return None
    if state and state.problem:
        return _end_or_wait(farm, job, state, tick)
    return soon_s(job, tick)


def _is_in_progress(state: WorkspaceState | None) -> bool:
    return state is None or not (state.is_staged or state.problem)


def _stage(farm: Farm, job: Job, tick: Tick, state: WorkspaceState | None) -> WorkspaceState | None:
    """Begin or go on with staging, where there is room. Returns: how far it is"""
    wanted = _staged_files(farm, job)
    if unread := sum(not file.checksum for file in wanted):
        _say_unread(farm, job, unread)
        return state
    total = sum(file.bytes for file in wanted)
    if state is None and not has_room(farm, total):
        _say_full(farm, job, total, tick)
        return state
    try:
        farm.cloud.workspaces.stage(job.id, wanted, request_id=f"{job.id}-stage", mode=_mode(farm, job))
    except Full:
        _say_full(farm, job, total, tick)
        return state
    state = farm.cloud.workspaces.state(job.id)
    _say_progress(farm, job, state)
    return state


def _mode(farm: Farm, job: Job) -> WorkspaceMode | None:
    """How the files come to instances: as the job asks; those of the shared pool are of no job, and fetch them."""
    return WorkspaceMode.S3 if farm.cloud.pool else job.settings.workspace_mode


def _staged_files(farm: Farm, job: Job) -> list[StagedFile]:
    with farm.db.read() as connection:
        rows = files.files_of(connection, job.id)
    return [
        StagedFile(path=row.path, key=row.key, bytes=row.bytes, checksum=row.checksum) for row in rows if row.status is FileStatus.READY
    ]


def _end_or_wait(farm: Farm, job: Job, state: WorkspaceState, tick: Tick) -> float | None:
    """Staging ended with a problem. A full disk is waited for; what else a person must mend."""
    missing = state.total_bytes - state.staged_bytes
    if not has_room(farm, missing):
        _say_full(farm, job, missing, tick)
        return None
    with farm.db.read() as connection:
        was_full = any(problem.code == _DISK_FULL for problem in events.problems_of(connection, job.id))
    if was_full:  # there is room again
        farm.cloud.workspaces.stage(job.id, _staged_files(farm, job), request_id=f"{job.id}-stage", mode=_mode(farm, job))
        _say_progress(farm, job, state)
        return soon_s(job, tick)
    give_up(farm, job, f"its files could not be prepared: {state.problem}", tick)
    return None


def _say_unread(farm: Farm, job: Job, unread: int) -> None:
    """Large files are ready before they were read for their checksums (`intake.check_pending`); copies are verified by these."""
    text = f"waiting for the {'checksums of ' + str(unread) + ' large files' if unread > 1 else 'checksum of a large file'}"
    with farm.db.write() as connection:
        jobs.say_what_it_waits_for(connection, job, text)


def _say_full(farm: Farm, job: Job, wanted: int, tick: Tick) -> None:
    text = f"the disk is too full for a copy of this job's files ({gib(wanted)})"
    remedy = "Delete old jobs, or give the farm a larger disk; the job then goes on by itself."
    with farm.db.write() as connection:
        problem = Problem(code=_DISK_FULL, severity="error", text=text, remedy=remedy, since=tick.now)
        if events.put_problem(connection, job.id, problem):
            jobs.touch(connection, job.id)
        jobs.say_what_it_waits_for(connection, job, f"waiting for room: {text}")


def _say_progress(farm: Farm, job: Job, state: WorkspaceState | None) -> None:
    """Tell what the cloud does with the files; how it goes about it is its own affair."""
    with farm.db.read() as connection:
        is_full = any(problem.code == _DISK_FULL for problem in events.problems_of(connection, job.id))
    doing = state.doing if state else ""
    if is_full or (doing and doing != job.reason):
        with farm.db.write() as connection:
            events.clear_problem(connection, job.id, _DISK_FULL)
            jobs.say_what_it_waits_for(connection, job, doing or "its files are being made ready")
