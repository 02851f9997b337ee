"""How a job's files are made ready, and what holds that up."""

from __future__ import annotations

from pathlib import Path

import pytest

from supervisor import queries
from supervisor.commands import jobs as commands
from supervisor.domain.job import JobStatus
from supervisor.domain.settings import JobSettings
from supervisor.domain.workspace import WorkspaceMode
from supervisor.lifecycle.intake import check_pending
from tests.fakes.farm import FakeFarm, renting
from tests.fakes.node import FakeNodes


def test_a_job_whose_files_do_not_verify_fails_and_says_which(bench: FakeFarm) -> None:
    job = bench.a_draft()
    bench.a_file(job, "wood.png")
    bench.cloud.objects.place(f"projects/{job}/wood.png", b"other", etag="x")
    commands.submit_job(bench.farm, job)

    bench.tick()

    summary = queries.job_summary(bench.farm, job)
    assert summary.status is JobStatus.FAILED
    assert "wood.png" in summary.reason
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
    bench = FakeFarm.open(tmp_path, config=renting())
    job = bench.a_submitted_job(settings=JobSettings(workspace_mode=mode))

    bench.tick()

    assert bench.cloud.workspaces.modes == {job: mode}


def test_a_workspace_that_is_gone_is_staged_again(bench: FakeFarm, nodes: FakeNodes) -> None:
    job = bench.a_rendering_job(frames="1-6")
    nodes.work()
    commands.pause_job(bench.farm, job)
    bench.tick()
    nodes.work()
    bench.tick()
    bench.cloud.workspaces.lose(job)

    commands.resume_job(bench.farm, job)

    assert nodes.finish(job) is JobStatus.COMPLETED
