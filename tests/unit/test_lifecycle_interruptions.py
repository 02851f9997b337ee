"""What becomes of instances that the cloud takes back: others come in time, nothing is counted against anybody, and who ends them."""

from __future__ import annotations

from pathlib import Path

import pytest

from nodeimage.protocol import NodeState, claims_prefix
from supervisor import queries
from supervisor.commands import jobs as commands
from supervisor.domain.frame import FrameStatus
from supervisor.domain.instance import InstanceStatus, Market, is_left_to_cloud
from supervisor.domain.job import ENDED, JobStatus
from supervisor.domain.settings import JobSettings
from supervisor.lifecycle.pool import MOST_LOST_LAUNCHES
from tests.fakes.farm import BEGIN, FakeFarm, a_farm_that_stops
from tests.fakes.node import FakeNode, FakeNodes

_S = InstanceStatus


@pytest.fixture
def bench(tmp_path: Path) -> FakeFarm:
    return a_farm_that_stops(tmp_path)


def _rendering(bench: FakeFarm, nodes: FakeNodes, *, frames: str = "1-10", count: int = 2) -> str:
    """A job on spot instances, each with a frame in hand."""
    job = bench.a_rendering_job(frames=frames, instances=count, settings=JobSettings(market=Market.SPOT))
    for node in nodes.alive():
        node.begin()
    bench.tick()
    assert bench.status(job) is JobStatus.RENDERING
    return job


def _ticks(bench: FakeFarm, number: int, *, after_s: float = 1.0) -> None:
    for _ in range(number):
        bench.tick(after_s=after_s)


def _status_of(bench: FakeFarm, node: FakeNode) -> InstanceStatus:
    return next(one.status for one in bench.cloud.compute.instances() if one.id == node.instance.id)


def _events(bench: FakeFarm, job: str) -> list[str]:
    return [event.text for event in queries.job_events(bench.farm, job)]


def test_another_instance_is_asked_for_with_the_notice(bench: FakeFarm, nodes: FakeNodes) -> None:
    job = _rendering(bench, nodes)
    doomed, other = nodes.alive()

    doomed.hear_notice()
    bench.tick()

    assert len(bench.cloud.compute.alive()) == 3
    assert bench.status(job) is JobStatus.RENDERING
    order = other.order()
    assert order is not None
    assert doomed.name not in {task.node for task in order.tasks}
    assert f"the cloud is about to take instance {doomed.instance.id} back; it takes no more frames" in _events(bench, job)


def test_another_instance_is_asked_for_though_the_only_frame_is_in_hand(bench: FakeFarm, nodes: FakeNodes) -> None:
    job = _rendering(bench, nodes, frames="1", count=1)
    doomed = nodes.only()

    doomed.hear_notice()
    _ticks(bench, 2)
    assert len(bench.cloud.compute.alive()) == 2
    bench.cloud.compute.take_back(doomed.instance.id)
    _ticks(bench, 2)
    nodes.work()
    bench.tick()
    nodes.work()
    _ticks(bench, 2)

    assert bench.status(job) is JobStatus.COMPLETED


def test_a_frame_that_is_finished_in_the_two_minutes_is_received(bench: FakeFarm, nodes: FakeNodes) -> None:
    job = _rendering(bench, nodes, frames="1", count=1)
    doomed = nodes.only()
    doomed.hear_notice()
    _ticks(bench, 3)

    doomed.deliver(1)
    _ticks(bench, 3)
    bench.cloud.compute.take_back(doomed.instance.id)
    _ticks(bench, 3)

    assert bench.status(job) is JobStatus.COMPLETED
    assert queries.job_frame(bench.farm, job, 1).node == doomed.name


def test_what_an_interrupted_instance_had_claimed_is_free_the_moment_it_ends(bench: FakeFarm, nodes: FakeNodes) -> None:
    job = _rendering(bench, nodes)
    lost = nodes.alive()[0]
    (frame,) = lost.claims

    bench.cloud.compute.take_back(lost.instance.id)
    bench.tick()

    assert len(bench.cloud.objects.keys(claims_prefix(job))) == 1
    view = queries.job_frame(bench.farm, job, frame)
    assert (view.status, view.attempt) == (FrameStatus.QUEUED, 2)
    assert f"instance {lost.instance.id} was taken back by the cloud" in _events(bench, job)


