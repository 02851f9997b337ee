"""Commands about jobs: make, settle, submit, pause, resume, cancel, retry, delete. They record wishes; the tick does the work."""

from __future__ import annotations

import unicodedata

from supervisor.domain.errors import CommandError, Conflict, NotFound, Rejected
from supervisor.domain.file import FileStatus, is_blend
from supervisor.domain.ids import new_id
from supervisor.domain.job import JobStatus, can_cancel, can_delete, can_pause, can_resume, can_retry
from supervisor.domain.settings import JobSettings
from supervisor.domain.submission import check_settings
from supervisor.farm import Farm
from supervisor.readiness import limits_of
from supervisor.store import deletions, events, files, frames
from supervisor.store import jobs as store
from supervisor.store.database import Connection
from supervisor.store.jobs import Job

from .submit import FOUND_BEFORE, cloud_warnings, submit, warn_of_cloud

_MAX_NAME = 200


def create_job(farm: Farm, *, name: str, owner_id: str | None) -> str:
    """Make a draft. An empty name becomes that of the main .blend (“Untitled” until there is one).

    Returns: its id
    Errors:  Rejected - field `name`
    """
    job = new_id("job")
    with farm.db.write() as connection:
        store.add_job(connection, job, name=_checked_name(name), owner_id=owner_id, at=farm.now())
    return job


def rename_job(farm: Farm, job: str, *, name: str) -> None:
    """Errors: Rejected (name), NotFound"""
    checked = _checked_name(name)
    if not checked:
        raise Rejected("give the job a name", field="name")
    with farm.db.write() as connection:
        _found(connection, job)
        store.change_job(connection, job, name=checked)


def choose_main_file(farm: Farm, job: str, *, file: str) -> None:
    """Make that .blend of a draft the one that is rendered. Errors: Rejected (main_file), NotFound, Conflict"""
    with farm.db.write() as connection:
        _draft(connection, job)
        chosen = files.file_by_id(connection, file, job=job)
        if chosen is None:
            raise NotFound("this job has no such file (any more)")
        if not is_blend(chosen.path) or chosen.status is not FileStatus.READY:
            raise Rejected(f"“{chosen.path}” is not a usable .blend; choose another file", field="main_file")
        store.change_job(connection, job, main_file_id=chosen.id)


def change_settings(farm: Farm, job: str, settings: JobSettings) -> None:
    """Keep a draft's settings, checked as `submit_job` checks them as far as its files allow.

    Errors:  Rejected (by field), NotFound, Conflict
    """
    with farm.db.write() as connection:
        _draft(connection, job)
        main_id = files.main_file_id(connection, job)
        main = files.file_by_id(connection, main_id, job=job) if main_id else None
        check_settings(settings, limits_of(farm), main=main.inspection if main else None)
        store.change_settings(connection, job, settings)


def submit_job(farm: Farm, job: str, settings: JobSettings | None = None) -> None:
    """Ask for a draft to be rendered; None: the settings kept so far.

    Errors:  Rejected - field `frames`, `instances`, `scene`, `camera`, `output`, `main_file`, `files` …: what is wrong and what to do;
             Conflict - not a draft; NotFound; OutOfSpace
    """
    with farm.db.read() as connection:
        seen = _draft(connection, job)
    submit(farm, seen, settings or seen.settings)
    farm.wake()


def pause_job(farm: Farm, job: str) -> None:
    """Ask nodes to finish their frames and take no more, then give everything back. Errors: NotFound, Conflict"""
    with farm.db.write() as connection:
        seen = _found(connection, job)
        if not can_pause(seen.status):
            raise _conflict(seen, "paused")
        because = "pausing: instances finish the frames that they render and take no more"
        _moved(
            store.move(
                connection,
                seen,
                JobStatus.RELEASING,
                because=because,
                at=farm.now(),
                then=JobStatus.PAUSED,
                then_reason="paused by a person",
            )
        )
    farm.wake()


def resume_job(farm: Farm, job: str) -> None:
    """Ask for the rest of a paused job. Errors: NotFound, Conflict; Rejected - the cloud would not render it"""
    with farm.db.read() as connection:
        seen = _resumable(connection, job)
    warnings = cloud_warnings(farm, seen)
    with farm.db.write() as connection:
        seen = _resumable(connection, job)
        warn_of_cloud(connection, job, warnings, at=farm.now())
        _moved(store.move(connection, seen, JobStatus.LAUNCHING, because="resumed by a person", at=farm.now()))
    farm.wake()


