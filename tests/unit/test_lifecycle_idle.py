"""Instances without work: those that nothing is left for are ended, those of a paused job stopped and started again."""

from __future__ import annotations

from pathlib import Path

import pytest

from nodeimage.protocol import NodeState, claims_prefix
from supervisor import queries
from supervisor.cloud.ports import CloudError, NoCapacity, Refused, Throttled
from supervisor.commands import jobs as commands
from supervisor.domain.instance import InstanceStatus, Market
from supervisor.domain.job import JobStatus
from supervisor.domain.settings import JobSettings
from supervisor.lifecycle.sweep import sweep
from supervisor.store import instances
from tests.fakes.farm import FakeFarm, a_farm_that_stops
from tests.fakes.node import FakeNode, FakeNodes

_S = InstanceStatus


@pytest.fixture
def bench(tmp_path: Path) -> FakeFarm:
    return a_farm_that_stops(tmp_path)


def _ticks(bench: FakeFarm, number: int) -> None:
    for _ in range(number):
        bench.tick()


def _launches(bench: FakeFarm, job: str) -> int:
    with bench.farm.db.read() as connection:
        return len(instances.launches_of(connection, job))


# Nothing left to claim


def _last_frame_on_one(bench: FakeFarm, nodes: FakeNodes) -> tuple[str, FakeNode, FakeNode]:
    """A job whose last frame renders on one of two nodes while the other has nothing to do."""
    job = bench.a_rendering_job(frames="1-2", instances=2)
    busy, idle = nodes.alive()
    busy.begin()
    frame = idle.begin()
    assert frame is not None
    idle.deliver(frame)
    idle.beat(NodeState.IDLE)
    bench.tick()
    return job, busy, idle


def test_an_instance_with_nothing_left_to_claim_is_ended_at_once(bench: FakeFarm, nodes: FakeNodes) -> None:
    job, busy, idle = _last_frame_on_one(bench, nodes)

    _ticks(bench, 6)

    assert [one.node for one in bench.cloud.compute.alive()] == [busy.name]
    assert bench.status(job) is JobStatus.RENDERING
    ended = next(one for one in queries.job_instances(bench.farm, job) if one.node == idle.name)
    assert ended.doing == "ended: given back: no frame was left for it"


def test_an_instance_that_still_boots_is_ended_when_the_others_have_taken_every_frame(bench: FakeFarm, nodes: FakeNodes) -> None:
    job = bench.a_rendering_job(frames="1-2", instances=2)
    quick = nodes.alive()[0]
    for _ in range(2):  # one renders, one is being delivered
        quick.begin()
        bench.tick()

    _ticks(bench, 6)

    assert [one.node for one in bench.cloud.compute.alive()] == [quick.name]
    assert queries.job_detail(bench.farm, job).problems == ()
    assert (_launches(bench, job), bench.launch_failures(job)) == (1, 0)


def test_an_instance_is_left_alone_while_a_frame_waits(bench: FakeFarm, nodes: FakeNodes) -> None:
    bench.a_rendering_job(frames="1-3", instances=3)
    first, second, _ = nodes.alive()
    first.begin()
    second.begin()

    _ticks(bench, 20)

    assert len(bench.cloud.compute.alive()) == 3


@pytest.mark.parametrize("state", [NodeState.DELIVERING, NodeState.RENDERING])
def test_a_node_that_delivers_or_renders_is_not_ended(bench: FakeFarm, nodes: FakeNodes, state: NodeState) -> None:
    _job, _busy, other = _last_frame_on_one(bench, nodes)
    other.beat(state)

    _ticks(bench, 20)

    assert len(bench.cloud.compute.alive()) == 2


def test_a_frame_that_fails_when_the_others_are_ended_is_tried_again_where_it_failed(bench: FakeFarm, nodes: FakeNodes) -> None:
    job, busy, _idle = _last_frame_on_one(bench, nodes)
    _ticks(bench, 6)
    (frame,) = busy.claims

    busy.fail(frame)
    bench.tick()
    assert busy.begin() == frame
    busy.deliver(frame)
    _ticks(bench, 2)

    assert bench.status(job) is JobStatus.COMPLETED
    assert _launches(bench, job) == 1


