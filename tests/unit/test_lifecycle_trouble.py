"""What a job makes of a cloud in trouble: launches that come to nothing, no answers, restarts."""

from __future__ import annotations

import pytest
import structlog
from structlog.testing import capture_logs

from supervisor import queries
from supervisor.cloud.ports import NoCapacity, Refused, Throttled, Unreachable
from supervisor.domain.job import JobStatus
from supervisor.lifecycle import reconcile
from tests.fakes.farm import FakeFarm
from tests.fakes.node import FakeNodes


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
    assert nodes.finish(job) is JobStatus.COMPLETED
    assert queries.job_detail(bench.farm, job).problems == ()


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
    assert nodes.finish(second) is JobStatus.COMPLETED
    assert nodes.finish(first) is JobStatus.COMPLETED
    assert queries.job_detail(bench.farm, first).problems == ()


def test_a_restart_in_mid_render_goes_on_where_it_was(bench: FakeFarm, nodes: FakeNodes) -> None:
    job = bench.a_submitted_job(frames="1-8", instances=2)
    for _ in range(3):
        bench.tick()
        nodes.work()

    bench.restart()

    assert nodes.finish(job) is JobStatus.COMPLETED
    assert sum(len(node.delivered) for node in nodes.alive()) <= 8
    assert len(bench.cloud.compute.launches) == 1


def test_trouble_that_stays_is_logged_once(bench: FakeFarm, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reconcile, "log", structlog.get_logger())  # one that no test before has used: those keep what they were set up with
    job = bench.a_submitted_job(frames="1-2")
    bench.cloud.workspaces.fail_next(RuntimeError("a bug"), call="state", times=20)

    with capture_logs() as logged:
        for _ in range(10):
            bench.tick()

    told = [entry["event"] for entry in logged if entry["log_level"] in {"warning", "error"}]
    assert sorted(told) == ["job held up", "step failed"]
    assert queries.job_detail(bench.farm, job).problems[0].severity == "error"
