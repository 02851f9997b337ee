"""A job's way through the lifecycle, tick by tick, on a fake cloud with scripted nodes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from nodeimage.protocol import Action, NodeState, claims_prefix, frames_prefix, order_key
from supervisor import queries
from supervisor.cloud.ports import NoCapacity, Refused, Throttled, Unreachable
from supervisor.commands import jobs as commands
from supervisor.config import CloudConfig, Config, MoneyConfig
from supervisor.domain.frame import FrameStatus
from supervisor.domain.job import JobStatus
from supervisor.domain.settings import JobSettings
from supervisor.domain.workspace import WorkspaceMode
from supervisor.farm import Farm
from supervisor.lifecycle.intake import check_pending
from tests.fakes.farm import FakeFarm
from tests.fakes.node import FakeNodes


@pytest.fixture
def bench(tmp_path: Path) -> FakeFarm:
    return FakeFarm.open(tmp_path)


@pytest.fixture
def nodes(bench: FakeFarm) -> FakeNodes:
    return FakeNodes(bench)


def _run(bench: FakeFarm, nodes: FakeNodes, job: str, *, ticks: int = 60) -> JobStatus:
    """Let nodes and supervisor work until the job has ended."""
    for _ in range(ticks):
        bench.tick()
        nodes.work()
        if queries.job_summary(bench.farm, job).ended_at:
            break
    return bench.status(job)


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

    assert _run(bench, nodes, job) is JobStatus.COMPLETED

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
    job = bench.a_submitted_job(frames="1", instances=1)
    bench.tick()
    bench.tick()
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
    job = bench.a_submitted_job(frames="1-2")
    bench.tick()
    bench.tick()
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
    assert _run(bench, nodes, second) is JobStatus.COMPLETED
    assert bench.status(first) is JobStatus.COMPLETED


def test_no_capacity_is_waited_for_with_longer_and_longer_pauses(bench: FakeFarm) -> None:
    job = bench.a_submitted_job()
    bench.cloud.compute.fail_next(NoCapacity("no g5.xlarge in any zone"), times=3, call="launch")

    bench.tick()

    assert "no g5.xlarge in any zone" in queries.job_summary(bench.farm, job).reason
    bench.tick()
    assert bench.cloud.compute.alive() == []
    for _ in range(40):
        bench.tick()
    assert len(bench.cloud.compute.alive()) == 1


def test_a_launch_that_the_cloud_refuses_fails_the_job_with_its_words(bench: FakeFarm) -> None:
    job = bench.a_submitted_job()
    bench.cloud.compute.fail_next(Refused("not authorised to launch g5.xlarge"), call="launch")

    bench.tick()

    summary = queries.job_summary(bench.farm, job)
    assert summary.status is JobStatus.FAILED
    assert "not authorised to launch g5.xlarge" in summary.reason


def test_a_launch_without_an_answer_is_asked_for_again_with_the_same_id(bench: FakeFarm) -> None:
    job = bench.a_submitted_job(frames="1-4", instances=2)
    bench.cloud.compute.fail_next(Unreachable("no answer"), call="launch")

    bench.tick()
    assert "no answer" in queries.job_summary(bench.farm, job).reason
    bench.tick()
    bench.tick()

    assert len(bench.cloud.compute.alive()) == 2
    assert queries.job_detail(bench.farm, job).problems == ()


def test_instances_that_the_cloud_shows_late_are_not_launched_twice(bench: FakeFarm) -> None:
    bench.a_submitted_job(frames="1-4", instances=2)
    bench.cloud.compute.hide_new_instances()

    for _ in range(5):
        bench.tick()

    assert len(bench.cloud.compute.alive()) == 2


def test_a_job_is_not_cancelled_before_its_late_instances_are_seen_and_ended(bench: FakeFarm) -> None:
    job = bench.a_submitted_job(frames="1-4", instances=2)
    bench.cloud.compute.hide_new_instances()
    bench.tick()
    commands.cancel_job(bench.farm, job)
    bench.tick()
    assert bench.status(job) is JobStatus.RELEASING

    bench.cloud.compute.show_all_instances()
    bench.tick()
    bench.tick()

    assert bench.status(job) is JobStatus.CANCELLED
    assert bench.cloud.compute.alive() == []


@pytest.mark.parametrize(("command", "ended"), [(commands.cancel_job, JobStatus.CANCELLED), (commands.pause_job, JobStatus.PAUSED)])
def test_a_job_that_is_stopped_while_its_files_are_prepared_ends_when_nothing_of_that_is_paid_for(
    bench: FakeFarm, command: Callable[[Farm, str], None], ended: JobStatus
) -> None:
    bench.cloud.workspaces.is_slow = bench.cloud.workspaces.is_slow_to_go = True
    job = bench.a_submitted_job(frames="1-4")
    bench.tick()
    command(bench.farm, job)
    bench.tick()
    bench.tick()
    assert bench.status(job) is JobStatus.RELEASING
    assert "what prepared its files is still to be given back" in queries.job_summary(bench.farm, job).reason

    bench.cloud.workspaces.is_slow_to_go = False
    bench.tick()

    assert bench.status(job) is ended


def test_a_launch_that_was_lost_is_a_problem_until_another_comes_to_something(bench: FakeFarm, nodes: FakeNodes) -> None:
    job = bench.a_submitted_job(frames="1-4")
    bench.tick()
    bench.tick()
    bench.cloud.compute.end_instance(bench.cloud.compute.alive()[0].id)
    bench.tick()
    (problem,) = queries.job_detail(bench.farm, job).problems
    assert problem.code == "node_lost"
    assert "the machine went away; none of its launch had finished a frame" in problem.text

    bench.tick(after_s=120)
    assert _run(bench, nodes, job) is JobStatus.COMPLETED
    assert queries.job_detail(bench.farm, job).problems == ()


def test_a_paused_job_finishes_its_frames_and_rents_nothing(bench: FakeFarm, nodes: FakeNodes) -> None:
    job = bench.a_submitted_job(frames="1-10", instances=2)
    bench.tick()
    bench.tick()
    nodes.work()
    commands.pause_job(bench.farm, job)

    bench.tick()
    assert bench.status(job) is JobStatus.RELEASING
    order = nodes.alive()[0].order()
    assert order is not None
    assert order.action is Action.DRAIN
    nodes.work()
    bench.tick()

    assert bench.status(job) is JobStatus.PAUSED
    assert bench.cloud.compute.alive() == []
    assert queries.job_summary(bench.farm, job).frames.received == 2


def test_a_resumed_job_renders_the_rest(bench: FakeFarm, nodes: FakeNodes) -> None:
    job = bench.a_submitted_job(frames="1-6", instances=2)
    bench.tick()
    bench.tick()
    nodes.work()
    commands.pause_job(bench.farm, job)
    bench.tick()
    nodes.work()
    bench.tick()

    commands.resume_job(bench.farm, job)

    assert _run(bench, nodes, job) is JobStatus.COMPLETED
    assert len(bench.cloud.objects.keys(frames_prefix(job))) == 6


def test_a_pause_that_meets_the_last_frame_completes_the_job(bench: FakeFarm, nodes: FakeNodes) -> None:
    job = bench.a_submitted_job(frames="1")
    bench.tick()
    bench.tick()
    nodes.work()
    commands.pause_job(bench.farm, job)

    bench.tick()
    nodes.work()
    bench.tick()
    bench.tick()

    assert bench.status(job) is JobStatus.COMPLETED


def test_who_pauses_can_cancel_without_waiting_for_the_frames(bench: FakeFarm, nodes: FakeNodes) -> None:
    job = bench.a_submitted_job(frames="1-4")
    bench.tick()
    bench.tick()
    nodes.only().begin()
    commands.pause_job(bench.farm, job)
    bench.tick()
    assert queries.job_detail(bench.farm, job).can_cancel

    commands.cancel_job(bench.farm, job)
    bench.tick()
    bench.tick()

    assert bench.status(job) is JobStatus.CANCELLED
    assert bench.cloud.compute.alive() == []


def test_a_cancelled_job_keeps_what_was_received_and_a_retry_renders_the_rest(bench: FakeFarm, nodes: FakeNodes) -> None:
    job = bench.a_submitted_job(frames="1-6", instances=2)
    for _ in range(3):
        bench.tick()
        nodes.work()
    bench.tick()
    commands.cancel_job(bench.farm, job)
    bench.tick()
    bench.tick()
    assert bench.status(job) is JobStatus.CANCELLED
    received = {frame.number for frame in queries.job_frames(bench.farm, job) if frame.status is FrameStatus.RECEIVED}
    assert received
    delivered_before = len([key for key in bench.cloud.objects.writes if key.startswith(frames_prefix(job))])

    commands.retry_job(bench.farm, job)

    assert _run(bench, nodes, job) is JobStatus.COMPLETED
    delivered = len([key for key in bench.cloud.objects.writes if key.startswith(frames_prefix(job))])
    assert delivered - delivered_before == 6 - len(received)


def test_a_job_whose_files_do_not_verify_fails_and_says_which(bench: FakeFarm) -> None:
    job = bench.a_draft()
    file = bench.a_file(job, "wood.png")
    bench.cloud.objects.place(f"projects/{job}/wood.png", b"other", etag="x")
    commands.submit_job(bench.farm, job)

    bench.tick()

    summary = queries.job_summary(bench.farm, job)
    assert summary.status is JobStatus.FAILED
    assert "wood.png" in summary.reason
    assert file
    assert list(bench.cloud.workspaces.jobs()) == []


def test_a_full_disk_holds_a_job_up_until_there_is_room(bench: FakeFarm) -> None:
    job = bench.a_submitted_job()
    bench.cloud.premises.free = 1 << 30

    bench.tick()

    assert bench.status(job) is JobStatus.STAGING
    assert [problem.code for problem in queries.job_detail(bench.farm, job).problems] == ["disk_full"]
    bench.cloud.premises.free = 100 << 30
    bench.tick()
    assert bench.status(job) is JobStatus.LAUNCHING
    assert queries.job_detail(bench.farm, job).problems == ()


def test_nothing_is_staged_before_every_file_has_its_checksum(bench: FakeFarm) -> None:
    job = bench.a_draft()
    bench.a_file(job, "cache/smoke.vdb", is_read=False)
    commands.submit_job(bench.farm, job)

    bench.tick()

    assert bench.status(job) is JobStatus.STAGING
    assert "checksum" in queries.job_summary(bench.farm, job).reason

    check_pending(bench.farm)
    bench.tick()

    assert bench.status(job) is JobStatus.LAUNCHING


def test_slow_staging_is_waited_for(bench: FakeFarm) -> None:
    job = bench.a_submitted_job()
    bench.cloud.workspaces.is_slow = True
    bench.tick()
    assert bench.status(job) is JobStatus.STAGING

    bench.cloud.workspaces.finish()
    bench.tick()
    assert bench.status(job) is JobStatus.SNAPSHOTTING
    bench.cloud.workspaces.finish()
    bench.tick()

    assert bench.status(job) is JobStatus.LAUNCHING


def test_what_the_cloud_does_with_the_files_is_the_reason_that_people_read(bench: FakeFarm) -> None:
    job = bench.a_submitted_job()
    workspaces = bench.cloud.workspaces
    workspaces.is_slow = True
    bench.tick()
    assert queries.job_summary(bench.farm, job).reason == "its files are being made ready"
    workspaces.doing = "the volume is being filled: 43 %"
    bench.tick()
    assert queries.job_summary(bench.farm, job).reason == "the volume is being filled: 43 %"

    workspaces.finish()
    workspaces.doing = "the snapshot is being made: 80 %"
    bench.tick()

    assert bench.status(job) is JobStatus.SNAPSHOTTING
    assert queries.job_summary(bench.farm, job).reason == "the snapshot is being made: 80 %"


@pytest.mark.parametrize("mode", [None, *WorkspaceMode])
def test_files_are_brought_to_instances_as_the_job_wishes(tmp_path: Path, mode: WorkspaceMode | None) -> None:
    bench = FakeFarm.open(tmp_path, config=Config(cloud=CloudConfig(provider="aws"), money=MoneyConfig(max_usd_per_month=0)))
    job = bench.a_submitted_job(settings=JobSettings(workspace_mode=mode))

    bench.tick()

    assert bench.cloud.workspaces.modes == {job: mode}


def test_a_workspace_that_is_gone_is_staged_again(bench: FakeFarm, nodes: FakeNodes) -> None:
    job = bench.a_submitted_job(frames="1-6")
    bench.tick()
    bench.tick()
    nodes.work()
    commands.pause_job(bench.farm, job)
    bench.tick()
    nodes.work()
    bench.tick()
    bench.cloud.workspaces.lose(job)

    commands.resume_job(bench.farm, job)

    assert _run(bench, nodes, job) is JobStatus.COMPLETED


def test_an_unreadable_cloud_skips_the_tick_and_nothing_is_given_up(bench: FakeFarm, nodes: FakeNodes) -> None:
    job = bench.a_submitted_job(frames="1-4")
    bench.tick()
    bench.tick()
    nodes.only().begin()
    bench.tick()
    bench.cloud.compute.fail_next(Throttled("slow down"), times=100, call="instances")
    for _ in range(100):
        bench.tick()
    waiting = queries.health(bench.farm)
    assert waiting.is_alive, "it looks again and again: restarting it would not help"
    assert waiting.trouble == "slow down"
    assert waiting.last_tick_s is not None
    assert waiting.last_tick_s >= 100

    bench.tick()

    assert bench.status(job) is JobStatus.RENDERING
    assert len(bench.cloud.compute.alive()) == 1
    assert queries.health(bench.farm).trouble == ""


def test_a_supervisor_that_does_not_even_look_has_stopped(bench: FakeFarm) -> None:
    bench.tick()
    assert queries.health(bench.farm).is_alive
    bench.clock.pass_s(61)
    assert not queries.health(bench.farm).is_alive


def test_one_jobs_trouble_does_not_stop_another(bench: FakeFarm, nodes: FakeNodes) -> None:
    first = bench.a_submitted_job(frames="1-2")
    bench.clock.pass_s(1)
    second = bench.a_submitted_job(frames="1-2")
    bench.cloud.workspaces.fail_next(RuntimeError("a bug"), call="state")

    bench.tick()

    assert bench.status(first) is JobStatus.STAGING
    assert queries.job_detail(bench.farm, first).problems[0].severity == "error"
    assert bench.status(second) is JobStatus.LAUNCHING
    assert _run(bench, nodes, second) is JobStatus.COMPLETED
    assert _run(bench, nodes, first) is JobStatus.COMPLETED
    assert queries.job_detail(bench.farm, first).problems == ()


def test_a_restart_in_mid_render_goes_on_where_it_was(bench: FakeFarm, nodes: FakeNodes) -> None:
    job = bench.a_submitted_job(frames="1-8", instances=2)
    for _ in range(3):
        bench.tick()
        nodes.work()

    bench.restart()

    assert _run(bench, nodes, job) is JobStatus.COMPLETED
    assert sum(len(node.delivered) for node in nodes.alive()) <= 8
    assert len(bench.cloud.compute.launches) == 1


def test_claims_are_kept_so_that_a_late_node_renders_nothing_twice(bench: FakeFarm, nodes: FakeNodes) -> None:
    job = bench.a_submitted_job(frames="1-3")

    assert _run(bench, nodes, job) is JobStatus.COMPLETED

    assert len(bench.cloud.objects.keys(claims_prefix(job))) == 3


def test_an_idle_node_leaves_and_is_not_replaced_without_work(bench: FakeFarm, nodes: FakeNodes) -> None:
    job = bench.a_submitted_job(frames="1-2", instances=2)
    bench.tick()
    bench.tick()
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
    job = bench.a_submitted_job(frames="1-10", instances=2)
    bench.tick()
    bench.tick()
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
