"""The lifecycle under random faults: whatever happens on the way, the job ends as it should, and nothing stays rented."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from nodeimage.protocol import Failure, NodeState, frames_prefix
from supervisor import queries
from supervisor.cloud.ports import NoCapacity, Throttled, Unreachable
from supervisor.commands import jobs as commands
from supervisor.config import CloudConfig, Config, LaunchConfig, MoneyConfig, PoolConfig
from supervisor.domain.frame import FrameStatus
from supervisor.domain.instance import InstanceStatus, Market
from supervisor.domain.job import ENDED, JobStatus
from supervisor.domain.settings import JobSettings
from supervisor.store import instances
from tests.fakes.farm import FakeFarm
from tests.fakes.node import FakeNode, FakeNodes

_SLOTS = 3
_CONFIG = Config(cloud=CloudConfig(provider="aws"), money=MoneyConfig(max_usd_per_month=0), launch=LaunchConfig(fallback_minutes=1))
_SHARED = _CONFIG.model_copy(update={"pool": PoolConfig(mode="shared", max_instances=_SLOTS)})
_Pick = st.integers(0, 11)


class LifecycleUnderFaults(RuleBasedStateMachine):
    """One job, its nodes, a person who changes their mind, and a world in which everything can go wrong."""

    config = _CONFIG

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.bench = FakeFarm.open(self.folder, slots=_SLOTS, config=self.config)
        self.nodes = FakeNodes(self.bench)
        self.ever: dict[str, FakeNode] = {}
        self.job = ""
        self.frames = 0

    def teardown(self) -> None:
        if self.job:
            self._let_all_be_well()
        self.bench.farm.db.close()
        shutil.rmtree(self.folder)

    @initialize(
        frames=st.integers(1, 6), count=st.integers(1, 3), slow=st.booleans(), market=st.sampled_from(Market), can_stop=st.booleans()
    )
    def submit(self, frames: int, count: int, slow: bool, market: Market, can_stop: bool) -> None:
        self.frames = frames
        self.job = self.bench.a_submitted_job(frames=f"1-{frames}", instances=count, settings=JobSettings(market=market))
        self.bench.cloud.compute.comes_up = not slow
        self.bench.cloud.compute.can_stop = can_stop

    # Time and the supervisor

    @rule(after_s=st.sampled_from([0.1, 1.0, 1.0, 1.0, 10.0, 70.0]))
    def tick(self, after_s: float) -> None:
        self.bench.tick(after_s=after_s)

    @rule()
    def restart(self) -> None:
        self.bench.restart()

    # Nodes: those that live, and those that died and do not know it

    def _node(self, pick: int, *, dead_too: bool = False) -> FakeNode | None:
        for node in self.nodes.alive():
            self.ever[node.name] = node
        chosen = list(self.ever.values()) if dead_too else list(self.nodes.alive())
        return chosen[pick % len(chosen)] if chosen else None

    @rule(pick=_Pick)
    def a_node_begins_a_frame(self, pick: int) -> None:
        node = self._node(pick)
        if node and len(node.claims) < 2:
            node.begin()

    @rule(pick=_Pick)
    def a_node_claims_and_says_nothing(self, pick: int) -> None:
        node = self._node(pick)
        if node and len(node.claims) < 2:
            node.claim()

    @rule(pick=_Pick, off_s=st.sampled_from([0.0, 0.0, -3600.0, 3600.0]))
    def a_node_delivers(self, pick: int, off_s: float) -> None:
        node = self._node(pick, dead_too=True)
        if node and node.claims:
            node.clock_off_s = off_s
            node.deliver(min(node.claims))

    @rule(pick=_Pick, failure=st.sampled_from(list(Failure)))
    def a_node_fails(self, pick: int, failure: Failure) -> None:
        node = self._node(pick, dead_too=True)
        if node and node.claims:
            node.fail(min(node.claims), failure)

    @rule(pick=_Pick, gives_back=st.booleans())
    def a_node_is_interrupted(self, pick: int, gives_back: bool) -> None:
        node = self._node(pick)
        if node and node.claims:
            node.interrupt(min(node.claims), gives_back=gives_back)

    @rule(pick=_Pick)
    def a_node_beats(self, pick: int) -> None:
        node = self._node(pick)
        if node:
            node.beat(frame=min(node.claims, default=None))

    @rule(pick=_Pick)
    def a_node_leaves(self, pick: int) -> None:
        node = self._node(pick)
        if node and not node.claims:
            node.leave()

    @rule(pick=_Pick)
    def a_node_says_goodbye_and_its_instance_stays(self, pick: int) -> None:
        node = self._node(pick)
        if node and not node.claims:
            node.say_goodbye()

    @rule(pick=_Pick, in_s=st.sampled_from([0.0, 120.0]))
    def a_node_hears_that_it_is_taken_back(self, pick: int, in_s: float) -> None:
        node = self._node(pick)
        if node:
            node.hear_notice(in_s=in_s)

    @rule(pick=_Pick)
    def the_cloud_takes_an_instance_back(self, pick: int) -> None:
        node = self._node(pick)
        if node:
            self.bench.cloud.compute.take_back(node.instance.id)

    @rule(pick=_Pick)
    def a_node_dies(self, pick: int) -> None:
        node = self._node(pick)
        if node:
            self.bench.cloud.compute.end_instance(node.instance.id)

    @rule(pick=_Pick)
    def a_journal_entry_is_written_twice(self, pick: int) -> None:
        node = self._node(pick, dead_too=True)
        if node and node.written:
            stored = self.bench.cloud.objects.get(node.written[-1])
            assert stored is not None
            self.bench.cloud.objects.place(node.written[-1].replace(".json", "x.json"), stored.body, etag=stored.etag)

    @rule(pick=st.integers(1, 6))
    def an_output_is_lost(self, pick: int) -> None:
        keys = self.bench.cloud.objects.keys(frames_prefix(self.job))
        if keys and self.bench.status(self.job) not in ENDED:
            self.bench.cloud.objects.delete([keys[pick % len(keys)]])

    # The cloud

    @rule(times=st.integers(1, 4))
    def the_store_does_not_answer(self, times: int) -> None:
        self.bench.cloud.objects.fail_next(Unreachable("no answer"), times=times)
        self._forget_trouble_of_nodes()

    def _forget_trouble_of_nodes(self) -> None:
        """Nodes of this test do not try again: only the supervisor meets the trouble, in a tick of its own."""
        self.bench.tick()
        self.bench.cloud.objects.heal()

    @rule(call=st.sampled_from(["launch", "instances", "terminate", "stop", "start"]))
    def the_cloud_is_slow(self, call: str) -> None:
        self.bench.cloud.compute.fail_next(Throttled("slow down"), call=call)

    @rule(call=st.sampled_from(["launch", "start"]))
    def there_is_no_capacity(self, call: str) -> None:
        self.bench.cloud.compute.fail_next(NoCapacity("none"), call=call)

    @rule(is_out=st.booleans())
    def spot_comes_and_goes(self, is_out: bool) -> None:
        self.bench.cloud.compute.spot_is_out = is_out

    @rule()
    def new_instances_are_listed_late(self) -> None:
        self.bench.cloud.compute.hide_new_instances()

    @rule()
    def all_instances_are_listed(self) -> None:
        self.bench.cloud.compute.show_all_instances()

    @rule()
    def pending_instances_run(self) -> None:
        self.bench.cloud.compute.come_up()

    @rule(slow=st.booleans())
    def instances_end_slowly(self, slow: bool) -> None:
        self.bench.cloud.compute.goes_down = not slow

    @rule()
    def ending_instances_are_gone(self) -> None:
        self.bench.cloud.compute.go_down()

    # A person

    @precondition(lambda self: queries.job_detail(self.bench.farm, self.job).can_pause)
    @rule()
    def pause(self) -> None:
        commands.pause_job(self.bench.farm, self.job)

    @precondition(lambda self: queries.job_detail(self.bench.farm, self.job).can_resume)
    @rule()
    def resume(self) -> None:
        commands.resume_job(self.bench.farm, self.job)

    @precondition(lambda self: queries.job_detail(self.bench.farm, self.job).can_cancel)
    @rule(really=st.integers(0, 4))
    def cancel(self, really: int) -> None:
        if not really:
            commands.cancel_job(self.bench.farm, self.job)

    @precondition(lambda self: queries.job_detail(self.bench.farm, self.job).can_retry)
    @rule()
    def retry(self) -> None:
        commands.retry_job(self.bench.farm, self.job)

    # What always holds

    @invariant()
    def an_ended_job_rents_nothing(self) -> None:
        if self.job and self.bench.status(self.job) in ENDED:
            assert [one for one in self.bench.cloud.compute.alive() if one.job] == []

    @invariant()
    def no_more_is_rented_than_there_are_frames_or_slots(self) -> None:
        if not self.job:
            return
        alive = self.bench.cloud.compute.alive()
        doomed = {name for name, node in self.ever.items() if node.interruption_at_ms}
        up = [one for one in alive if one.status in {InstanceStatus.PENDING, InstanceStatus.RUNNING} and one.node not in doomed]
        assert len(alive) <= _SLOTS
        assert len(up) <= self.frames

    @invariant()
    def a_completed_job_has_every_frame(self) -> None:
        if self.job and self.bench.status(self.job) is JobStatus.COMPLETED:
            frames = queries.job_frames(self.bench.farm, self.job)
            assert [frame.status for frame in frames] == [FrameStatus.RECEIVED] * self.frames
            assert len(self.bench.cloud.objects.keys(frames_prefix(self.job))) == self.frames

    # The end

    def _let_all_be_well(self) -> None:
        """No more trouble: the job comes to an end; what failed on the way is retried until it is complete."""
        cloud = self.bench.cloud
        cloud.objects.heal()
        cloud.compute.heal()
        cloud.compute.show_all_instances()
        cloud.compute.comes_up = cloud.compute.goes_down = True
        cloud.compute.spot_is_out = False
        for node in self.nodes.alive():
            if node.interruption_at_ms:
                cloud.compute.take_back(node.instance.id)
        cloud.compute.go_down()
        cloud.compute.come_up()
        for _ in range(12):
            if self.bench.status(self.job) is JobStatus.PAUSED:
                commands.resume_job(self.bench.farm, self.job)
            if self.bench.status(self.job) in {JobStatus.FAILED, JobStatus.CANCELLED}:
                commands.retry_job(self.bench.farm, self.job)
            if self._work_until_rest() is JobStatus.COMPLETED:
                break
        assert self.bench.status(self.job) is JobStatus.COMPLETED, queries.job_events(self.bench.farm, self.job)
        self.an_ended_job_rents_nothing()
        self.a_completed_job_has_every_frame()
        with self.bench.farm.db.read() as connection:
            assert [one for one in instances.rented_instances(connection) if one.job] == []

    def _work_until_rest(self) -> JobStatus:
        for _ in range(200):
            self.bench.tick()
            for node in self.nodes.alive():
                node.clock_off_s = 0.0
                node.beat(NodeState.IDLE)
            self.nodes.work()
            status = self.bench.status(self.job)
            if status in ENDED or status is JobStatus.PAUSED:
                return status
        return self.bench.status(self.job)


class SharedPoolUnderFaults(LifecycleUnderFaults):
    """The same on a shared pool of instances: nodes come to the job and leave it as they like."""

    config = _SHARED

    def _node(self, pick: int, *, dead_too: bool = False) -> FakeNode | None:
        node = super()._node(pick, dead_too=dead_too)
        if node:
            node.at_job = self.job
        return node

    @rule(pick=_Pick)
    def a_node_goes_to_another_job(self, pick: int) -> None:
        node = self._node(pick)
        if node and not node.claims:
            node.leave_job()

    @rule(capacity=st.sampled_from([0, 1, 2, None]))
    def the_pool_gets_so_many(self, capacity: int | None) -> None:
        self.bench.cloud.pool.capacity = capacity

    @rule(call=st.sampled_from(["resize", "release", "let_go", "problem"]))
    def the_pool_is_slow(self, call: str) -> None:
        self.bench.cloud.pool.fail_next(Throttled("slow down"), call=call)

    @rule()
    def the_farm_was_silent_for_too_long(self) -> None:
        self.bench.cloud.pool.fall_silent()

    def _let_all_be_well(self) -> None:
        self.bench.cloud.pool.heal()
        self.bench.cloud.pool.capacity = None
        super()._let_all_be_well()


_SETTINGS = settings(
    max_examples=25,
    stateful_step_count=40,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
TestLifecycleUnderFaults = LifecycleUnderFaults.TestCase
TestLifecycleUnderFaults.settings = _SETTINGS
TestSharedPoolUnderFaults = SharedPoolUnderFaults.TestCase
TestSharedPoolUnderFaults.settings = _SETTINGS
