"""Frames that are asked for again: damaged ones that keep a zip from being made, or any that a person does not like."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable

import pytest

from nodeimage.protocol import claim_key, log_key, output_key
from supervisor import queries
from supervisor.commands import downloads
from supervisor.commands import jobs as commands
from supervisor.domain.download import DownloadStatus
from supervisor.domain.errors import Conflict, NotFound, Rejected
from supervisor.domain.frame import FrameStatus
from supervisor.domain.job import JobStatus
from supervisor.lifecycle.pack import pack
from supervisor.queries import DownloadView
from supervisor.store import downloads as store
from tests.fakes.farm import FakeFarm
from tests.fakes.node import FakeNodes


def _completed(bench: FakeFarm, nodes: FakeNodes, frames: str = "1-5") -> str:
    job = bench.a_submitted_job(frames=frames)
    assert nodes.finish(job) is JobStatus.COMPLETED
    return job


def _packed(bench: FakeFarm, job: str) -> DownloadView:
    bench.clock.pass_s(1)
    download = downloads.begin_download(bench.farm, job)
    with bench.farm.db.read() as connection:
        found = store.find(connection, download)
    assert found is not None
    pack(bench.farm, found)
    return downloads.download(bench.farm, download)


def _names(bench: FakeFarm, download: str) -> list[str]:
    opened = downloads.open_download(bench.farm, download)
    with zipfile.ZipFile(io.BytesIO(b"".join(opened.send(0, opened.bytes)))) as archive:
        assert archive.testzip() is None
        return archive.namelist()


def _lose(bench: FakeFarm, job: str, frame: int) -> None:
    bench.cloud.objects.delete([output_key(job, frame, f"{frame:04d}.png")])


def _truncate(bench: FakeFarm, job: str, frame: int) -> None:
    bench.cloud.objects.place(output_key(job, frame, f"{frame:04d}.png"), b"pic", etag="cut")


def _spoil(bench: FakeFarm, job: str, frame: int) -> None:
    """Change the object's content, not its size."""
    bench.cloud.objects.place(output_key(job, frame, f"{frame:04d}.png"), b"x" * len(f"picture {frame}"), etag="spoilt")


def _statuses(bench: FakeFarm, job: str) -> list[FrameStatus]:
    return [frame.status for frame in queries.job_frames(bench.farm, job)]


@pytest.mark.parametrize("harm", [_lose, _truncate])
def test_every_frame_that_a_zip_lacks_is_named_and_rendered_again_alone(
    bench: FakeFarm, nodes: FakeNodes, harm: Callable[[FakeFarm, str, int], None]
) -> None:
    job = _completed(bench, nodes)
    for frame in (2, 4):
        harm(bench, job, frame)

    failed = _packed(bench, job)

    assert failed.status is DownloadStatus.FAILED
    assert failed.reason.startswith("frames 2,4 are not in the store as their nodes delivered them")
    assert queries.damaged_frames(bench.farm, job) == [2, 4]
    (problem,) = queries.job_detail(bench.farm, job).problems
    assert (problem.code, problem.severity) == ("damaged_frames", "error")
    assert problem.text.startswith("frames 2,4 are not in the store as delivered")
    assert "frame 2" in queries.job_frame(bench.farm, job, 2).damage

    commands.render_again(bench.farm, job)

    assert bench.status(job) is JobStatus.SUBMITTED
    assert queries.job_summary(bench.farm, job).reason == "a person asked for frames 2,4 again"
    for _ in range(3):
        bench.tick()
    node = nodes.only()
    assert nodes.finish(job) is JobStatus.COMPLETED
    assert node.delivered == [2, 4]
    assert queries.damaged_frames(bench.farm, job) == []
    assert queries.job_detail(bench.farm, job).problems == ()
    ready = _packed(bench, job)
    assert len(_names(bench, ready.id)) == 5


