"""What becomes of frames whose attempt failed, was interrupted, or was lost with its node."""

from __future__ import annotations

from pathlib import Path

import pytest

from nodeimage.protocol import Failure, Finding, JournalEntry, Order, Outcome, Output, claim_key, journal_key, output_key
from supervisor import queries
from supervisor.commands import jobs as commands
from supervisor.config import Config, RenderConfig
from supervisor.domain.frame import FrameStatus
from supervisor.domain.job import JobStatus
from tests.fakes.farm import FakeFarm, an_image, an_inspection
from tests.fakes.node import FakeNode, FakeNodes


def _order(node: FakeNode) -> Order:
    order = node.order()
    assert order is not None
    return order


def test_a_failed_attempt_is_tried_again_elsewhere_without_persistent_data(bench: FakeFarm, nodes: FakeNodes) -> None:
    job = bench.a_rendering_job(frames="1-4", instances=2)
    first, second = nodes.alive()
    assert first.begin() == 1
    bench.tick()

    first.fail(1, Failure.CRASH, message="Blender died of signal 11")
    bench.tick()

    frame = queries.job_frame(bench.farm, job, 1)
    assert (frame.status, frame.attempt) == (FrameStatus.QUEUED, 2)
    assert "signal 11" in frame.reason
    told = _order(second).requeued[1]
    assert (told.attempt, told.avoid, told.persistent_data) == (2, (first.name,), False)
    assert not bench.cloud.objects.keys(claim_key(job, 1))
    assert nodes.finish(job) is JobStatus.COMPLETED
    assert 1 in second.delivered


def test_the_order_tells_of_the_next_attempt_before_its_claim_is_free(bench: FakeFarm, nodes: FakeNodes) -> None:
    job = bench.a_rendering_job(frames="1-4")
    node = nodes.only()
    node.begin()
    node.fail(1)
    bench.cloud.objects.fail_next(ConnectionError("cut off"), call="delete")

    bench.tick()

    assert _order(node).requeued[1].attempt == 2
    assert bench.cloud.objects.keys(claim_key(job, 1))
    bench.tick()
    assert not bench.cloud.objects.keys(claim_key(job, 1))


def test_the_only_node_may_try_again_what_it_failed(bench: FakeFarm, nodes: FakeNodes) -> None:
    bench.a_rendering_job(frames="1-4")
    node = nodes.only()
    node.begin()
    node.fail(1)

    bench.tick()

    assert _order(node).requeued[1].avoid == ()


def test_a_hang_is_tried_again_with_persistent_data(bench: FakeFarm, nodes: FakeNodes) -> None:
    bench.a_rendering_job(frames="1-4")
    node = nodes.only()
    node.begin()
    node.fail(1, Failure.HANG)

    bench.tick()

    assert _order(node).requeued[1].persistent_data


def test_a_frame_that_uses_up_its_attempts_fails_and_the_others_are_rendered(bench: FakeFarm, nodes: FakeNodes) -> None:
    job = bench.a_rendering_job(frames="1-3")
    for _ in range(3):
        assert nodes.only().begin() == 1
        nodes.only().fail(1, message="no camera")
        bench.tick()

    assert nodes.finish(job) is JobStatus.FAILED

    frames = queries.job_frames(bench.farm, job)
    assert [frame.status for frame in frames] == [FrameStatus.FAILED, FrameStatus.RECEIVED, FrameStatus.RECEIVED]
    detail = queries.job_detail(bench.farm, job)
    assert detail.summary.reason.startswith("frame 1 failed")
    assert [(problem.code, problem.about, problem.severity) for problem in detail.problems] == [("frame_failed", "1", "error")]
    assert queries.frame_log(bench.farm, job, 1) == "log of attempt 3"
    assert queries.frame_log(bench.farm, job, 1, attempt=1) == "log of attempt 1"


