"""What comes of a pause, a resume, a cancel and a retry, tick by tick."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from nodeimage.protocol import Action, frames_prefix
from supervisor import queries
from supervisor.commands import jobs as commands
from supervisor.domain.frame import FrameStatus
from supervisor.domain.job import JobStatus
from supervisor.farm import Farm
from tests.fakes.farm import FakeFarm
from tests.fakes.node import FakeNodes


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


def test_a_paused_job_finishes_its_frames_and_rents_nothing(bench: FakeFarm, nodes: FakeNodes) -> None:
    job = bench.a_rendering_job(frames="1-10", instances=2)
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
    job = bench.a_rendering_job(frames="1-6", instances=2)
    nodes.work()
    commands.pause_job(bench.farm, job)
    bench.tick()
    nodes.work()
    bench.tick()

    commands.resume_job(bench.farm, job)

    assert nodes.finish(job) is JobStatus.COMPLETED
    assert len(bench.cloud.objects.keys(frames_prefix(job))) == 6


def test_a_pause_that_meets_the_last_frame_completes_the_job(bench: FakeFarm, nodes: FakeNodes) -> None:
    job = bench.a_rendering_job(frames="1")
    nodes.work()
    commands.pause_job(bench.farm, job)

    bench.tick()
    nodes.work()
    bench.tick()
    bench.tick()

    assert bench.status(job) is JobStatus.COMPLETED


def test_who_pauses_can_cancel_without_waiting_for_the_frames(bench: FakeFarm, nodes: FakeNodes) -> None:
    job = bench.a_rendering_job(frames="1-4")
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

    assert nodes.finish(job) is JobStatus.COMPLETED
    delivered = len([key for key in bench.cloud.objects.writes if key.startswith(frames_prefix(job))])
    assert delivered - delivered_before == 6 - len(received)


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
