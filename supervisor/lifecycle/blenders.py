"""The Blender of a job: given to it when it was submitted, told more exactly by its nodes, and never another series in the middle."""

from __future__ import annotations

import structlog

from supervisor.domain.blender import fitting, numbers_of, series_of
from supervisor.domain.scene import Inspection
from supervisor.farm import Farm
from supervisor.readiness import blenders_of
from supervisor.store import jobs
from supervisor.store.database import Connection
from supervisor.store.jobs import Job

log = structlog.get_logger(__name__)


def blender_for(farm: Farm, job: Job, main: Inspection) -> tuple[int, ...]:
    """The version that a job's instances are to have. One that an older farm submitted is given it now."""
    if given := numbers_of(job.blender_version):
        return given
    found = fitting(main.version, blenders_of(farm))
    if found is None:
        return main.version
    with farm.db.write() as connection:
        jobs.change_job(connection, job.id, blender_version=found)
    return numbers_of(found)


def note_blender(connection: Connection, job: Job, told: str) -> None:
    """Write down the version that a node says it renders with. Another series than the job's own stays out: launches go by what is kept."""
    numbers = numbers_of(told)
    version = ".".join(map(str, numbers))
    if not numbers or version == job.blender_version:
        return
    if numbers_of(job.blender_version) and series_of(job.blender_version) != series_of(version):
        log.warning("node renders with another Blender than the job's", job=job.id, given=job.blender_version, told=version)
        return
    jobs.change_job(connection, job.id, blender_version=version)
