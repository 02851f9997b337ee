"""Files dropped into the bucket's inbox become jobs, once, whatever interrupts it."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

from nodeimage.protocol import INBOX_PREFIX
from supervisor import queries
from supervisor.cloud.ports import Unreachable
from supervisor.domain.job import JobStatus
from supervisor.lifecycle.inbox import take_in_inbox
from supervisor.lifecycle.intake import check_pending
from tests.fakes.farm import FakeFarm

SAMPLE = Path(__file__).parents[2] / "samples" / "kiln.blend"


def _drop(bench: FakeFarm, name: str, body: bytes) -> None:
    bench.cloud.objects.put(INBOX_PREFIX + name, body)


def _left(bench: FakeFarm) -> list[str]:
    return list(bench.cloud.objects.keys(INBOX_PREFIX))


def test_a_blend_in_the_inbox_becomes_a_submitted_job(bench: FakeFarm) -> None:
    _drop(bench, "Shot 12.blend", SAMPLE.read_bytes())

    take_in_inbox(bench.farm)

    (job,) = queries.job_list(bench.farm)
    assert (job.name, job.status, job.frames.total) == ("Shot 12", JobStatus.SUBMITTED, 24)
    assert _left(bench) == []
    assert bench.woken.is_set()


def test_a_zip_in_the_inbox_is_unpacked_first(bench: FakeFarm) -> None:
    body = io.BytesIO()
    with zipfile.ZipFile(body, "w") as archive:
        archive.writestr("film/kiln.blend", SAMPLE.read_bytes())
        archive.writestr("film/notes.txt", "hello")
    _drop(bench, "film.zip", body.getvalue())

    for _ in range(3):
        take_in_inbox(bench.farm)
        check_pending(bench.farm)

    (job,) = queries.job_list(bench.farm)
    assert job.status is JobStatus.SUBMITTED
    assert [file.path for file in queries.job_files(bench.farm, job.id)] == ["film/kiln.blend", "film/notes.txt"]
    assert _left(bench) == []


def test_a_file_that_can_not_be_rendered_stays_a_draft_that_says_why(bench: FakeFarm) -> None:
    _drop(bench, "shot.blend", b"this is no Blender file")

    take_in_inbox(bench.farm)
    take_in_inbox(bench.farm)

    (job,) = queries.job_list(bench.farm)
    assert job.status is JobStatus.DRAFT
    (problem,) = queries.job_detail(bench.farm, job.id).problems
    assert problem.code == "inbox"
    assert "shot.blend" in problem.text
    assert _left(bench) == []


def test_an_interruption_makes_no_second_job(bench: FakeFarm) -> None:
    _drop(bench, "shot.blend", SAMPLE.read_bytes())
    bench.cloud.objects.fail_next(Unreachable("no answer"), call="open")
    take_in_inbox(bench.farm)
    assert [job.status for job in queries.job_list(bench.farm)] == [JobStatus.DRAFT]
    bench.cloud.objects.fail_next(Unreachable("no answer"), call="delete")
    take_in_inbox(bench.farm)

    take_in_inbox(bench.farm)

    assert [job.status for job in queries.job_list(bench.farm)] == [JobStatus.SUBMITTED]
    assert _left(bench) == []


def test_the_same_file_dropped_again_is_another_job(bench: FakeFarm) -> None:
    for _ in range(2):
        _drop(bench, "shot.blend", SAMPLE.read_bytes())
        take_in_inbox(bench.farm)
        bench.clock.pass_s(60)

    assert len(queries.job_list(bench.farm)) == 2


def test_other_files_in_the_inbox_are_left_alone(bench: FakeFarm) -> None:
    _drop(bench, "notes.txt", b"hello")
    _drop(bench, "folder/shot.blend", SAMPLE.read_bytes())

    take_in_inbox(bench.farm)

    assert queries.job_list(bench.farm) == []
    assert len(_left(bench)) == 2


def test_a_full_disk_leaves_the_file_for_later(bench: FakeFarm) -> None:
    _drop(bench, "shot.blend", SAMPLE.read_bytes())
    bench.cloud.premises.free = 1 << 20
    take_in_inbox(bench.farm)
    assert _left(bench)

    bench.cloud.premises.free = 100 << 30
    take_in_inbox(bench.farm)

    (job,) = queries.job_list(bench.farm)
    assert job.status is JobStatus.SUBMITTED
    assert queries.job_detail(bench.farm, job.id).problems == ()