def test_a_frame_lost_with_the_last_instance_gets_another_one(bench: FakeFarm, nodes: FakeNodes) -> None:
    job, busy, _idle = _last_frame_on_one(bench, nodes)
    _ticks(bench, 6)

    bench.cloud.compute.end_instance(busy.instance.id)

    assert nodes.finish(job) is JobStatus.COMPLETED
    assert _launches(bench, job) == 2


def test_instances_do_not_come_and_go_while_the_last_frame_renders(bench: FakeFarm, nodes: FakeNodes) -> None:
    job, busy, _idle = _last_frame_on_one(bench, nodes)

    for _ in range(60):
        busy.beat(frame=min(busy.claims))
        bench.tick(after_s=10)

    assert _launches(bench, job) == 1
    assert [one.node for one in bench.cloud.compute.alive()] == [busy.name]


# Pause: on-demand instances are stopped, and started again


def _paused(bench: FakeFarm, nodes: FakeNodes, *, frames: str = "1-10", market: Market = Market.ON_DEMAND) -> str:
    """A job on two instances, paused in its first frames."""
    job = bench.a_rendering_job(frames=frames, instances=2, settings=JobSettings(market=market))
    nodes.work()
    commands.pause_job(bench.farm, job)
    bench.tick()
    _drain(nodes)
    _ticks(bench, 2)
    assert bench.status(job) is JobStatus.PAUSED
    return job


def _drain(nodes: FakeNodes) -> None:
    """Let nodes deliver what they hold and say goodbye; their instances stay up for the farm to stop them."""
    for node in nodes.alive():
        for frame in list(node.claims):
            node.deliver(frame)
        node.say_goodbye()


@pytest.mark.parametrize(("market", "kept"), [(Market.ON_DEMAND, 2), (Market.SPOT, 0)])
def test_a_paused_job_keeps_stopped_instances_if_they_are_on_demand(bench: FakeFarm, nodes: FakeNodes, market: Market, kept: int) -> None:
    job = _paused(bench, nodes, market=market)

    assert [one.status for one in bench.cloud.compute.alive()] == [_S.STOPPED] * kept
    assert queries.job_summary(bench.farm, job).frames.received == 2
    assert sweep(bench.farm) == []


@pytest.mark.parametrize(("market", "launches"), [(Market.ON_DEMAND, 1), (Market.SPOT, 2)])
def test_a_resumed_job_starts_its_stopped_instances_or_launches_others(
    bench: FakeFarm, nodes: FakeNodes, market: Market, launches: int
) -> None:
    job = _paused(bench, nodes, market=market)
    bench.clock.pass_s(5 * 3600)

    commands.resume_job(bench.farm, job)

    assert nodes.finish(job) is JobStatus.COMPLETED
    assert _launches(bench, job) == launches
    assert bench.cloud.compute.alive() == []


def test_a_started_instance_has_as_long_to_its_first_heartbeat_as_a_new_one(bench: FakeFarm, nodes: FakeNodes) -> None:
    job = _paused(bench, nodes)
    bench.clock.pass_s(5 * 3600)
    commands.resume_job(bench.farm, job)
    for _ in range(29):  # what its node said before the pause counts no more: neither its goodbye nor its time
        bench.tick(after_s=10)

    assert [one.status for one in bench.cloud.compute.alive()] == [_S.RUNNING] * 2
    assert bench.status(job) is JobStatus.RENDERING
    assert {one.doing for one in queries.job_instances(bench.farm, job)} == {"starting"}
    for _ in range(5):
        bench.tick(after_s=10)
    assert {one.id for one in bench.cloud.compute.alive()}.isdisjoint({"i-0001", "i-0002"}), "silent for longer than that"


def test_instances_that_are_slow_to_stop_and_to_start_are_waited_for(bench: FakeFarm, nodes: FakeNodes) -> None:
    bench.cloud.compute.goes_down = False
    job = bench.a_rendering_job(frames="1-10", instances=2)
    commands.pause_job(bench.farm, job)
    _ticks(bench, 5)
    assert bench.status(job) is JobStatus.RELEASING
    bench.cloud.compute.go_down()
    _ticks(bench, 2)
    assert bench.status(job) is JobStatus.PAUSED
    bench.cloud.compute.comes_up = False
    bench.cloud.compute.goes_down = True

    commands.resume_job(bench.farm, job)
    _ticks(bench, 5)
    assert [one.status for one in bench.cloud.compute.alive()] == [_S.PENDING] * 2
    assert bench.status(job) is JobStatus.LAUNCHING
    bench.cloud.compute.come_up()

    assert nodes.finish(job) is JobStatus.COMPLETED
    assert _launches(bench, job) == 1


