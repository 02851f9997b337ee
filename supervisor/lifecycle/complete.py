"""End the rendering: compare what nodes said with what is in the bucket, and decide how the job ends."""

from __future__ import annotations

import structlog

from nodeimage.protocol import Failure, frames_prefix, split_output_key
from supervisor.domain.frame import FrameStatus, frames_in_words
from supervisor.domain.job import JobStatus
from supervisor.domain.problem import Problem
from supervisor.domain.verdict import is_hopeless
from supervisor.farm import Farm
from supervisor.store import attempts, events, frames, jobs
from supervisor.store.jobs import Job

from .scout import ask_for_the_rest
from .tick import Tick

log = structlog.get_logger(__name__)


def conclude(farm: Farm, job: Job, tick: Tick) -> float | None:
    """Every frame that was wanted has ended: release the job, unless some must be rendered again. Of a scouted job, ask for the rest."""
    if ask_for_the_rest(farm, job, tick):
        return None
    ending = ending_of(farm, job, tick)
    if ending is None:
        return 0.0
    then, reason = ending
    with farm.db.write() as connection:
        if frames.counts(connection, job.id).unended:
            return 0.0  # while the store was being looked through, a person asked for a frame again
        because = f"{reason}; instances are being given back"
        jobs.move(connection, job, JobStatus.RELEASING, because=because, at=tick.now, then=then, then_reason=reason)
    return None


def ending_of(farm: Farm, job: Job, tick: Tick) -> tuple[JobStatus, str] | None:
    """How a job ends whose frames have all ended, and why. A received frame that is not in the bucket as its node said is queued again.

    Returns: None if there was one: the job goes on
    """
    missing = missing_outputs(farm, job)
    if missing:
        _requeue(farm, job, missing, tick)
        return None
    with farm.db.read() as connection:
        failed = frames.numbers(connection, job.id, FrameStatus.FAILED)
        total = frames.counts(connection, job.id).total
    if failed:
        return JobStatus.FAILED, _failed_reason(failed)
    return JobStatus.COMPLETED, f"all {total} frames are received" if total != 1 else "its frame is received"


def missing_outputs(farm: Farm, job: Job) -> dict[int, str]:
    """The received frames that are not whole in the bucket, each with the output that it lacks. One full listing."""
    there: dict[int, dict[str, int]] = {}
    for listed in farm.cloud.objects.list(frames_prefix(job.id)):
        number, name = split_output_key(listed.key)
        there.setdefault(number, {})[name] = listed.bytes
    missing = {}
    with farm.db.read() as connection:
        for number, outputs in frames.received_outputs(connection, job.id):
            sizes = there.get(number, {})
            lacking = [output.name for output in outputs if sizes.get(output.name) != output.bytes]
            if lacking or not outputs:
                missing[number] = lacking[0] if lacking else "any output"
    return missing


def _requeue(farm: Farm, job: Job, missing: dict[int, str], tick: Tick) -> None:
    with farm.db.write() as connection:
        for number, name in missing.items():
            frame = frames.find_frame(connection, job.id, number)
            assert frame is not None, "it was read from there"
            reason = f"“{name}” of frame {number} is not in the store as its node said"
            if frame.failures + 1 < farm.config.render.max_attempts:
                frames.requeue(connection, job.id, number, reason=reason, counts_as_failure=True)
            else:
                frames.fail(connection, job.id, number, node=frame.node or "", reason=reason)
        said = f"{frames_in_words(sorted(missing))}: outputs are not in the store as the nodes said; rendered again"
        remedy = "Something else than the farm removes or changes objects in the bucket; see to it that nothing does."
        problem = Problem(code="lost_output", severity="warning", text=said, remedy=remedy, since=tick.now)
        events.put_problem(connection, job.id, problem)
        events.add_event(connection, job.id, at=tick.now, text=said)
        jobs.touch(connection, job.id)
    log.warning("received frames are gone from the store", job=job.id, frames=sorted(missing)[:20])


def end_if_hopeless(farm: Farm, job: Job, tick: Tick) -> bool:
    """Move the job to RELEASING where every frame fails. Returns: whether it was moved"""
    assert job.submitted_at is not None, "a job that renders was submitted"
    with farm.db.read() as connection:
        if not frames.has_failing(connection, job.id):
            return False
        verdict = is_hopeless(
            has_received=frames.has_received_since(connection, job.id, job.submitted_at),
            failing=attempts.failed_frames_since(connection, job.id, job.submitted_at),
            open_failures=attempts.failures_since(connection, job.id, Failure.OPEN, job.submitted_at),
            max_attempts=farm.config.render.max_attempts,
        )
        last = attempts.last_failure(connection, job.id, since=job.submitted_at) if verdict else None
    if not verdict:
        return False
    because = "every frame tried so far failed, and none was received; the rest is not tried"
    reason = f"{because}. The last failure: {last.message}" if last else because
    with farm.db.write() as connection:
        jobs.move(connection, job, JobStatus.RELEASING, because=because, at=tick.now, then=JobStatus.FAILED, then_reason=reason)
    return True


def _failed_reason(failed: list[int]) -> str:
    if len(failed) == 1:
        return f"frame {failed[0]} failed; the others are received. Its log says why; a retry renders only what is missing"
    return f"{frames_in_words(failed)} failed; the others are received. Their logs say why; a retry renders only what is missing"
