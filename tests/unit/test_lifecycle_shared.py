"""Jobs on a shared pool of instances: what the nodes are told, how large the pool is, and that a job ends without ending them."""

from __future__ import annotations

from pathlib import Path

import pytest

from nodeimage.launch import PoolOrder
from nodeimage.protocol import POOL_KEY, Action, claims_prefix
from supervisor import queries
from supervisor.cloud.ports import BlenderFound, Refused, Throttled
from supervisor.commands import jobs as commands
from supervisor.config import Config
from supervisor.domain.frame import FrameStatus
from supervisor.domain.instance import InstanceStatus
from supervisor.domain.job import JobStatus
from supervisor.domain.settings import JobSettings
from supervisor.domain.workspace import WorkspaceMode
from supervisor.lifecycle.intake import check_pending
from supervisor.lifecycle.sweep import sweep
from supervisor.store import instances, jobs
from tests.fakes.farm import FakeFarm
from tests.fakes.node import FakeNodes

from .shared_pool import a_job, order_of, run_jobs, served, shared_config, ticks


@pytest.fixture
def bench(tmp_path: Path) -> FakeFarm:
    return FakeFarm.open(tmp_path, config=shared_config())


# A job's way


def test_jobs_are_rendered_on_the_pool_and_nothing_is_launched_for_them(bench: FakeFarm, nodes: FakeNodes) -> None:
    first, second = a_job(bench, frames="1-5"), a_job(bench, frames="1-3")

    assert run_jobs(bench, nodes, first, second) == [JobStatus.COMPLETED] * 2

    assert bench.cloud.compute.launches == []
    assert bench.cloud.pool.members(), "the pool outlives its jobs"
    assert bench.cloud.workspaces.modes == {first: WorkspaceMode.S3, second: WorkspaceMode.S3}


def test_a_job_waits_for_a_node_renders_when_one_is_at_it_and_waits_again(bench: FakeFarm, nodes: FakeNodes) -> None:
    job = a_job(bench, frames="1-3")
    ticks(bench, 2)
    assert bench.status(job) is JobStatus.LAUNCHING
    assert queries.job_summary(bench.farm, job).reason == "waiting for an instance of the shared pool"

    node = nodes.only()
    assert node.take_job() == job
    ticks(bench, 2)
    assert bench.status(job) is JobStatus.RENDERING
    assert [one.id for one in queries.job_instances(bench.farm, job)] == [node.instance.id]
    assert queries.job_summary(bench.farm, job).instances_running == 1
    assert order_of(bench, job).tasks[0].node == node.name

    node.deliver(min(node.claims))
    node.leave_job()
    ticks(bench, 2)
    assert bench.status(job) is JobStatus.LAUNCHING
    assert queries.job_instances(bench.farm, job) == []


def test_a_job_that_was_paused_before_its_files_were_ready_is_made_ready_when_it_goes_on(bench: FakeFarm, nodes: FakeNodes) -> None:
    job = bench.a_draft()
    bench.a_file(job, "cache/smoke.vdb", is_read=False)
    commands.submit_job(bench.farm, job)
    ticks(bench, 1)
    assert bench.status(job) is JobStatus.STAGING
    commands.pause_job(bench.farm, job)
    ticks(bench, 2)
    assert bench.status(job) is JobStatus.PAUSED
    assert list(bench.cloud.workspaces.jobs()) == []
    check_pending(bench.farm)

    commands.resume_job(bench.farm, job)
    assert run_jobs(bench, nodes, job) == [JobStatus.COMPLETED]

    assert list(bench.cloud.workspaces.jobs()) == [job]


def test_nodes_are_told_of_jobs_by_priority_and_of_equals_the_earlier_first(bench: FakeFarm) -> None:
    middle, late, high = a_job(bench), a_job(bench), a_job(bench, priority=90)

    ticks(bench, 2)
    assert served(bench) == [high, middle, late]
    commands.cancel_job(bench.farm, high)
    ticks(bench, 2)

    assert served(bench) == [middle, late]


