"""What nodes tell or deliver twice: outcomes count once, and the sums kept of a frame are those of what the store has."""

from __future__ import annotations

import zlib
from dataclasses import replace

import pytest

from nodeimage.protocol import Claim, output_key
from supervisor import queries
from supervisor.domain.frame import FrameStatus
from supervisor.domain.job import JobStatus
from supervisor.lifecycle.redelivered import MOST_AT_ONCE
from tests.fakes.farm import FakeFarm
from tests.fakes.node import FakeNode, FakeNodes


def _given_up_while_rendering(bench: FakeFarm, nodes: FakeNodes, job: str) -> tuple[FakeNode, FakeNode]:
    """Two nodes at the first frame: one that the farm takes for gone, and the one that renders it anew."""
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
    bench.tick()
    return lost, second


def _stored(bench: FakeFarm, job: str, frame: int) -> tuple[int, int]:
    there = bench.cloud.objects.get(output_key(job, frame, f"{frame:04d}.png"))
    assert there is not None
    return len(there.body), zlib.crc32(there.body)


def _known(bench: FakeFarm, job: str, frame: int) -> tuple[int, int]:
    (output,) = queries.job_frame(bench.farm, job, frame).outputs
    return output.bytes, output.crc32


@pytest.mark.parametrize("is_told_apart", [True, False])
def test_the_sums_kept_of_a_frame_delivered_twice_are_those_of_the_later_upload(
    bench: FakeFarm, nodes: FakeNodes, is_told_apart: bool
) -> None:
    job = bench.a_rendering_job(frames="1-2")
    lost, second = _given_up_while_rendering(bench, nodes, job)
    lost.deliver(1)
    if is_told_apart:
        bench.tick()

    second.deliver(1, body=b"the same picture with another date in it")
    bench.tick()

    assert _known(bench, job, 1) == _stored(bench, job, 1)
    nodes.work()
    nodes.work()
    bench.tick()
    bench.tick()
    assert bench.status(job) is JobStatus.COMPLETED
    assert second.delivered == [1, 2]


def test_the_sums_kept_are_those_of_what_is_stored_whoever_speaks_last(bench: FakeFarm, nodes: FakeNodes) -> None:
    job = bench.a_rendering_job(frames="1-2")
    lost, second = _given_up_while_rendering(bench, nodes, job)
    second.deliver(1, body=b"the same picture with another date in it")
    stored = _stored(bench, job, 1)
    lost.deliver(1)
    bench.cloud.objects.place(output_key(job, 1, "0001.png"), b"the same picture with another date in it", etag="put last, told first")

    bench.tick()

    assert _known(bench, job, 1) == stored


def test_an_outcome_that_is_told_twice_counts_once(bench: FakeFarm, nodes: FakeNodes) -> None:
    job = bench.a_rendering_job(frames="1-2")
    node = nodes.only()
    for _ in range(2):
        node.begin()
        node.repeat(node.fail(1))  # the answer to the first was lost on its way to the node
        bench.tick()
    frame = queries.job_frame(bench.farm, job, 1)
    assert (frame.status, frame.attempt) == (FrameStatus.QUEUED, 3)

    node.begin()
    node.repeat(node.deliver(1))
    bench.tick()

    assert queries.job_frame(bench.farm, job, 1).status is FrameStatus.RECEIVED
    assert [view.finished for view in queries.job_instances(bench.farm, job)] == [1]


def test_many_frames_that_come_twice_are_looked_into_tick_by_tick(bench: FakeFarm, nodes: FakeNodes) -> None:
    count = MOST_AT_ONCE + 5
    job = bench.a_rendering_job(frames=f"1-{count}", instances=2)
    first, second = nodes.alive()
    for number in range(1, count + 1):
        claim = Claim(node=second.name, frame=number, attempt=2, nonce=f"again-{number}", at_ms=bench.clock.ms)
        first.claims[number] = replace(claim, node=first.name, attempt=1, nonce=f"once-{number}")
        second.claims[number] = claim
        first.deliver(number)
        second.deliver(number, body=f"rendered {number} once more".encode())
    bench.cloud.objects.opened.clear()

    bench.tick()
    assert len(bench.cloud.objects.opened) == MOST_AT_ONCE
    bench.tick()

    assert len(bench.cloud.objects.opened) == count
    assert all(_known(bench, job, number) == _stored(bench, job, number) for number in range(1, count + 1))