def _resumable(connection: Connection, job: str) -> Job:
    seen = _found(connection, job)
    if not can_resume(seen.status):
        raise _conflict(seen, "resumed")
    return seen


def cancel_job(farm: Farm, job: str) -> None:
    """End a job now; what was received stays. Errors: NotFound, Conflict"""
    because = "cancelled by a person"
    with farm.db.write() as connection:
        seen = _found(connection, job)
        if seen.status is JobStatus.SUBMITTED:
            _moved(store.move(connection, seen, JobStatus.CANCELLED, because=because, at=farm.now()))
        elif seen.then is JobStatus.PAUSED:  # who pauses need not wait for the last frames to cancel
            _moved(store.change_what_follows(connection, seen, JobStatus.CANCELLED, because=because, at=farm.now()))
        elif can_cancel(seen.status):
            _moved(
                store.move(
                    connection, seen, JobStatus.RELEASING, because=because, at=farm.now(), then=JobStatus.CANCELLED, then_reason=because
                )
            )
        else:
            raise _conflict(seen, "cancelled")
    farm.wake()


def retry_job(farm: Farm, job: str) -> None:
    """Ask for the frames that are missing of a failed or cancelled job, with fresh attempts.

    Errors:  NotFound, Conflict; Rejected - the cloud would not render it
    """
    with farm.db.read() as connection:
        seen = _retriable(connection, job)
    warnings = cloud_warnings(farm, seen)
    with farm.db.write() as connection:
        seen = _retriable(connection, job)
        counted = frames.counts(connection, job)
        missing = counted.total - counted.received
        because = f"a person asked for the {'frame that is' if missing == 1 else f'{missing} frames that are'} missing"
        _moved(store.move(connection, seen, JobStatus.SUBMITTED, because=because, at=farm.now()))
        frames.queue_missing(connection, job)
        for code in FOUND_BEFORE:
            events.clear_problem(connection, job, code)
        warn_of_cloud(connection, job, warnings, at=farm.now())
    farm.wake()


def _retriable(connection: Connection, job: str) -> Job:
    seen = _found(connection, job)
    if not can_retry(seen.status):
        raise _conflict(seen, "retried")
    return seen


def delete_job(farm: Farm, job: str) -> None:
    """Make a draft or ended job be gone: rows at once, files, frames and zips soon after. Repeat: safe. Errors: NotFound, Conflict"""
    with farm.db.write() as connection:
        seen = _found(connection, job)
        if not can_delete(seen.status):
            raise _conflict(seen, "deleted")
        deletions.leave_deletion(connection, job, at=farm.now())
        store.remove_job(connection, job)
    farm.wake()


def _found(connection: Connection, job: str) -> Job:
    found = store.find_job(connection, job)
    if found is None:
        raise NotFound("there is no such job (any more)")
    return found


def _draft(connection: Connection, job: str) -> Job:
    found = _found(connection, job)
    if found.status is not JobStatus.DRAFT:
        raise Conflict(f"this job is {found.status}; only a draft's files and settings can be changed or submitted")
    return found


def _conflict(seen: Job, wish: str) -> CommandError:
    """Say which statuses allow the wish, in words."""
    allowed = {
        "paused": "only a job that is being prepared or rendered can be paused",
        "resumed": "only a paused job can be resumed",
        "cancelled": "only a job that waits, is being rendered or is paused can be cancelled",
        "retried": "only a failed or cancelled job can be retried",
        "deleted": "cancel it first; drafts and ended jobs can be deleted",
    }
    return Conflict(f"this job is {seen.status}: {allowed[wish]}")


def _moved(is_moved: bool) -> None:
    assert is_moved, "the job was read in this transaction, and writers go one at a time"


def _checked_name(name: str) -> str:
    clean = " ".join(unicodedata.normalize("NFC", name).split())
    if any(unicodedata.category(c) in {"Cc", "Cs"} for c in clean):
        raise Rejected("the name has a control character in it; leave it out", field="name")
    if len(clean) > _MAX_NAME:
        raise Rejected(f"the name is longer than {_MAX_NAME} characters; shorten it", field="name")
    return clean