@pytest.mark.parametrize("has_notice", [True, False], ids=["with a notice", "without one"])
def test_no_interruption_counts_against_the_launch_or_the_frame(bench: FakeFarm, nodes: FakeNodes, has_notice: bool) -> None:
    job = _rendering(bench, nodes, frames="1-2", count=1)
    for _ in range(MOST_LOST_LAUNCHES + 3):
        node = nodes.only()
        if not node.claims:
            node.begin()
            bench.tick()
        if has_notice:
            node.hear_notice()
            node.interrupt(min(node.claims))
        bench.cloud.compute.take_back(node.instance.id)
        _ticks(bench, 3)

    assert bench.launch_failures(job) == 0
    assert bench.status(job) is JobStatus.RENDERING
    assert queries.job_detail(bench.farm, job).problems == ()
    with bench.farm.db.read() as connection:
        failed = connection.exec_driver_sql("SELECT max(failures) FROM frames").scalar()
    assert failed == 0


def test_a_notice_that_comes_in_the_same_moment_as_the_end_counts(bench: FakeFarm, nodes: FakeNodes) -> None:
    job = _rendering(bench, nodes, count=1)
    node = nodes.only()

    node.hear_notice()
    bench.cloud.compute.end_instance(node.instance.id, note="the machine went away")
    bench.tick()

    assert bench.launch_failures(job) == 0
    assert f"instance {node.instance.id} was taken back by the cloud" in _events(bench, job)


def test_an_interruption_spares_no_other_launch_that_comes_to_nothing(bench: FakeFarm, nodes: FakeNodes) -> None:
    job = _rendering(bench, nodes, count=1)

    bench.cloud.compute.end_instance(nodes.only().instance.id, note="its disk broke")
    bench.tick()

    assert bench.launch_failures(job) == 1


# Who ends it


def test_a_silent_node_with_a_notice_is_left_to_the_cloud_until_five_minutes_after_its_time(bench: FakeFarm, nodes: FakeNodes) -> None:
    job = _rendering(bench, nodes, count=1)
    doomed = nodes.only()
    doomed.hear_notice(in_s=120)

    _ticks(bench, 41, after_s=10)
    assert _status_of(bench, doomed) is _S.RUNNING, "120 s and five minutes are not over"
    _ticks(bench, 2, after_s=10)

    assert _status_of(bench, doomed) is _S.TERMINATED
    assert any("the cloud was to take it back, and did not" in text for text in _events(bench, job))


@pytest.mark.parametrize("wish", [commands.cancel_job, commands.pause_job], ids=["cancel", "pause"])
def test_a_job_that_is_ended_or_paused_leaves_it_to_the_cloud_and_waits_for_its_end(
    bench: FakeFarm, nodes: FakeNodes, wish: object
) -> None:
    job = _rendering(bench, nodes, count=1)
    doomed = nodes.only()
    doomed.hear_notice()
    bench.tick()
    replacement = next(node for node in nodes.alive() if node is not doomed)

    assert callable(wish)
    wish(bench.farm, job)
    _ticks(bench, 3)
    assert bench.status(job) is JobStatus.RELEASING
    assert _status_of(bench, doomed) is _S.RUNNING
    assert _status_of(bench, replacement) is _S.TERMINATED
    assert wish is commands.pause_job or "being taken back by the cloud" in queries.job_summary(bench.farm, job).reason
    bench.cloud.compute.take_back(doomed.instance.id)
    _ticks(bench, 2)

    assert bench.status(job) in {JobStatus.CANCELLED, JobStatus.PAUSED}
    assert bench.cloud.compute.alive() == []


def test_a_cancelled_job_ends_an_instance_that_the_cloud_forgot_to_take_back(bench: FakeFarm, nodes: FakeNodes) -> None:
    job = _rendering(bench, nodes, count=1)
    nodes.only().hear_notice(in_s=120)
    bench.tick()
    commands.cancel_job(bench.farm, job)

    for _ in range(50):
        bench.tick(after_s=10)

    assert bench.status(job) is JobStatus.CANCELLED
    assert bench.cloud.compute.alive() == []


