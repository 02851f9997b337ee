"""Give everything back that is rented for a job; only then does it end or pause."""

from __future__ import annotations

from collections.abc import Sequence

from nodeimage.protocol import Action, NodeState
from supervisor.domain.instance import InstanceStatus
from supervisor.domain.job import JobStatus
from supervisor.farm import Farm
from supervisor.store import frames, instances, jobs
from supervisor.store.instances import Instance, Launch
from supervisor.store.jobs import Job

from .complete import ending_of
from .hands import give_back
from .launches import is_all_shown
from .orders import keep_order
from .tick import Tick, Watch, soon_s


def step_releasing(farm: Farm, job: Job, tick: Tick, watch: Watch) -> float | None:
    """End or stop the instances; when all are gone, go where the job was to go. Nodes of the shared pool leave the job by its order."""
    assert job.then is not None, "RELEASING says what follows"
    is_pause = job.then is JobStatus.PAUSED
    with farm.db.read() as connection:
        mine = instances.instances_of(connection, job.id)
        launches = instances.launches_of(connection, job.id)
    given_back = {InstanceStatus.TERMINATED, InstanceStatus.STOPPED} if is_pause else {InstanceStatus.TERMINATED}
    rented = [one for one in mine if one.status not in given_back]
    if rented:
        keep_order(farm, job, Action.DRAIN if is_pause else Action.STOP)
        _stop_drained(farm, rented, tick) if is_pause else give_back(farm, rented, note="given back", now=tick.now)
        _say(farm, job, _what_is_rented(job, rented, tick))
        return soon_s(job, tick)
    if not is_all_shown(launches, now=tick.now):
        return soon_s(job, tick)
    _close_launches(farm, launches)
    if is_pause and _ends_instead(farm, job, tick):
        return 0.0
    if job.order_revision:
        keep_order(farm, job, Action.DRAIN if is_pause else Action.STOP)
    if not _leave_workspace(farm, job):
        _say(farm, job, _what_prepared(job))
        return soon_s(job, tick)
    with farm.db.write() as connection:
        if jobs.move(connection, job, job.then, because=job.then_reason, at=tick.now):
            frames.stop_rendering(connection, job.id)
    watch.forget_job(job.id)
    return None


def _ends_instead(farm: Farm, job: Job, tick: Tick) -> bool:
    """Let a job that was to be paused end where the last frames were its last. Returns: whether it is to end (or to look again)"""
    with farm.db.read() as connection:
        unended = frames.counts(connection, job.id).unended
    if unended:
        return False
    ending = ending_of(farm, job, tick)
    if ending is None:
        return False
    then, reason = ending
    with farm.db.write() as connection:
        jobs.change_what_follows(connection, job, then, because=reason, at=tick.now)
    return True


def _stop_drained(farm: Farm, rented: Sequence[Instance], tick: Tick) -> None:
    """Stop the instances whose node holds no frame: it never began, or has said goodbye. The others drain."""
    ending = {InstanceStatus.STOPPING, InstanceStatus.TERMINATING}
    present = [one for one in rented if one.job and one.status not in ending and not one.is_left_to_cloud(tick.now)]
    empty = [one.id for one in present if one.heartbeat is None or one.heartbeat.state is NodeState.GONE]
    if empty:
        farm.cloud.compute.stop(empty)


def _close_launches(farm: Farm, launches: Sequence[Launch]) -> None:
    """Settle launches that were never answered: what they brought was seen and is gone. A retry must not ask for them again."""
    in_doubt = [launch for launch in launches if launch.granted is None]
    if in_doubt:
        with farm.db.write() as connection:
            for launch in in_doubt:
                instances.record_granted(connection, launch.request_id, launch.shown, problem="the answer was lost")


def _leave_workspace(farm: Farm, job: Job) -> bool:
    """Give back the copies; keep the files for a retry, unless they could not be prepared. Returns: False: some of it is still paid for"""
    if not farm.cloud.workspaces.release_copies(job.id):
        return False
    state = farm.cloud.workspaces.state(job.id)
    if state and state.problem:
        farm.cloud.workspaces.delete(job.id)
    return True


def _what_prepared(job: Job) -> str:
    before = "pausing" if job.then is JobStatus.PAUSED else job.then_reason
    return f"{before}; what prepared its files is still to be given back"


def _what_is_rented(job: Job, rented: Sequence[Instance], tick: Tick) -> str:
    left = f"{len(rented)} instance{'' if len(rented) == 1 else 's'}"
    if job.then is JobStatus.PAUSED:
        verb = "finishes the frame that it renders" if len(rented) == 1 else "finish the frames that they render"
        return f"pausing: {left} {verb}"
    if all(one.is_left_to_cloud(tick.now) for one in rented):
        return f"{job.then_reason}; {left} being taken back by the cloud, which ends what is paid for"
    return f"{job.then_reason}; {left} still to be given back"


def _say(farm: Farm, job: Job, text: str) -> None:
    if text != job.reason:
        with farm.db.write() as connection:
            jobs.say_what_it_waits_for(connection, job, text)