def test_a_retry_renders_only_what_is_missing_with_fresh_attempts_and_keeps_the_logs(bench: FakeFarm, nodes: FakeNodes) -> None:
    job = bench.a_rendering_job(frames="1-3")
    for _ in range(3):
        nodes.only().begin()
        nodes.only().fail(1)
        bench.tick()
    nodes.finish(job)
    commands.retry_job(bench.farm, job)
    for _ in range(3):
        bench.tick()
    node = nodes.only()
    assert node.begin() == 1
    assert node.claims[1].attempt == 4
    node.fail(1)
    bench.tick()
    assert queries.job_frame(bench.farm, job, 1).status is FrameStatus.QUEUED

    assert nodes.finish(job) is JobStatus.COMPLETED

    assert nodes.alive() == []
    assert node.delivered == [1]
    assert queries.job_detail(bench.farm, job).problems == ()
    assert queries.frame_log(bench.farm, job, 1, attempt=3) == "log of attempt 3"


def test_an_interrupted_attempt_does_not_count(bench: FakeFarm, nodes: FakeNodes) -> None:
    job = bench.a_rendering_job(frames="1-2")
    for _ in range(5):
        node = nodes.only()
        frame = node.begin()
        assert frame is not None
        node.interrupt(frame)
        bench.tick()

    assert nodes.finish(job) is JobStatus.COMPLETED


def test_a_frame_that_another_node_claimed_after_an_interruption_stays_its(bench: FakeFarm, nodes: FakeNodes) -> None:
    job = bench.a_rendering_job(frames="1")
    node = nodes.only()
    node.begin()
    node.interrupt(1)
    assert node.begin() == 1  # before the farm has read of the interruption
    bench.tick()

    assert bench.cloud.objects.keys(claim_key(job, 1))
    node.fail(1)
    bench.tick()
    assert not bench.cloud.objects.keys(claim_key(job, 1))
    assert nodes.finish(job) is JobStatus.COMPLETED


def test_frames_of_an_instance_that_ended_are_queued_again_and_it_is_replaced(bench: FakeFarm, nodes: FakeNodes) -> None:
    job = bench.a_rendering_job(frames="1-6", instances=2)
    lost, kept = nodes.alive()
    frame = lost.begin()
    kept.begin()
    bench.tick()
    bench.cloud.compute.end_instance(lost.instance.id, note="the machine went away")

    bench.tick()

    assert frame is not None
    view = queries.job_frame(bench.farm, job, frame)
    assert (view.status, view.attempt) == (FrameStatus.QUEUED, 2)
    assert any("the machine went away" in event.text for event in queries.job_events(bench.farm, job))
    assert nodes.finish(job) is JobStatus.COMPLETED
    assert len(bench.cloud.compute.launches) == 2


def test_a_silent_node_is_given_up_and_its_frames_queued_again(bench: FakeFarm, nodes: FakeNodes) -> None:
    job = bench.a_rendering_job(frames="1-2")
    silent = nodes.only()
    silent.begin()
    for _ in range(59):
        bench.tick()
    assert bench.status(job) is JobStatus.RENDERING
    assert len(bench.cloud.compute.launches) == 1

    for _ in range(4):
        bench.tick()

    assert silent.instance.id not in {instance.id for instance in bench.cloud.compute.alive()}
    assert "silent" in next(view.note for view in queries.job_instances(bench.farm, job) if view.node == silent.name)
    assert nodes.finish(job) is JobStatus.COMPLETED


def test_a_node_whose_clock_is_wrong_is_believed(bench: FakeFarm, nodes: FakeNodes) -> None:
    job = bench.a_rendering_job(frames="1-8", instances=2)
    ahead, behind = nodes.alive()
    ahead.clock_off_s, behind.clock_off_s = 7200, -7200

    assert nodes.finish(job) is JobStatus.COMPLETED

    assert ahead.delivered
    assert behind.delivered


def test_what_a_lost_node_delivered_last_counts(bench: FakeFarm, nodes: FakeNodes) -> None:
    job = bench.a_rendering_job(frames="1-2")
    node = nodes.only()
    node.begin()
    node.clock_off_s = -3600  # its entry stands long before the cursor
    node.deliver(1)
    bench.cloud.compute.end_instance(node.instance.id)

    bench.tick()

    assert queries.job_frame(bench.farm, job, 1).status is FrameStatus.RECEIVED


