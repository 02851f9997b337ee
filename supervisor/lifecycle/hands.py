"""Which of a job's instances work on it, which of them have nothing in hand, what waits for them; and how to let go of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from nodeimage.protocol import NodeState
from supervisor.domain.instance import InstanceStatus
from supervisor.farm import Farm
from supervisor.scouts import wanted_counts
from supervisor.store import frames, instances, jobs
from supervisor.store.instances import Instance, Launch
from supervisor.store.jobs import Job

from .launches import expected

#: What a node that holds no frame says of itself.
_FREE = frozenset({NodeState.STARTING, NodeState.OPENING, NodeState.IDLE})


def is_at_work(instance: Instance) -> bool:
    """Say whether an instance's node takes frames or is about to: it is not gone, not being ended, not being taken back by the cloud,
    and has not said goodbye.
    """
    said_goodbye = instance.heartbeat is not None and instance.heartbeat.state is NodeState.GONE
    return instance.is_up and not said_goodbye and not instance.is_taken_back


def is_free(instance: Instance) -> bool:
    """Say whether an instance at work holds no frame. One whose claim we have not heard of yet is free to us, and its frame queued."""
    beat = instance.heartbeat
    return beat is None or (beat.state in _FREE and not beat.uploading)


@dataclass(frozen=True, slots=True, kw_only=True)
class Hands:
    """A job's instances and what waits for them."""

    all: Sequence[Instance]  #: gone ones too
    launches: Sequence[Launch]
    at_work: Sequence[Instance]
    due: int  #: instances granted and not shown yet
    unended: int  #: frames
    waiting: int  #: frames that no node at work holds: those queued, and those on a node that the cloud is about to take back

    @property
    def free(self) -> int:
        return self.due + sum(1 for one in self.at_work if is_free(one))


def look_at_hands(farm: Farm, job: Job, *, now: datetime) -> Hands:
    """See what the job has and what it lacks. One read."""
    with farm.db.read() as connection:
        mine = instances.instances_of(connection, job.id)
        launches = instances.launches_of(connection, job.id)
        counted = wanted_counts(connection, job)
        doomed = [one.node for one in mine if one.is_rented and one.is_taken_back]
        held_by_doomed = len(frames.rendering_on(connection, job.id, doomed)) if doomed else 0
    return Hands(
        all=mine,
        launches=launches,
        at_work=[one for one in mine if is_at_work(one)],
        due=expected(launches, now=now),
        unended=counted.unended,
        waiting=counted.queued + held_by_doomed,
    )


def give_back(farm: Farm, chosen: Iterable[Instance], *, note: str, now: datetime) -> None:
    """End instances that are needed no more, once; those that the cloud is about to take back are left to it, and those of the shared pool
    to the pool. Repeat: safe

    The end is asked for again with every tick for as long as the cloud shows them (`giving_up`).
    """
    ending = [one for one in chosen if one.job and one.status is not InstanceStatus.TERMINATING and not one.is_left_to_cloud(now)]
    ids = [one.id for one in ending]
    if ids:
        with farm.db.write() as connection:
            instances.end_instances(connection, ids, note=note, given_back=True)
            for job in {one.job for one in ending}:
                jobs.touch(connection, job)
        farm.cloud.compute.terminate(ids)
