"""A job keeps the Blender that it was given when it was submitted, whatever comes to the farm or goes meanwhile."""

from __future__ import annotations

from pathlib import Path

import pytest

from supervisor import queries
from supervisor.cloud.ports import BlenderFound
from supervisor.commands import jobs as commands
from supervisor.domain.errors import Rejected
from supervisor.domain.job import JobStatus
from supervisor.domain.settings import JobSettings
from supervisor.lifecycle.blenders import note_blender
from supervisor.store import frames, jobs
from supervisor.store.jobs import Job
from tests.fakes.farm import FakeFarm, an_inspection


@pytest.fixture
def bench(tmp_path: Path) -> FakeFarm:
    bench = FakeFarm.open(tmp_path)
    has(bench, "4.2.23", "4.5.14")
    return bench


def has(bench: FakeFarm, *versions: str) -> None:
    """Let the farm have these Blenders."""
    bench.cloud.premises.blenders_found = [BlenderFound(version=version, where="somewhere") for version in versions]


def a_job(bench: FakeFarm, *, saved_by: tuple[int, int] = (4, 3), settings: JobSettings | None = None) -> str:
    job = bench.a_draft(inspection=an_inspection(version=saved_by))
    commands.submit_job(bench.farm, job, settings)
    return job


def version(bench: FakeFarm, job: str) -> str:
    return queries.job_detail(bench.farm, job).blender_version


def launched(bench: FakeFarm) -> list[tuple[int, ...]]:
    return [spec.blender_version for spec in bench.cloud.compute.launches]


def lose_everything(bench: FakeFarm) -> None:
    """Let the cloud end every instance, and the farm ask for others."""
    bench.cloud.compute.terminate([each.id for each in bench.cloud.compute.instances()])
    for _ in range(4):
        bench.tick(after_s=60)


def row(bench: FakeFarm, job: str) -> Job:
    with bench.farm.db.read() as connection:
        found = jobs.find_job(connection, job)
    assert found is not None
    return found


def ended(bench: FakeFarm, job: str, *, received: int) -> None:
    """Cancel a job, some of whose frames have been received."""
    bench.tick()
    with bench.farm.db.write() as connection:
        for number in range(1, received + 1):
            delivery = frames.Delivery(node="node_1", attempt=1, render_s=1.0, peak_memory_bytes=1, outputs=(), has_preview=False)
            frames.receive(connection, job, number, delivery, at=bench.clock())
    commands.cancel_job(bench.farm, job)
    for _ in range(4):
        bench.tick(after_s=60)
    assert bench.status(job) is JobStatus.CANCELLED


def test_version_is_decided_when_a_job_is_submitted_and_launched_with(bench: FakeFarm) -> None:
    job = a_job(bench)
    assert version(bench, job) == "4.5.14"
    bench.tick()
    assert launched(bench) == [(4, 5, 14)]


def test_chosen_series_is_launched_instead_of_the_files_own(bench: FakeFarm) -> None:
    a_job(bench, saved_by=(4, 2), settings=JobSettings(blender="4.5"))
    bench.tick()
    assert launched(bench) == [(4, 5, 14)]


def test_newer_blender_that_comes_in_the_middle_changes_nothing(bench: FakeFarm) -> None:
    a_job(bench)
    bench.tick()
    has(bench, "4.2.23", "4.3.2", "4.5.14", "4.5.15")
    lose_everything(bench)
    assert len(launched(bench)) > 1
    assert set(launched(bench)) == {(4, 5, 14)}


def test_job_that_an_older_farm_submitted_is_given_a_version_at_its_next_launch(bench: FakeFarm) -> None:
    job = a_job(bench)
    with bench.farm.db.write() as connection:
        jobs.change_job(connection, job, blender_version="")
    bench.tick()
    assert (version(bench, job), launched(bench)) == ("4.5.14", [(4, 5, 14)])


def test_node_tells_the_version_more_exactly_and_never_another_series(bench: FakeFarm) -> None:
    job = a_job(bench)
    for told, kept in (("4.5.15 LTS", "4.5.15"), ("5.0.1", "4.5.15"), ("", "4.5.15")):
        with bench.farm.db.write() as connection:
            note_blender(connection, row(bench, job), told)
        assert version(bench, job) == kept


def test_retry_goes_on_with_the_version_of_the_frames_that_there_are(bench: FakeFarm) -> None:
    job = a_job(bench)
    ended(bench, job, received=1)
    has(bench, "4.3.2", "4.5.14", "5.2.2")
    commands.retry_job(bench.farm, job)
    assert version(bench, job) == "4.5.14"


def test_retry_with_another_release_of_the_series_is_written_down(bench: FakeFarm) -> None:
    job = a_job(bench)
    ended(bench, job, received=1)
    has(bench, "4.3.2", "4.5.15")
    commands.retry_job(bench.farm, job)
    assert version(bench, job) == "4.5.15"


def test_retry_after_the_series_is_gone_is_refused_while_there_are_frames_of_it(bench: FakeFarm) -> None:
    job = a_job(bench)
    ended(bench, job, received=2)
    has(bench, "5.2.2")
    with pytest.raises(Rejected, match=r"its 2 frames so far were rendered by Blender 4\.5\.14, and this farm has 5\.2\.2 now") as refused:
        commands.retry_job(bench.farm, job)
    assert "submit what is missing as a new job" in str(refused.value)
    assert bench.status(job) is JobStatus.CANCELLED


def test_retry_without_a_frame_so_far_takes_what_there_is_now(bench: FakeFarm) -> None:
    job = a_job(bench)
    ended(bench, job, received=0)
    has(bench, "5.2.2")
    commands.retry_job(bench.farm, job)
    assert version(bench, job) == "5.2.2"


def test_draft_says_what_would_render_it_and_that_it_is_newer(bench: FakeFarm) -> None:
    job = bench.a_draft(inspection=an_inspection(version=(4, 3)))
    detail = queries.job_detail(bench.farm, job)
    assert (detail.blender_version, detail.blender_words) == ("4.5.14", "Saved by Blender 4.3; rendered with 4.5.14.")
    commands.change_settings(bench.farm, job, JobSettings(blender="4.2"))
    assert queries.job_detail(bench.farm, job).blender_version == ""


def test_wish_that_the_farm_does_not_have_is_refused_before_there_is_a_file(bench: FakeFarm) -> None:
    job = bench.a_draft(blend=None)
    with pytest.raises(Rejected, match=r"no Blender 4\.4; it has 4\.2\.23, 4\.5\.14"):
        commands.change_settings(bench.farm, job, JobSettings(blender="4.4"))
    commands.change_settings(bench.farm, job, JobSettings(blender="4.5"))
    assert queries.job_detail(bench.farm, job).settings.blender == "4.5"