def test_a_node_that_says_goodbye_after_a_notice_is_left_to_the_cloud(bench: FakeFarm, nodes: FakeNodes) -> None:
    _rendering(bench, nodes, count=1)
    doomed = nodes.only()
    doomed.hear_notice()
    doomed.interrupt(min(doomed.claims))
    doomed.say_goodbye()

    _ticks(bench, 10, after_s=10)

    assert _status_of(bench, doomed) is _S.RUNNING


@pytest.mark.parametrize("said_ms", [10**18, 4_102_444_800_000], ids=["no date at all", "the year 2100"])
def test_a_notice_for_a_far_time_does_not_keep_an_instance_for_ever(bench: FakeFarm, nodes: FakeNodes, said_ms: int) -> None:
    _rendering(bench, nodes, count=1)
    doomed = nodes.only()
    doomed.interruption_at_ms = said_ms
    doomed.beat(NodeState.IDLE)

    _ticks(bench, 125, after_s=10)

    assert _status_of(bench, doomed) is _S.TERMINATED


@pytest.mark.parametrize(
    ("interruption_s", "is_left"), [(None, False), (120.0, True), (0.0, True), (-299.0, True), (-300.0, False), (-3600.0, False)]
)
def test_an_instance_is_left_to_the_cloud_from_the_notice_until_five_minutes_after_its_time(
    interruption_s: float | None, is_left: bool
) -> None:
    at = None if interruption_s is None else BEGIN.fromtimestamp(BEGIN.timestamp() + interruption_s, BEGIN.tzinfo)
    assert is_left_to_cloud(at, now=BEGIN) is is_left


# What people see


def test_the_page_says_that_the_cloud_takes_it_back_and_later_that_it_did(bench: FakeFarm, nodes: FakeNodes) -> None:
    job = _rendering(bench, nodes, count=1)
    doomed = nodes.only()
    doomed.hear_notice(in_s=120)
    bench.tick()
    announced = next(one for one in queries.job_instances(bench.farm, job) if one.id == doomed.instance.id)
    assert announced.taken_back_at is not None
    assert announced.ended_at is None
    assert (announced.taken_back_at - bench.clock()).total_seconds() == pytest.approx(119)

    bench.cloud.compute.take_back(doomed.instance.id)
    bench.tick()
    ended = next(one for one in queries.job_instances(bench.farm, job) if one.id == doomed.instance.id)

    assert (ended.taken_back_at, ended.ended_at) == (announced.taken_back_at, bench.clock())
    assert ended.doing == "taken back by the cloud"


def test_a_node_that_has_given_its_frame_back_does_not_seem_to_wait_for_another(bench: FakeFarm, nodes: FakeNodes) -> None:
    job = _rendering(bench, nodes, count=1)
    doomed = nodes.only()
    doomed.hear_notice(in_s=120)
    doomed.beat(NodeState.IDLE)
    bench.tick()

    shown = next(one for one in queries.job_instances(bench.farm, job) if one.id == doomed.instance.id)

    assert shown.doing == "waiting to be taken back by the cloud"


def test_an_instance_taken_back_without_a_notice_was_taken_back_when_it_ended(bench: FakeFarm, nodes: FakeNodes) -> None:
    job = _rendering(bench, nodes, count=1)

    bench.cloud.compute.take_back(nodes.only().instance.id)
    bench.tick()

    (ended,) = (one for one in queries.job_instances(bench.farm, job) if one.ended_at)
    assert ended.taken_back_at == ended.ended_at


def test_interruptions_all_the_way_do_not_keep_a_job_from_its_end(bench: FakeFarm, nodes: FakeNodes) -> None:
    job = _rendering(bench, nodes, frames="1-6", count=2)
    for turn in range(40):
        nodes.work()
        bench.tick()
        alive = nodes.alive()
        if turn % 3 == 0 and alive:
            alive[0].hear_notice()
            for frame in list(alive[0].claims):
                assert alive[0].interrupt(frame)
            bench.tick()
            bench.cloud.compute.take_back(alive[0].instance.id)
        if bench.status(job) in ENDED:
            break

    assert bench.status(job) is JobStatus.COMPLETED
    assert bench.cloud.compute.alive() == []