def test_nodes_are_told_which_blender_a_job_was_given_whatever_the_farm_has_since(bench: FakeFarm) -> None:
    bench.cloud.premises.blenders_found = [
        BlenderFound(version="4.5.15", where="an image"),
        BlenderFound(version="5.2.2", where="an image"),
    ]
    asked = [bench.a_submitted_job(settings=JobSettings(blender=series)) for series in (None, "5.2")]
    bench.cloud.premises.blenders_found.append(BlenderFound(version="5.3.0", where="a new image"))
    ticks(bench, 4)
    stored = bench.cloud.objects.get(POOL_KEY)
    assert stored is not None
    assert {each.job: each.blender for each in PoolOrder.from_bytes(stored.body).jobs} == dict(zip(asked, ("4.5", "5.2"), strict=True))


def test_the_pools_order_is_written_when_it_changes_and_not_otherwise(bench: FakeFarm) -> None:
    a_job(bench)
    ticks(bench, 3)
    before = bench.cloud.objects.writes.count(POOL_KEY)

    ticks(bench, 5)
    assert bench.cloud.objects.writes.count(POOL_KEY) == before == 1
    a_job(bench)
    ticks(bench, 2)

    assert bench.cloud.objects.writes.count(POOL_KEY) == 2


@pytest.mark.parametrize(
    ("wish", "action", "ended"),
    [
        (commands.cancel_job, Action.STOP, JobStatus.CANCELLED),
        (commands.pause_job, Action.DRAIN, JobStatus.PAUSED),
    ],
    ids=["cancel", "pause"],
)
def test_a_job_that_ends_waits_for_its_nodes_to_leave_and_ends_none_of_them(
    bench: FakeFarm, nodes: FakeNodes, wish: object, action: Action, ended: JobStatus
) -> None:
    job = a_job(bench)
    ticks(bench, 2)
    node = nodes.only()
    node.take_job()
    bench.tick()

    assert callable(wish)
    wish(bench.farm, job)
    ticks(bench, 2)
    assert bench.status(job) is JobStatus.RELEASING
    assert order_of(bench, job).action is action
    node.interrupt(min(node.claims))
    node.leave_job()
    ticks(bench, 2)

    assert bench.status(job) is ended
    assert [one.status for one in bench.cloud.compute.alive()] == [InstanceStatus.RUNNING]


def test_an_ordered_job_is_handed_to_one_node_of_the_pool(bench: FakeFarm, nodes: FakeNodes) -> None:
    others = a_job(bench, frames="1-40")
    ticks(bench, 2)
    for node in nodes.alive():
        node.leave_job()
    job = a_job(bench, frames="1-3", priority=90)
    with bench.farm.db.write() as connection:
        jobs.change_job(connection, job, ordered=True)
    ticks(bench, 2)

    named = order_of(bench, job).tasks[0].node
    assert named in {node.name for node in nodes.alive()}
    assert run_jobs(bench, nodes, job) == [JobStatus.COMPLETED]
    with bench.farm.db.read() as connection:
        rendered_by = {row[0] for row in connection.exec_driver_sql("SELECT DISTINCT node FROM attempts WHERE job_id = ?", (job,))}
    assert rendered_by == {named}
    assert bench.status(others) is not JobStatus.FAILED


# Nodes that are lost


def test_what_a_lost_node_of_the_pool_had_claimed_is_rendered_by_another(bench: FakeFarm, nodes: FakeNodes) -> None:
    job = a_job(bench, frames="1-3")
    ticks(bench, 2)
    lost = nodes.only()
    lost.take_job()
    bench.tick()
    (frame,) = lost.claims

    bench.cloud.compute.end_instance(lost.instance.id)
    ticks(bench, 2)
    assert queries.job_frame(bench.farm, job, frame).status is FrameStatus.QUEUED
    assert not bench.cloud.objects.keys(claims_prefix(job))

    assert run_jobs(bench, nodes, job) == [JobStatus.COMPLETED]


def test_claims_of_a_lost_node_are_freed_at_every_job_that_it_told_nobody_of(bench: FakeFarm, nodes: FakeNodes) -> None:
    first, second = a_job(bench, frames="1-30"), a_job(bench, frames="1-30")
    ticks(bench, 2)
    lost = nodes.alive()[0]
    for job in (first, second):
        lost.at_job = job
        assert lost.claim() == 1

    bench.cloud.compute.end_instance(lost.instance.id)
    ticks(bench, 2)

    assert [key for job in (first, second) for key in bench.cloud.objects.keys(claims_prefix(job))] == []
    with bench.farm.db.read() as connection:
        assert [one for one in instances.pool_instances(connection) if not one.claims_freed and one.ended_at] == []