def test_a_frame_delivered_late_by_a_node_given_up_is_received_once(bench: FakeFarm, nodes: FakeNodes) -> None:
    job = bench.a_rendering_job(frames="1-2")
    lost = nodes.only()
    lost.begin()
    bench.tick()
    bench.cloud.compute.end_instance(lost.instance.id)
    bench.tick()
    bench.clock.pass_s(60)
    bench.tick()
    bench.tick()
    second = nodes.only()
    assert second.begin() == 1

    lost.deliver(1)
    bench.tick()
    assert queries.job_frame(bench.farm, job, 1).status is FrameStatus.RECEIVED
    second.deliver(1)

    assert nodes.finish(job) is JobStatus.COMPLETED
    assert queries.job_frame(bench.farm, job, 1).node == lost.name


def test_a_received_frame_that_is_gone_from_the_store_is_rendered_again(bench: FakeFarm, nodes: FakeNodes) -> None:
    job = bench.a_rendering_job(frames="1-2")
    node = nodes.only()
    node.begin()
    node.deliver(1)
    bench.cloud.objects.delete([output_key(job, 1, "0001.png")])

    assert nodes.finish(job) is JobStatus.COMPLETED

    assert node.delivered == [1, 2, 1]
    assert bench.cloud.objects.keys(output_key(job, 1, "0001.png"))
    assert [problem.code for problem in queries.job_detail(bench.farm, job).problems] == ["lost_output"]


def test_a_journal_entry_that_can_not_be_read_stops_nothing(bench: FakeFarm, nodes: FakeNodes) -> None:
    job = bench.a_rendering_job(frames="1-2")
    bench.cloud.objects.put(journal_key(job, at_ms=bench.clock.ms, node="node_x", n=1), b'{"version": 99}')

    assert nodes.finish(job) is JobStatus.COMPLETED

    assert [problem.code for problem in queries.job_detail(bench.farm, job).problems] == ["unreadable"]


@pytest.mark.parametrize("name", ["../../../other_job/frames/0001/0001.png", "/etc/passwd", "a/../../b.png", "./a.png", "a//b.png", ""])
def test_an_output_outside_of_its_frame_is_not_taken_in(bench: FakeFarm, nodes: FakeNodes, name: str) -> None:
    job = bench.a_rendering_job(frames="1")
    output = Output(name=name, bytes=7, crc32=1)
    entry = JournalEntry(outcome=Outcome.FINISHED, node="node_x", at_ms=bench.clock.ms, frame=1, outputs=(output,))
    bench.cloud.objects.put(journal_key(job, at_ms=bench.clock.ms, node="node_x", n=1), entry.to_bytes())

    bench.tick()

    assert queries.job_frame(bench.farm, job, 1).outputs == ()
    assert [problem.code for problem in queries.job_detail(bench.farm, job).problems] == ["unreadable"]
    assert nodes.finish(job) is JobStatus.COMPLETED


def test_an_unbaked_simulation_is_left_to_one_node_in_order(bench: FakeFarm, nodes: FakeNodes) -> None:
    job = bench.a_rendering_job(frames="1-4", instances=3)
    for node in nodes.alive():
        node.opened(Finding(code="unbaked", text="“Flag” has a cloth simulation that is not baked"))

    bench.tick()
    bench.tick()

    (node,) = nodes.alive()
    order = _order(node)
    assert order.ordered
    assert [(task.node, task.frames) for task in order.tasks] == [(node.name, ((1, 4, 1),))]
    assert any("in order" in event.text for event in queries.job_events(bench.farm, job))
    assert "unbaked" in {problem.code for problem in queries.job_detail(bench.farm, job).problems}
    assert nodes.finish(job) is JobStatus.COMPLETED
    assert node.delivered == [1, 2, 3, 4]


def test_a_missing_file_is_one_problem_whoever_misses_it(bench: FakeFarm, nodes: FakeNodes) -> None:
    job = bench.a_draft(inspection=an_inspection(dependencies=(an_image("textures/wood.png"),)))
    commands.submit_job(bench.farm, job)
    bench.tick()
    bench.tick()
    nodes.only().opened(
        Finding(code="missing_file", text="The image “wood” is missing: //textures/wood.png"),
        Finding(code="missing_file", text="The image “oak” is missing: //textures/oak.png"),
    )

    bench.tick()

    about = [problem.about for problem in queries.job_detail(bench.farm, job).problems]
    assert about == ["//textures/wood.png", "The image “oak” is missing: //textures/oak.png"]