def test_a_frame_that_is_found_spoilt_while_its_zip_is_sent_is_remembered(bench: FakeFarm, nodes: FakeNodes) -> None:
    job = _completed(bench, nodes)
    ready = _packed(bench, job)
    _spoil(bench, job, 3)
    with pytest.raises(downloads.ZipBroken):
        _names(bench, ready.id)
    assert queries.damaged_frames(bench.farm, job) == [3]

    again = _packed(bench, job)

    assert again.status is DownloadStatus.FAILED, "its size is right, but it is known to be spoilt"
    assert again.reason.startswith("“0003.png” of frame 3 is not what its node delivered")


def test_a_frame_that_somebody_put_back_is_damaged_no_more(bench: FakeFarm, nodes: FakeNodes) -> None:
    job = _completed(bench, nodes)
    ready = _packed(bench, job)
    _spoil(bench, job, 3)
    with pytest.raises(downloads.ZipBroken):
        _names(bench, ready.id)
    bench.cloud.objects.place(output_key(job, 3, "0003.png"), b"picture 3", etag="from a backup")

    again = _packed(bench, job)

    assert len(_names(bench, again.id)) == 5
    assert queries.damaged_frames(bench.farm, job) == []


def test_a_zip_that_is_sent_while_a_frame_is_rendered_again_does_not_call_it_damaged(bench: FakeFarm, nodes: FakeNodes) -> None:
    job = _completed(bench, nodes)
    ready = _packed(bench, job)
    opened = downloads.open_download(bench.farm, ready.id)
    commands.render_again(bench.farm, job, [3])
    _spoil(bench, job, 3)

    with pytest.raises(downloads.ZipBroken, match="rendered anew"):
        b"".join(opened.send(0, opened.bytes))

    assert queries.damaged_frames(bench.farm, job) == []


def test_a_frame_rendered_again_has_a_new_attempt_a_log_of_its_own_and_another_picture(bench: FakeFarm, nodes: FakeNodes) -> None:
    job = _completed(bench, nodes)
    before = queries.job_frame(bench.farm, job, 2)

    commands.render_again(bench.farm, job, [2])

    waiting = queries.job_frame(bench.farm, job, 2)
    assert (waiting.status, waiting.attempt, waiting.has_preview) == (FrameStatus.QUEUED, before.attempt + 1, False)
    assert bench.cloud.objects.keys(claim_key(job, 2)), "its old claim goes when the order tells of the new attempt"
    assert nodes.finish(job) is JobStatus.COMPLETED
    assert queries.job_frame(bench.farm, job, 2).has_preview
    assert bench.cloud.objects.keys(log_key(job, 2, 1))
    assert bench.cloud.objects.keys(log_key(job, 2, 2))


def test_a_zip_that_has_a_frame_as_it_was_before_it_was_rendered_again_is_not_the_newest(bench: FakeFarm, nodes: FakeNodes) -> None:
    job = _completed(bench, nodes)
    _packed(bench, job)
    assert downloads.is_packed(bench.farm, job, received=5)

    commands.render_again(bench.farm, job, [2])
    assert nodes.finish(job) is JobStatus.COMPLETED

    assert not downloads.is_packed(bench.farm, job, received=5)


def test_a_frame_is_rendered_again_while_the_job_goes_on(bench: FakeFarm, nodes: FakeNodes) -> None:
    job = bench.a_rendering_job(frames="1-3")
    node = nodes.only()
    node.begin()
    node.deliver(1)
    bench.tick()

    commands.render_again(bench.farm, job, [1])

    assert bench.status(job) is JobStatus.RENDERING
    assert nodes.finish(job) is JobStatus.COMPLETED
    assert sorted(node.delivered) == [1, 1, 2, 3]


def test_a_frame_asked_for_while_the_store_is_looked_through_keeps_the_job_at_work(bench: FakeFarm, nodes: FakeNodes) -> None:
    job = bench.a_rendering_job(frames="1-2")
    node = nodes.only()
    for frame in (1, 2):
        node.begin()
        node.deliver(frame)
    asked: list[int] = []

    def ask_once() -> None:
        if not asked and not queries.job_summary(bench.farm, job).frames.unended:
            asked.append(1)
            commands.render_again(bench.farm, job, [1])

    bench.cloud.objects.before_list = ask_once

    bench.tick()

    assert asked
    assert bench.status(job) is JobStatus.RENDERING
    assert nodes.finish(job) is JobStatus.COMPLETED
    assert node.delivered == [1, 2, 1]


