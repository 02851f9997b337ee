"""Scout frames: three are rendered, everything is given back, and a person is asked for the rest."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from nodeimage.protocol import Finding
from supervisor import queries
from supervisor.commands import jobs as commands
from supervisor.domain.frame import FrameStatus
from supervisor.domain.job import JobStatus
from supervisor.domain.settings import JobSettings
from tests.fakes.farm import FakeFarm, a_renting_farm
from tests.fakes.node import FakeNodes

SCOUT = JobSettings(scout=True)


def run_until(bench: FakeFarm, nodes: FakeNodes, job: str, *statuses: JobStatus) -> JobStatus:
    for _ in range(60):
        if bench.status(job) in statuses:
            break
        bench.tick(after_s=20)
        nodes.work()
    return bench.status(job)


def received(bench: FakeFarm, job: str) -> list[int]:
    return [frame.number for frame in queries.job_frames(bench.farm, job) if frame.status is FrameStatus.RECEIVED]


def test_a_scouted_job_renders_three_frames_and_waits(bench: FakeFarm, nodes: FakeNodes) -> None:
    job = bench.a_submitted_job(frames="1-100", instances=8, settings=SCOUT)

    assert run_until(bench, nodes, job, JobStatus.PAUSED) is JobStatus.PAUSED

    assert received(bench, job) == [1, 51, 100]
    assert [launch.count for launch in bench.cloud.compute.launches] == [3]
    assert bench.cloud.compute.alive() == []
    summary = queries.job_summary(bench.farm, job)
    assert summary.reason.startswith("scouted: 3 frames rendered; the other 97 frames would take about ")
    assert summary.reason.endswith("; resume to render the rest")
    assert "$" not in summary.reason  # this machine costs nothing
    for _ in range(5):
        bench.tick(after_s=600)
    assert bench.status(job) is JobStatus.PAUSED


def test_a_rented_farm_says_what_the_rest_would_cost(tmp_path: Path) -> None:
    bench = a_renting_farm(tmp_path)
    nodes = FakeNodes(bench)
    job = bench.a_submitted_job(frames="1-100", settings=SCOUT)

    run_until(bench, nodes, job, JobStatus.PAUSED)

    # 97 frames of 2 s, a boot and the way down, at a tenth of a cent a second
    assert "would take about 4 min and cost about $0.28; resume" in queries.job_summary(bench.farm, job).reason


def test_resuming_a_scouted_job_renders_the_rest(bench: FakeFarm, nodes: FakeNodes) -> None:
    job = bench.a_submitted_job(frames="1-12", instances=4, settings=SCOUT)
    run_until(bench, nodes, job, JobStatus.PAUSED)
    scouting = queries.job_detail(bench.farm, job).scouting
    assert scouting is not None
    assert (scouting.frames, scouting.received, scouting.has_ended) == ((1, 7, 12), (1, 7, 12), True)

    commands.resume_job(bench.farm, job)

    assert queries.job_detail(bench.farm, job).scouting is None
    assert run_until(bench, nodes, job, JobStatus.COMPLETED) is JobStatus.COMPLETED
    assert received(bench, job) == list(range(1, 13))
    assert bench.cloud.compute.launches[-1].count == 4
    assert any("wants the rest" in event.text for event in queries.job_events(bench.farm, job))


def test_a_job_of_few_frames_is_not_scouted(bench: FakeFarm, nodes: FakeNodes) -> None:
    job = bench.a_submitted_job(frames="1-3", settings=SCOUT)
    assert run_until(bench, nodes, job, JobStatus.COMPLETED, JobStatus.PAUSED) is JobStatus.COMPLETED


def test_a_scouted_job_paused_in_between_goes_on_scouting(bench: FakeFarm, nodes: FakeNodes) -> None:
    job = bench.a_rendering_job(frames="1-100", settings=SCOUT)
    nodes.work()
    bench.tick()
    commands.pause_job(bench.farm, job)
    run_until(bench, nodes, job, JobStatus.PAUSED)
    assert received(bench, job) == [1]

    commands.resume_job(bench.farm, job)

    assert run_until(bench, nodes, job, JobStatus.PAUSED) is JobStatus.PAUSED
    assert received(bench, job) == [1, 51, 100]
    assert queries.job_summary(bench.farm, job).reason.startswith("scouted: 3 frames")


def test_a_scouted_job_survives_a_restart_of_the_farm(bench: FakeFarm, nodes: FakeNodes) -> None:
    job = bench.a_submitted_job(frames="1-100", settings=SCOUT)
    for _ in range(30):
        bench.restart()
        bench.tick(after_s=20)
        nodes.work()
    assert bench.status(job) is JobStatus.PAUSED
    assert received(bench, job) == [1, 51, 100]


def test_a_failed_scout_frame_is_told_of_and_the_others_count(bench: FakeFarm, nodes: FakeNodes) -> None:
    job = bench.a_rendering_job(frames="1-100", settings=SCOUT)
    for _ in range(12):
        for node in nodes.alive():
            frame = node.begin()
            if frame == 51:
                node.fail(51)
            elif frame:
                node.deliver(frame)
        bench.tick()
    run_until(bench, nodes, job, JobStatus.PAUSED)

    assert queries.job_summary(bench.farm, job).reason.startswith("scouted: 2 frames rendered, 1 failed; the other 98 frames")


def test_a_job_whose_scout_frames_all_fail_has_failed_and_a_retry_scouts_again(bench: FakeFarm, nodes: FakeNodes) -> None:
    job = bench.a_submitted_job(frames="1-100", settings=SCOUT)
    for _ in range(30):
        bench.tick()
        for node in nodes.alive():
            frame = node.begin()
            if frame:
                node.fail(frame)
    assert bench.status(job) is JobStatus.FAILED
    assert "every scout frame (1,51,100) failed" in queries.job_summary(bench.farm, job).reason

    commands.retry_job(bench.farm, job)

    assert run_until(bench, nodes, job, JobStatus.PAUSED) is JobStatus.PAUSED
    assert received(bench, job) == [1, 51, 100]


def test_an_order_dependent_job_is_scouted_by_its_first_frame(bench: FakeFarm, nodes: FakeNodes) -> None:
    job = bench.a_rendering_job(frames="1-100", settings=SCOUT)
    nodes.only().opened(Finding(code="unbaked", text="“Cloth” is not baked."))
    run_until(bench, nodes, job, JobStatus.PAUSED)

    assert received(bench, job) == [1]
    assert queries.job_summary(bench.farm, job).reason.startswith("scouted: one frame rendered; the other 99 frames")


def test_a_cancelled_scouted_job_renders_the_rest_when_that_is_asked_for(bench: FakeFarm, nodes: FakeNodes) -> None:
    job = bench.a_submitted_job(frames="1-9", settings=SCOUT)
    run_until(bench, nodes, job, JobStatus.PAUSED)
    commands.cancel_job(bench.farm, job)
    run_until(bench, nodes, job, JobStatus.CANCELLED)

    commands.retry_job(bench.farm, job)

    assert run_until(bench, nodes, job, JobStatus.COMPLETED, JobStatus.PAUSED) is JobStatus.COMPLETED


def test_the_time_left_of_a_job_that_scouts_is_that_of_its_scout_frames(bench: FakeFarm, nodes: FakeNodes) -> None:
    job = bench.a_rendering_job(frames="1-1000", settings=replace(SCOUT))
    nodes.only().begin()
    bench.tick()
    nodes.only().deliver(1, render_s=60)
    bench.tick()

    assert queries.job_summary(bench.farm, job).eta_s == 120