def test_claims_are_freed_later_at_a_job_that_was_in_trouble_when_the_node_was_lost(bench: FakeFarm, nodes: FakeNodes) -> None:
    first, second = a_job(bench, frames="1-30"), a_job(bench, frames="1-30")
    ticks(bench, 2)
    lost = nodes.alive()[0]
    for job in (first, second):
        lost.at_job = job
        lost.claim()
    bench.cloud.compute.end_instance(lost.instance.id)
    bench.cloud.objects.fail_next(Throttled("slow down"), call="delete")

    ticks(bench, 3)

    assert [key for job in (first, second) for key in bench.cloud.objects.keys(claims_prefix(job))] == []


def test_a_node_of_the_pool_that_is_silent_is_given_up_and_the_group_replaces_it(bench: FakeFarm, nodes: FakeNodes) -> None:
    job = a_job(bench)
    ticks(bench, 2)
    silent = nodes.only()
    silent.take_job()

    ticks(bench, 11, after_s=10)

    assert silent.instance.id not in {one.id for one in bench.cloud.compute.alive()}
    assert len(bench.cloud.pool.members()) == 1
    assert any("has been silent" in event.text for event in queries.job_events(bench.farm, job))


def test_another_instance_takes_the_place_of_one_that_the_cloud_takes_back(bench: FakeFarm, nodes: FakeNodes) -> None:
    job = a_job(bench, frames="1-3")
    ticks(bench, 2)
    doomed = nodes.only()
    doomed.take_job()
    bench.tick()

    doomed.hear_notice()
    ticks(bench, 2)

    assert len(bench.cloud.pool.members()) == 1
    assert doomed.instance.id not in bench.cloud.pool.members()
    assert doomed.instance.id in {one.id for one in bench.cloud.compute.alive()}
    doomed.deliver(min(doomed.claims))
    bench.cloud.compute.take_back(doomed.instance.id)
    assert run_jobs(bench, nodes, job) == [JobStatus.COMPLETED]
    assert bench.cloud.pool.desired == 1


# How large the pool is


def test_the_pool_grows_with_what_waits_and_frames_that_are_known_to_be_quick_need_fewer(bench: FakeFarm, nodes: FakeNodes) -> None:
    job = a_job(bench, frames="1-60")
    ticks(bench, 2)
    assert bench.cloud.pool.desired == 6, "60 frames of a minute each, as long as nothing is known"

    for node in nodes.alive():
        node.take_job()
        node.deliver(min(node.claims), render_s=2.0)
    ticks(bench, 2)

    with bench.farm.db.read() as connection:
        assert len([one for one in instances.pool_instances(connection) if one.is_rented]) == 6, "none that is there is ended for it"
    bench.cloud.compute.end_instance(nodes.alive()[0].instance.id)
    ticks(bench, 2)
    assert bench.cloud.pool.desired == 5
    assert bench.status(job) is JobStatus.RENDERING


def test_the_pool_is_never_larger_than_it_may_be(tmp_path: Path) -> None:
    bench = FakeFarm.open(tmp_path, config=shared_config(most=3))
    a_job(bench, frames="1-500")

    ticks(bench, 3)

    assert len(bench.cloud.pool.members()) == 3


def test_instances_without_a_job_are_given_back_after_a_while_down_to_the_least(tmp_path: Path) -> None:
    bench = FakeFarm.open(tmp_path, config=shared_config(least=1))
    nodes = FakeNodes(bench)
    job = a_job(bench, frames="1-30")
    assert run_jobs(bench, nodes, job) == [JobStatus.COMPLETED]
    assert len(bench.cloud.pool.members()) == 3

    for _ in range(31):
        nodes.work()
        bench.tick(after_s=10)

    assert len(bench.cloud.pool.members()) == 1
    assert bench.cloud.pool.desired == 1


