"""Let a job whose scout frames have ended wait for a person's yes to the rest."""

from __future__ import annotations

from supervisor.domain.frame import FrameStatus, format_frames
from supervisor.domain.job import JobStatus
from supervisor.estimating import estimate_job, rest_in_words
from supervisor.farm import Farm
from supervisor.scouts import scouts_of
from supervisor.store import frames, jobs
from supervisor.store.jobs import Job

from .tick import Tick


def ask_for_the_rest(farm: Farm, job: Job, tick: Tick) -> bool:
    """Have a scouted job give everything back and wait, saying what its scout frames tell. Returns: False if it is not scouted"""
    scouts = scouts_of(job)
    if not scouts:
        return False
    then, reason = _verdict(farm, job, scouts)
    with farm.db.write() as connection:
        because = f"{reason.partition(';')[0]}; instances are being given back"
        jobs.move(connection, job, JobStatus.RELEASING, because=because, at=tick.now, then=then, then_reason=reason)
    return True


def _verdict(farm: Farm, job: Job, scouts: tuple[int, ...]) -> tuple[JobStatus, str]:
    with farm.db.read() as connection:
        received = [number for number in frames.numbers(connection, job.id, FrameStatus.RECEIVED) if number in scouts]
        found = estimate_job(farm, connection, job, job.settings)
    if not received:
        which = "the scout frame" if len(scouts) == 1 else f"every scout frame ({format_frames(scouts)})"
        return JobStatus.FAILED, f"{which} failed, so the rest was not tried. The logs say why; a retry begins with them again"
    failed = len(scouts) - len(received)
    said = f"scouted: {_count(len(received))} rendered" + (f", {failed} failed" if failed else "")
    rest = f"the other {_count(found.frames)} would {rest_in_words(found)}; " if found else ""
    return JobStatus.PAUSED, f"{said}; {rest}resume to render the rest"


def _count(number: int) -> str:
    return "one frame" if number == 1 else f"{number} frames"
