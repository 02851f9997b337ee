"""A job's way through the lifecycle, tick by tick, on a fake cloud with scripted nodes."""

from __future__ import annotations

from pathlib import Path

from nodeimage.protocol import NodeState, claims_prefix, order_key
from supervisor import queries
from supervisor.commands import jobs as commands
from supervisor.domain.frame import FrameStatus
from supervisor.domain.job import JobStatus
from tests.fakes.farm import FakeFarm
from tests.fakes.node import FakeNodes


def test_a_job_is_launched_in_the_tick_that_follows_its_submission(bench: FakeFarm) -> None:
    job = bench.a_submitted_job(frames="1-10", instances=2)

    bench.tick()

    assert bench.status(job) is JobStatus.LAUNCHING
    assert [launch.count for launch in bench.cloud.compute.launches] == [2]
    assert bench.cloud.objects.keys(order_key(job))


def test_a_job_with_a_running_instance_is_rendering_and_its_tasks_are_handed_out(bench: FakeFarm, nodes: FakeNodes) -> None:
    job = bench.a_submitted_job(frames="1-10", instances=2)

    bench.tick()
    bench.tick()

    assert bench.status(job) is JobStatus.RENDERING
    order = nodes.alive()[0].order()
    assert order is not None
    assert sorted(task.node or "" for task in order.tasks) == sorted(node.name for node in nodes.alive())
    assert [task.frames for task in order.tasks] == [((1, 5, 1),), ((6, 10, 1),)]


def test_a_job_whose_frames_are_delivered_is_completed_and_rents_nothing(bench: FakeFarm, nodes: FakeNodes) -> None:
    job = bench.a_submitted_job(frames="1-7", instances=3)

    assert nodes.finish(job) is JobStatus.COMPLETED

    assert bench.cloud.compute.alive() == []
    assert [frame.status for frame in queries.job_frames(bench.farm, job)] == [FrameStatus.RECEIVED] * 7
    assert [event.to_status for event in reversed(queries.job_events(bench.farm, job)) if event.to_status] == [
        JobStatus.DRAFT,
        JobStatus.SUBMITTED,
        JobStatus.STAGING,
        JobStatus.SNAPSHOTTING,
        JobStatus.LAUNCHING,
        JobStatus.RENDERING,
        JobStatus.RELEASING,
        JobStatus.COMPLETED,
    ]


def test_the_last_frame_is_followed_by_completion_without_a_pause(bench: FakeFarm, nodes: FakeNodes) -> None:
    job = bench.a_rendering_job(frames="1", instances=1)
    node = nodes.only()
    node.begin()
    node.deliver(1)

    waits = [bench.tick(), bench.tick(after_s=0.1)]

    assert waits[0] <= 0.1
    assert bench.status(job) is JobStatus.COMPLETED


def test_never_more_instances_are_launched_than_frames_are_left(bench: FakeFarm) -> None:
    bench.a_submitted_job(frames="1-3", instances=20)

    bench.tick()

    assert len(bench.cloud.compute.alive()) == 3


def test_a_rendering_frame_is_shown_with_its_node(bench: FakeFarm, nodes: FakeNodes) -> None:
    job = bench.a_rendering_job(frames="1-2")
    frame = nodes.only().begin()
    assert frame is not None

    bench.tick()

    view = queries.job_frame(bench.farm, job, frame)
    assert (view.status, view.node) == (FrameStatus.RENDERING, nodes.only().name)
    assert queries.job_instances(bench.farm, job)[0].doing == f"rendering frame {frame}"
    assert "Fra:1" in queries.frame_log(bench.farm, job, frame)


def test_a_second_job_waits_for_a_slot_and_says_who_has_it(tmp_path: Path) -> None:
    bench = FakeFarm.open(tmp_path, slots=2)
    nodes = FakeNodes(bench)
    first = bench.a_submitted_job(frames="1-4", instances=2)
    commands.rename_job(bench.farm, first, name="Dragon")
    bench.clock.pass_s(1)
    second = bench.a_submitted_job(frames="1-2", instances=2)

    bench.tick()
    bench.tick()

    summary = queries.job_summary(bench.farm, second)
    assert summary.status is JobStatus.LAUNCHING
    assert summary.reason == "waiting for a free slot: both render “Dragon”"
    assert nodes.finish(second) is JobStatus.COMPLETED
    assert bench.status(first) is JobStatus.COMPLETED


def test_claims_are_kept_so_that_a_late_node_renders_nothing_twice(bench: FakeFarm, nodes: FakeNodes) -> None:
    job = bench.a_submitted_job(frames="1-3")

    assert nodes.finish(job) is JobStatus.COMPLETED

    assert len(bench.cloud.objects.keys(claims_prefix(job))) == 3


def test_an_idle_node_leaves_and_is_not_replaced_without_work(bench: FakeFarm, nodes: FakeNodes) -> None:
    job = bench.a_rendering_job(frames="1-2", instances=2)
    busy, idle = nodes.alive()
    busy.begin()
    idle_frame = idle.begin()
    assert idle_frame is not None
    idle.deliver(idle_frame)
    idle.beat(NodeState.IDLE)
    bench.tick()
    idle.leave()

    for _ in range(3):
        bench.tick()

    assert bench.status(job) is JobStatus.RENDERING
    assert len(bench.cloud.compute.launches) == 1


def test_a_job_whose_nodes_all_wait_says_why_and_takes_it_back_when_one_goes_on(bench: FakeFarm, nodes: FakeNodes) -> None:
    job = bench.a_rendering_job(frames="1-10", instances=2)
    first, second = nodes.alive()
    first.beat(NodeState.DELIVERING, problem="The node's disk is full.")
    second.begin()
    bench.tick()
    assert queries.job_detail(bench.farm, job).problems == (), "one of them renders"

    second.beat(NodeState.DELIVERING, problem="The node's disk is full.")
    bench.tick()
    (problem,) = queries.job_detail(bench.farm, job).problems
    assert (problem.severity, problem.text) == ("error", "No frame is begun at present. The node's disk is full.")
    assert "by itself" in problem.remedy

    second.begin()
    bench.tick()
    assert queries.job_detail(bench.farm, job).problems == ()
