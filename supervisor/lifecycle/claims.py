"""Free claims: of nodes that are gone, and of attempts that ended. Only then can other nodes take the frames."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import structlog

from nodeimage.protocol import Claim, Unreadable, claim_key, claims_prefix
from supervisor.domain.frame import FrameStatus
from supervisor.domain.instance import InstanceStatus
from supervisor.domain.job import JobStatus
from supervisor.farm import Farm
from supervisor.store import attempts, events, frames, instances, jobs
from supervisor.store.instances import Instance
from supervisor.store.jobs import Job

from .launches import is_all_shown
from .observe import read_all
from .tick import Tick

log = structlog.get_logger(__name__)

#: Claims freed in one tick; the rest comes with the next.
_MOST_AT_ONCE = 2000
_HOLD_NOTHING = frozenset({InstanceStatus.STOPPED, InstanceStatus.TERMINATING, InstanceStatus.TERMINATED})


def gone_of_pool(farm: Farm) -> list[Instance]:
    """Instances of the shared pool that are gone and may have left claims behind, on frames of any job."""
    with farm.db.read() as connection:
        return [one for one in instances.pool_instances(connection) if not one.claims_freed and one.status in _HOLD_NOTHING]


def gone_nodes(job: Job, mine: Iterable[Instance]) -> list[Instance]:
    """Those of a job's instances that are gone and may have left claims behind.

    One that was given up is gone at once; one that is being released says goodbye itself, and is waited for. One that was stopped holds
    nothing: if it is started again, it claims anew.
    """
    gone = _HOLD_NOTHING - ({InstanceStatus.TERMINATING} if job.status is JobStatus.RELEASING else set())
    return [one for one in mine if one.job and not one.claims_freed and one.status in gone]


def requeue_frames_of(farm: Farm, job: Job, gone: Sequence[Instance], tick: Tick) -> None:
    """Queue again what gone nodes held: claims without an outcome, and frames that they were seen to render.

    The journal was taken in whole before: what they delivered counts. Repeat: safe
    """
    nodes = {instance.node for instance in gone}
    held = set(_held(farm, job))
    with farm.db.write() as connection:
        lost = held | set(frames.rendering_on(connection, job.id, nodes))
        for number in sorted(lost):
            frame = frames.find_frame(connection, job.id, number)
            if frame and not frame.is_ended:
                frames.requeue(connection, job.id, number, reason=f"attempt {frame.attempt} was lost with its instance")
        if lost:
            text = f"{_frames(lost)} queued again: the instance is gone that had claimed {'it' if len(lost) == 1 else 'them'}"
            events.add_event(connection, job.id, at=tick.now, text=text)
            log.warning("frames requeued", job=job.id, frames=sorted(lost)[:20], nodes=sorted(nodes))
        # those of the pool may have left claims at other jobs too: whoever looks at all jobs marks them
        instances.mark_claims_freed(connection, [instance.id for instance in gone if instance.job])
        jobs.touch(connection, job.id)


def _held(farm: Farm, job: Job) -> list[int]:
    """The frames without an outcome whose claim no living node holds."""
    with farm.db.read() as connection:
        if not frames.unended(connection, job.id):
            return []
        ended = set(frames.numbers(connection, job.id, FrameStatus.RECEIVED, FrameStatus.FAILED)) | set(
            frames.claims_to_free(connection, job.id)
        )
    prefix = claims_prefix(job.id)
    listed = [_number(listed.key.removeprefix(prefix)) for listed in farm.cloud.objects.list(prefix)]
    open_claims = [number for number in listed if number is not None and number not in ended]
    claims = _read(farm, job, open_claims)
    return [number for number, claim in claims.items() if claim is None or _is_ownerless(farm, job, claim)]


def _number(name: str) -> int | None:
    try:
        return int(name)
    except ValueError:
        return None


def _read(farm: Farm, job: Job, numbers: Sequence[int]) -> dict[int, Claim | None]:
    """The claims that are there; None for one that can't be read."""

    def read(number: int) -> tuple[bool, Claim | None]:
        stored = farm.cloud.objects.get(claim_key(job.id, number))
        try:
            return stored is not None, Claim.from_bytes(stored.body) if stored else None
        except Unreadable:
            return True, None

    found = zip(numbers, read_all(read, numbers), strict=True)
    return {number: claim for number, (is_there, claim) in found if is_there}


def _is_ownerless(farm: Farm, job: Job, claim: Claim) -> bool:
    """Say whether a claim's node is gone. One that the cloud has not shown yet is not."""
    with farm.db.read() as connection:
        owners = instances.with_nodes(connection, [claim.node])
        launches = instances.launches_of(connection, job.id)
    if not owners:
        return is_all_shown(launches, now=farm.now())
    return owners[0].status in _HOLD_NOTHING


def free_ended_claims(farm: Farm, job: Job) -> None:
    """Delete the claims of attempts that ended, once the order says what the next attempt must know. Repeat: safe"""
    with farm.db.read() as connection:
        numbers = frames.claims_to_free(connection, job.id)[:_MOST_AT_ONCE]
    if not numbers:
        return
    claims = _read(farm, job, numbers)
    nonces = [claim.nonce for claim in claims.values() if claim]
    with farm.db.read() as connection:
        ended = attempts.ended_nonces(connection, job.id, nonces)
    # a node may have given its claim back itself, and another one have claimed the frame since: that claim stays
    gone = [n for n, claim in claims.items() if claim is None or claim.nonce in ended or _is_ownerless(farm, job, claim)]
    farm.cloud.objects.delete([claim_key(job.id, number) for number in gone])
    with farm.db.write() as connection:
        frames.forget_claims(connection, job.id, numbers)


def _frames(numbers: set[int]) -> str:
    if len(numbers) == 1:
        return f"frame {min(numbers)} is"
    return f"{len(numbers)} frames are"