def test_a_file_that_does_not_open_ends_the_job_before_every_frame_was_tried(bench: FakeFarm, nodes: FakeNodes) -> None:
    job = bench.a_rendering_job(frames="1-100")
    for _ in range(3):
        frame = nodes.only().begin()
        assert frame is not None
        nodes.only().fail(frame, Failure.OPEN, message="not a blend file")

    bench.tick()
    bench.tick()

    summary = queries.job_summary(bench.farm, job)
    assert summary.status is JobStatus.FAILED
    assert "not a blend file" in summary.reason
    assert bench.cloud.compute.alive() == []


def test_a_job_of_which_ten_frames_fail_and_none_is_received_is_ended(bench: FakeFarm, nodes: FakeNodes) -> None:
    job = bench.a_rendering_job(frames="1-100")
    for _ in range(10):
        frame = nodes.only().claim()
        assert frame is not None
        nodes.only().fail(frame, message="out of samples")

    bench.tick()
    bench.tick()

    assert bench.status(job) is JobStatus.FAILED
    assert "out of samples" in queries.job_summary(bench.farm, job).reason


def test_a_job_with_received_frames_goes_on_whatever_fails(bench: FakeFarm, nodes: FakeNodes) -> None:
    job = bench.a_rendering_job(frames="1-30")
    nodes.only().begin()
    nodes.only().deliver(1)
    for _ in range(12):
        frame = nodes.only().claim()
        assert frame is not None
        nodes.only().fail(frame)

    bench.tick()

    assert bench.status(job) is JobStatus.RENDERING


def test_instances_that_keep_dying_young_end_the_job_with_their_last_words(bench: FakeFarm, nodes: FakeNodes) -> None:
    job = bench.a_submitted_job(frames="1-10", instances=2)
    for _ in range(400):
        bench.tick()
        for node in nodes.alive():
            bench.cloud.compute.end_instance(node.instance.id, note="no graphics driver")
        if bench.status(job) is JobStatus.FAILED:
            break

    summary = queries.job_summary(bench.farm, job)
    assert summary.status is JobStatus.FAILED
    assert "no graphics driver" in summary.reason
    assert len(bench.cloud.compute.launches) == 5


def test_instances_that_finish_frames_before_they_die_are_replaced_for_ever(bench: FakeFarm, nodes: FakeNodes) -> None:
    job = bench.a_submitted_job(frames="1-20")
    for _ in range(400):
        bench.tick()
        for node in nodes.alive():
            frame = node.begin()
            if frame is not None:
                node.deliver(frame)
            bench.cloud.compute.end_instance(node.instance.id, note="taken back")
        if queries.job_summary(bench.farm, job).ended_at:
            break

    assert bench.status(job) is JobStatus.COMPLETED
    assert len(bench.cloud.compute.launches) == 20


def test_one_attempt_is_enough_where_the_farm_says_so(tmp_path: Path) -> None:
    bench = FakeFarm.open(tmp_path, config=Config(render=RenderConfig(max_attempts=1)))
    nodes = FakeNodes(bench)
    job = bench.a_rendering_job(frames="1-2")
    nodes.only().begin()
    nodes.only().deliver(1)
    nodes.only().begin()
    nodes.only().fail(2)

    assert nodes.finish(job) is JobStatus.FAILED
    assert queries.job_frame(bench.farm, job, 2).attempt == 1


def test_a_retry_is_not_ended_for_what_failed_before_it(bench: FakeFarm, nodes: FakeNodes) -> None:
    job = bench.a_rendering_job(frames="1-13")
    node = nodes.only()
    node.deliver(node.begin() or 0)
    for _ in range(11):
        node.fail(node.begin() or 0)
        bench.tick()
        node.deliver(node.begin() or 0)
        bench.tick()
    commands.cancel_job(bench.farm, job)
    bench.tick()
    bench.tick()
    assert bench.status(job) is JobStatus.CANCELLED
    assert queries.job_summary(bench.farm, job).frames.received == 12

    bench.clock.pass_s(1)
    commands.retry_job(bench.farm, job)

    assert nodes.finish(job) is JobStatus.COMPLETED
