"""One tick of the supervisor, as an outline: observe once, settle what is a fact, then act; one step a status, each repeatable."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from types import MappingProxyType

import structlog

from supervisor.cloud.ports import CloudError, Refused
from supervisor.domain.instance import InstanceStatus
from supervisor.domain.job import ACTIVE, JobStatus
from supervisor.domain.problem import Problem
from supervisor.farm import Farm
from supervisor.store import events, facts, frames, instances, jobs
from supervisor.store.jobs import Job

from .budget import keep_within_budget
from .claims import gone_nodes, gone_of_pool, requeue_frames_of
from .giving_up import give_up_lost
from .journal import take_in_journal
from .launching import step_launching
from .nodes import settle_nodes
from .observe import observe
from .releasing import step_releasing
from .rendering import step_rendering
from .runs import settle_runs
from .shared import tend_pool
from .staging import step_snapshotting, step_staging, step_submitted
from .tick import Tick, Watch

log = structlog.get_logger(__name__)

#: Does what a job in its status needs now, any number of times; moves it on where that is done.
#: Returns: seconds until it should be looked at again; None: with the next regular tick
Step = Callable[[Farm, Job, Tick, Watch], float | None]

STEPS: Mapping[JobStatus, Step] = MappingProxyType(
    {
        JobStatus.SUBMITTED: step_submitted,
        JobStatus.STAGING: step_staging,
        JobStatus.SNAPSHOTTING: step_snapshotting,
        JobStatus.LAUNCHING: step_launching,
        JobStatus.RENDERING: step_rendering,
        JobStatus.RELEASING: step_releasing,
    }
)
#: Statuses in which nodes may have something to tell.
_HAS_NODES = frozenset({JobStatus.LAUNCHING, JobStatus.RENDERING, JobStatus.RELEASING})
#: Statuses of an instance whose node may still report. What a node left behind that is gone is read once, whole.
_MAY_WRITE = frozenset({InstanceStatus.RUNNING, InstanceStatus.STOPPING, InstanceStatus.TERMINATING})
#: Steps of one job in one tick: from submitted to launched takes four, and a lap must not go on for ever.
_MOST_STEPS = 8
#: The last tick is written down no more often, so that an idle farm hardly writes.
_RECORD_EVERY = timedelta(seconds=2)
#: Seconds between ticks while no job wants anything: a command wakes the supervisor.
_AT_REST_S = 5.0
_TROUBLE = "supervisor_trouble"


class Supervisor:
    """Moves every job through its lifecycle, tick by tick. One tick or sweep at a time."""

    def __init__(self, farm: Farm) -> None:
        self._farm = farm
        self._watch = Watch()
        self._troubled: set[str] | None = None  # None: not read from the database yet
        self._recorded: tuple[datetime, bool] | None = None  #: when a tick was written down last, and whether it was good
        self.lock = threading.Lock()  #: held by whatever decides on the farm's instances: ticks and sweeps

    def tick(self) -> float:
        """Do what is to be done now. Returns: seconds until the next tick is wanted"""
        with self.lock:
            return self._tick()

    def _tick(self) -> float:
        farm, regular_s = self._farm, self._farm.config.tick_s
        try:
            tick = observe(farm, self._watch)
            settle_nodes(farm, tick, self._watch)
            settle_runs(farm, tick)
            give_up_lost(farm, tick, self._watch)
        except CloudError as error:
            self._skip(error)
            return regular_s
        farm.standing.trouble = ""
        with farm.db.read() as connection:
            active = sorted(jobs.jobs_in(connection, ACTIVE), key=lambda job: -job.settings.priority)
        self._watch.pool.gone = gone_of_pool(farm)
        self._watch.is_slot_promised = False
        waits = [self._advance(job, tick) for job in active]
        self._tend_pool(active, tick)
        self._record(tick.now)
        return min([regular_s, *waits]) if active else max(regular_s, _AT_REST_S)

    def _advance(self, job: Job, tick: Tick) -> float:
        """Settle and move one job. Its trouble is its own: the others go on."""
        regular_s = self._farm.config.tick_s
        try:
            wait_s = self._run_steps(job, tick)
        except CloudError as error:
            self._say_trouble(job, tick, str(error), must_act=isinstance(error, Refused))
            return regular_s
        except Exception as error:
            if self._say_trouble(job, tick, f"{type(error).__name__}: {error}", must_act=True):
                log.exception("step failed", job=job.id, status=str(job.status))
            return regular_s
        self._clear_trouble(job)
        return regular_s if wait_s is None else wait_s

    def _tend_pool(self, active: Sequence[Job], tick: Tick) -> None:
        """See to the shared pool, if there is one. Its trouble is told to the jobs that wait for it."""
        gone = self._watch.pool.gone
        if gone and not self._all_troubled() & {job.id for job in active}:  # all have freed what these had claimed
            with self._farm.db.write() as connection:
                instances.mark_claims_freed(connection, [one.id for one in gone])
        try:
            tend_pool(self._farm, tick, self._watch)
        except CloudError as error:
            self._say_pool_trouble(str(error))
        except Exception as error:
            if self._say_pool_trouble(f"{type(error).__name__}: {error}"):
                log.exception("shared pool not seen to")

    def _say_pool_trouble(self, said: str) -> bool:
        """Tell the jobs that wait for the shared pool why it stays as it is. Returns: whether it is news"""
        problem = f"the shared pool can't be changed at present: {said}"
        if problem == self._watch.pool.problem:
            return False
        self._watch.pool.problem = problem
        log.warning("shared pool held up", error=said)
        return True

    def _run_steps(self, job: Job, tick: Tick) -> float | None:
        """Run steps for as long as they move the job on. Returns: what the last one did"""
        settle_job(self._farm, job, tick, self._watch)
        keep_within_budget(self._farm, job, tick, self._watch)
        for _ in range(_MOST_STEPS):
            with self._farm.db.read() as connection:
                seen = jobs.find_job(connection, job.id)
            if seen is None or seen.status not in STEPS:
                return None
            wait_s = STEPS[seen.status](self._farm, seen, tick, self._watch)
            with self._farm.db.read() as connection:
                after = jobs.find_job(connection, job.id)
            if after is None or after.status is seen.status:
                return wait_s
        return 0.0

    def _say_trouble(self, job: Job, tick: Tick, said: str, *, must_act: bool) -> bool:
        """Tell people why a job does not go on. Returns: whether it is news: it may be so at every tick, for days"""
        text = f"the supervisor can't go on with this job at present: {said}"
        remedy = (
            "It goes on trying. If this stays, see to what is named, or look into the server's log." if must_act else "It goes on trying."
        )
        problem = Problem(code=_TROUBLE, severity="error" if must_act else "warning", text=text, remedy=remedy, since=tick.now)
        with self._farm.db.write() as connection:
            is_news = jobs.find_job(connection, job.id) is not None and events.put_problem(connection, job.id, problem)
            if is_news:
                jobs.touch(connection, job.id)
        if is_news:
            log.warning("job held up", job=job.id, status=str(job.status), error=said)
        self._all_troubled().add(job.id)
        return is_news

    def _clear_trouble(self, job: Job) -> None:
        if job.id not in self._all_troubled():
            return
        with self._farm.db.write() as connection:
            if events.clear_problem(connection, job.id, _TROUBLE):
                jobs.touch(connection, job.id)
        self._all_troubled().discard(job.id)

    def _all_troubled(self) -> set[str]:
        if self._troubled is None:
            with self._farm.db.read() as connection:
                self._troubled = events.jobs_with_problem(connection, _TROUBLE)
        return self._troubled

    def _skip(self, error: CloudError) -> None:
        """Decide nothing: what is rented can't be seen. People learn why, once."""
        if self._farm.standing.trouble != str(error):
            log.warning("cloud not readable, ticks skipped", error=str(error))
        self._farm.standing.trouble = str(error)
        self._record(self._farm.now(), was_good=False)

    def _record(self, now: datetime, *, was_good: bool = True) -> None:
        """Write down that there was a tick, and whether it was good."""
        if self._recorded is None or was_good != self._recorded[1] or now - self._recorded[0] >= _RECORD_EVERY:
            with self._farm.db.write() as connection:
                facts.record_tick(connection, at=now, was_good=was_good)
            self._recorded = now, was_good


def settle_job(farm: Farm, job: Job, tick: Tick, watch: Watch) -> None:
    """Take in what the job's nodes reported, and queue again what gone ones held."""
    if job.status not in _HAS_NODES or not job.order_revision:
        return
    with farm.db.read() as connection:
        mine = instances.instances_of(connection, job.id)
        # a node of the pool may have come, delivered and gone on to another job since the last tick
        writers = instances.pool_instances(connection) if farm.cloud.pool else mine
        gone = gone_nodes(job, mine) + watch.pool.gone
        has_work = bool(gone) and frames.counts(connection, job.id).unended > 0
    may_write = any(one.status in _MAY_WRITE for one in writers)
    if gone or may_write or watch.is_whole_journal_due(job.id, tick.now):  # on AWS each listing has its price
        take_in_journal(farm, job, mine, tick, watch, whole=has_work)
    if gone:
        requeue_frames_of(farm, job, gone, tick)