def test_only_as_many_stopped_instances_are_started_as_there_is_work_for(bench: FakeFarm, nodes: FakeNodes) -> None:
    job = _paused(bench, nodes, frames="1-3")

    commands.resume_job(bench.farm, job)
    _ticks(bench, 2)

    assert sorted(one.status for one in bench.cloud.compute.alive()) == [_S.RUNNING, _S.STOPPED]
    assert nodes.finish(job) is JobStatus.COMPLETED
    assert bench.cloud.compute.alive() == []


def test_a_stopped_instance_counts_for_no_estimate_and_hides_no_problem(bench: FakeFarm, nodes: FakeNodes) -> None:
    job = _paused(bench, nodes, frames="1-3")
    commands.resume_job(bench.farm, job)
    _ticks(bench, 2)
    (node,) = nodes.alive()
    node.beat(NodeState.DELIVERING, problem="The node's disk is full.")
    bench.tick()

    assert [one.status for one in bench.cloud.compute.alive()].count(_S.STOPPED) == 1
    assert [problem.code for problem in queries.job_detail(bench.farm, job).problems] == ["nodes_hindered"]
    assert queries.job_summary(bench.farm, job).eta_s == pytest.approx(2.0)


def test_a_paused_job_that_is_cancelled_ends_its_stopped_instances(bench: FakeFarm, nodes: FakeNodes) -> None:
    job = _paused(bench, nodes)

    commands.cancel_job(bench.farm, job)
    _ticks(bench, 3)

    assert bench.status(job) is JobStatus.CANCELLED
    assert bench.cloud.compute.alive() == []


def test_a_stopped_instance_that_is_gone_is_replaced(bench: FakeFarm, nodes: FakeNodes) -> None:
    job = _paused(bench, nodes)
    bench.cloud.compute.end_instance(bench.cloud.compute.alive()[0].id)
    _ticks(bench, 2)

    commands.resume_job(bench.farm, job)
    _ticks(bench, 3)

    assert [one.status for one in bench.cloud.compute.alive()] == [_S.RUNNING] * 2
    assert bench.launch_failures(job) == 0


@pytest.mark.parametrize(
    ("error", "launches"),
    [(NoCapacity("its zone is full"), 2), (Refused("its volume is gone"), 2), (Throttled("slow down"), 1)],
    ids=["no capacity", "refused", "throttled"],
)
def test_instances_that_can_not_be_started_are_replaced_and_those_that_can_later_are_not(
    bench: FakeFarm, nodes: FakeNodes, error: CloudError, launches: int
) -> None:
    job = _paused(bench, nodes)
    bench.cloud.compute.fail_next(error, call="start")

    commands.resume_job(bench.farm, job)
    _ticks(bench, 4)

    assert [one.status for one in bench.cloud.compute.alive()] == [_S.RUNNING] * 2
    assert _launches(bench, job) == launches
    assert nodes.finish(job) is JobStatus.COMPLETED


def test_what_a_node_claimed_when_it_was_stopped_is_free_for_others(bench: FakeFarm, nodes: FakeNodes) -> None:
    job = bench.a_rendering_job(frames="1-2", instances=2)
    silent, other = nodes.alive()
    frame = silent.claim()
    assert frame is not None
    commands.pause_job(bench.farm, job)
    bench.tick()
    other.say_goodbye()
    _ticks(bench, 2)
    assert bench.status(job) is JobStatus.PAUSED
    bench.cloud.compute.end_instance(other.instance.id)
    bench.tick()

    commands.resume_job(bench.farm, job)
    _ticks(bench, 3)

    assert not bench.cloud.objects.keys(claims_prefix(job))
    assert queries.job_frame(bench.farm, job, frame).attempt == 2