def test_a_paused_job_stays_paused(bench: FakeFarm, nodes: FakeNodes) -> None:
    job = bench.a_rendering_job(frames="1-6")
    nodes.work()
    commands.pause_job(bench.farm, job)
    bench.tick()
    nodes.work()
    bench.tick()
    assert bench.status(job) is JobStatus.PAUSED

    commands.render_again(bench.farm, job, [1])

    assert bench.status(job) is JobStatus.PAUSED
    commands.resume_job(bench.farm, job)
    assert nodes.finish(job) is JobStatus.COMPLETED


def test_a_failed_frame_is_tried_again_alone_and_the_others_that_failed_stay(bench: FakeFarm, nodes: FakeNodes) -> None:
    job = bench.a_rendering_job(frames="1-13")
    node = nodes.only()
    node.begin()
    node.deliver(1)
    for frame in range(2, 13):
        for _ in range(3):
            assert node.begin() == frame
            node.fail(frame)
            bench.tick()
    assert nodes.finish(job) is JobStatus.FAILED
    assert _statuses(bench, job).count(FrameStatus.FAILED) == 11

    bench.clock.pass_s(1)
    commands.render_again(bench.farm, job, [2])

    assert len(queries.job_detail(bench.farm, job).problems) == 10
    assert nodes.finish(job) is JobStatus.FAILED
    assert [number for number, status in enumerate(_statuses(bench, job), 1) if status is FrameStatus.FAILED] == list(range(3, 13))


def test_of_a_cancelled_job_what_is_missing_is_rendered_too_and_it_says_so(bench: FakeFarm, nodes: FakeNodes) -> None:
    job = bench.a_rendering_job(frames="1-5")
    node = nodes.only()
    node.begin()
    node.deliver(1)
    bench.tick()
    commands.cancel_job(bench.farm, job)
    bench.tick()
    bench.tick()
    assert bench.status(job) is JobStatus.CANCELLED

    commands.render_again(bench.farm, job, [1])

    assert queries.job_summary(bench.farm, job).reason == "a person asked for frame 1 again; 4 that are missing are rendered too"
    assert nodes.finish(job) is JobStatus.COMPLETED


@pytest.mark.parametrize(
    ("numbers", "says"), [([9], "this job has no frame 9"), ([2, 9, 10], "no frames 9-10"), ([2], "frame 2 is to be rendered anyway")]
)
def test_frames_that_can_not_be_asked_for_again_are_refused_by_their_field(
    bench: FakeFarm, nodes: FakeNodes, numbers: list[int], says: str
) -> None:
    job = bench.a_submitted_job(frames="1-3")
    bench.tick()

    with pytest.raises(Rejected, match=says) as refusal:
        commands.render_again(bench.farm, job, numbers)
    assert refusal.value.field == "frames"


def test_a_job_without_damage_wants_its_frames_named(bench: FakeFarm, nodes: FakeNodes) -> None:
    job = _completed(bench, nodes)
    with pytest.raises(Conflict, match="name the frames"):
        commands.render_again(bench.farm, job)
    assert bench.status(job) is JobStatus.COMPLETED
    with pytest.raises(NotFound):
        commands.render_again(bench.farm, "job_gone", [1])


def test_a_draft_and_a_job_that_is_given_back_are_left_alone(bench: FakeFarm, nodes: FakeNodes) -> None:
    with pytest.raises(Conflict, match="a draft has no frames yet"):
        commands.render_again(bench.farm, bench.a_draft(), [1])
    job = bench.a_rendering_job(frames="1-3")
    nodes.only().begin()
    commands.cancel_job(bench.farm, job)
    with pytest.raises(Conflict, match="has to end or pause first"):
        commands.render_again(bench.farm, job, [1])
