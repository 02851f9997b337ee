"""The inbox: a .blend or a zip dropped into the bucket's `inbox/` becomes a job, submitted with the scene's own settings."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from contextlib import closing
from pathlib import PurePosixPath

import structlog

from nodeimage.protocol import INBOX_PREFIX
from supervisor.cloud.ports import CloudError, Listed
from supervisor.commands.files import put_file
from supervisor.commands.jobs import submit_job
from supervisor.domain.errors import CommandError, Conflict, OutOfSpace
from supervisor.domain.file import is_blend, is_zip
from supervisor.domain.job import JobStatus
from supervisor.domain.problem import Problem
from supervisor.farm import Farm
from supervisor.store import events, inventory, jobs

log = structlog.get_logger(__name__)

_PROBLEM = "inbox"


def take_in_inbox(farm: Farm, *, go_on: Callable[[], bool] = lambda: True) -> None:
    """Make a job of each file in the inbox, and remove the file once its job stands on its own.

    Repeat:  safe: the job's id is made from the file's name and content, so a file is one job however often this is cut off
    """
    for listed in list(farm.cloud.objects.list(INBOX_PREFIX)):
        name = listed.key.removeprefix(INBOX_PREFIX)
        if not go_on():
            return
        if "/" in name or not (is_blend(name) or is_zip(name)):
            continue
        try:
            if _take_in(farm, name, listed):
                farm.cloud.objects.delete([listed.key])
        except (CloudError, FileNotFoundError) as error:
            log.warning("inbox file not taken in yet", name=name, error=str(error))


def _take_in(farm: Farm, name: str, listed: Listed) -> bool:
    """Returns: whether the file is done with: its job was submitted, or waits for a person as a draft that says why"""
    job = _job_of(farm, name, listed)
    if job is None:
        return True
    try:
        if not _is_uploaded(farm, job, name, listed):
            return False
        submit_job(farm, job)
    except Conflict:
        return True  # it was submitted before, or a person took it up
    except OutOfSpace as error:
        _say(farm, job, error)
        return False
    except CommandError as error:
        _say(farm, job, error)
        return True
    log.info("inbox file submitted", name=name, job=job)
    return True


def _job_of(farm: Farm, name: str, listed: Listed) -> str | None:
    """The draft of a file, made if need be. Returns: None if it is not a draft any more"""
    digest = hashlib.sha256(f"{name}\n{listed.etag}\n{listed.modified_at.isoformat()}".encode()).hexdigest()
    job = f"job_{digest[:16]}"
    with farm.db.write() as connection:
        found = jobs.find_job(connection, job)
        if found is None:
            jobs.add_job(connection, job, name=PurePosixPath(name).stem, owner_id=None, at=farm.now())
            events.add_event(connection, job, at=farm.now(), text=f"made of “{name}” in the inbox")
    return job if found is None or found.status is JobStatus.DRAFT else None


def _is_uploaded(farm: Farm, job: str, name: str, listed: Listed) -> bool:
    """Have the file among the job's, unpacked and checked. Returns: False while that goes on"""
    with farm.db.read() as connection:
        there = inventory.inventory(connection, job)
    if not there.count or there.uploading:
        with closing(farm.cloud.objects.open(listed.key)) as source:
            put_file(farm, job, path=name, source=source, length=listed.bytes)
        with farm.db.read() as connection:
            there = inventory.inventory(connection, job)
    return not there.checking


def _say(farm: Farm, job: str, error: CommandError) -> None:
    """Leave word on the draft why it was not submitted."""
    remedy = "Mend it on this page and submit the job, or drop a mended file into the inbox."
    problem = Problem(code=_PROBLEM, severity="error", text=f"it could not be submitted: {error}", remedy=remedy, since=farm.now())
    with farm.db.write() as connection:
        if events.put_problem(connection, job, problem):
            jobs.touch(connection, job)
            log.warning("inbox file not submitted", job=job, error=str(error))