def test_an_instance_that_is_between_two_jobs_is_kept(bench: FakeFarm, nodes: FakeNodes) -> None:
    first = a_job(bench, frames="1-2")
    run_jobs(bench, nodes, first)
    for _ in range(20):
        nodes.work()
        bench.tick(after_s=10)
    second = a_job(bench, frames="1-2")

    assert run_jobs(bench, nodes, second) == [JobStatus.COMPLETED]
    assert len({one.id for one in bench.cloud.compute.instances()}) == 1


def test_a_pool_without_capacity_says_why_and_is_looked_at_twice_a_minute(bench: FakeFarm) -> None:
    job = a_job(bench)
    bench.cloud.pool.capacity = 0
    bench.cloud.pool.why = "no c7i.4xlarge in us-east-1a"

    ticks(bench, 3)
    assert "waiting for an instance of the shared pool: no c7i.4xlarge in us-east-1a" in queries.job_summary(bench.farm, job).reason
    bench.cloud.pool.why = "no c7a.4xlarge either"
    ticks(bench, 3)
    assert "c7i" in queries.job_summary(bench.farm, job).reason
    ticks(bench, 4, after_s=10)

    assert "no c7a.4xlarge either" in queries.job_summary(bench.farm, job).reason


def test_a_pool_that_can_not_be_changed_is_tried_again_and_jobs_say_so(bench: FakeFarm) -> None:
    job = a_job(bench)
    bench.cloud.pool.fail_next(Refused("not authorised to create the group"), times=2, call="resize")

    ticks(bench, 2)
    assert "not authorised to create the group" in queries.job_summary(bench.farm, job).reason
    ticks(bench, 2)

    assert len(bench.cloud.pool.members()) == 1


def test_a_fault_of_the_farms_own_in_the_pool_ends_no_tick_and_jobs_say_so(bench: FakeFarm) -> None:
    job = a_job(bench)
    bench.cloud.pool.fail_next(ZeroDivisionError("no zone at all"), times=2, call="resize")

    ticks(bench, 2)
    assert "ZeroDivisionError: no zone at all" in queries.job_summary(bench.farm, job).reason
    assert queries.health(bench.farm).is_alive
    ticks(bench, 2)

    assert len(bench.cloud.pool.members()) == 1


def test_instances_that_end_before_they_come_to_a_job_are_tried_one_at_a_time(bench: FakeFarm) -> None:
    job = a_job(bench, frames="1-80")
    ticks(bench, 2)
    assert len(bench.cloud.pool.members()) == 8

    for id in bench.cloud.pool.members():
        bench.cloud.compute.end_instance(id, note="no graphics driver")
    ticks(bench, 3)

    assert len(bench.cloud.pool.members()) == 1
    assert "ended before they came to a job; one is tried at a time" in queries.job_summary(bench.farm, job).reason


def test_the_group_is_told_when_to_empty_itself_should_the_farm_fall_silent(bench: FakeFarm, nodes: FakeNodes) -> None:
    job = a_job(bench, frames="1-60")
    ticks(bench, 2)
    until = bench.cloud.pool.until
    assert until is not None
    assert 1.2 < (until - bench.clock()).total_seconds() / 3600 < 1.3, "60 minutes' work on six instances, half as long again, and an hour"

    bench.cloud.pool.fall_silent()
    bench.clock.pass_s(3 * 3600)
    bench.restart()

    assert run_jobs(bench, nodes, job) == [JobStatus.COMPLETED], "a farm that is back fills the group again"


def test_a_farm_without_jobs_has_no_pool(bench: FakeFarm) -> None:
    bench.a_draft()

    ticks(bench, 3)

    assert (bench.cloud.pool.desired, bench.cloud.compute.alive()) == (0, [])


# What else is true of instances of no job


def test_the_sweep_leaves_the_pool_alone_and_ends_what_is_left_of_one_that_is_given_up(bench: FakeFarm, tmp_path: Path) -> None:
    a_job(bench)
    ticks(bench, 2)
    assert sweep(bench.farm) == []
    assert len(bench.cloud.compute.alive()) == 1

    without = FakeFarm.open(tmp_path, config=Config())
    without.cloud.compute.add_pool_instance()
    swept = sweep(without.farm)

    assert [thing.what for thing in swept] == ["an instance of a shared pool, which is gone"]
    assert without.cloud.compute.alive() == []
