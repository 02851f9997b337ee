"""What people can ask of jobs, and what they are told when it can't be done."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest

from supervisor import queries
from supervisor.cloud.ports import BlenderFound
from supervisor.commands import jobs as commands
from supervisor.config import Config, RenderConfig
from supervisor.domain.errors import Conflict, NotFound, OutOfSpace, Rejected
from supervisor.domain.file import FileStatus
from supervisor.domain.instance import Market
from supervisor.domain.job import JobStatus
from supervisor.domain.settings import JobSettings, OutputSettings
from supervisor.domain.workspace import WorkspaceMode
from supervisor.store import deletions, jobs
from tests.fakes.farm import FakeFarm, a_scene, an_image, an_inspection


def test_a_new_job_is_a_draft_that_says_what_it_lacks(bench: FakeFarm) -> None:
    job = commands.create_job(bench.farm, name="  Shot\n 12 ", owner_id=None)

    detail = queries.job_detail(bench.farm, job)

    assert detail.summary.status is JobStatus.DRAFT
    assert detail.summary.name == "Shot 12"
    assert detail.blockers == ("this job has no files; upload a .blend",)


def test_a_job_whose_files_are_on_their_way_is_not_said_to_lack_a_blend(bench: FakeFarm) -> None:
    job = bench.a_draft(blend=None)
    bench.a_file(job, "shot.blend", status=FileStatus.UPLOADING)
    bench.a_file(job, "wood.png")
    [blocker] = queries.job_detail(bench.farm, job).blockers
    assert blocker.startswith("one file is still being uploaded")


def test_a_job_with_files_and_no_blend_is_said_to_lack_it(bench: FakeFarm) -> None:
    job = bench.a_draft(blend=None)
    bench.a_file(job, "wood.png")
    assert queries.job_detail(bench.farm, job).blockers == ("this job has no .blend; upload one",)


def test_a_job_without_a_name_bears_its_main_files(bench: FakeFarm) -> None:
    job = bench.a_draft(blend=None)
    assert queries.job_summary(bench.farm, job).name == "Untitled"

    bench.a_file(job, "film/Shot 7.blend")

    assert queries.job_summary(bench.farm, job).name == "Shot 7"


def test_a_submitted_job_has_the_frames_of_its_scene(bench: FakeFarm) -> None:
    job = bench.a_draft(inspection=an_inspection(scenes=(a_scene(frames=(-4, 6, 5)),)))

    commands.submit_job(bench.farm, job)

    assert [frame.number for frame in queries.job_frames(bench.farm, job)] == [-4, 1, 6]
    detail = queries.job_detail(bench.farm, job)
    assert detail.summary.status is JobStatus.SUBMITTED
    assert detail.frames_spec == "-4-6x5"
    assert "-4-6x5 on one instance" in detail.summary.reason
    assert bench.woken.is_set()


def test_a_submitted_job_has_the_frames_asked_for(bench: FakeFarm) -> None:
    job = bench.a_submitted_job(frames="1,5,10-12")

    assert [frame.number for frame in queries.job_frames(bench.farm, job)] == [1, 5, 10, 11, 12]


@pytest.mark.parametrize(
    ("settings", "field", "said"),
    [
        (JobSettings(frames="10-1"), "frames", "ends before it begins"),
        (JobSettings(frames="1-1000000000"), "frames", "more than 100000 frames"),
        (JobSettings(instances=0), "instances", "1 to 64"),
        (JobSettings(instances=65), "instances", "1 to 64"),
        (JobSettings(scene="Attic"), "scene", "it has “Scene”"),
        (JobSettings(camera="Drone"), "camera", "it has “Camera”"),
        (JobSettings(blender="4.4"), "blender", r"no Blender 4\.4; it has 4\.5\.15"),
        (JobSettings(market=Market.SPOT), "market", "spot needs AWS"),
        (JobSettings(max_price_usd_per_h=Decimal(1)), "max_price_usd_per_h", "spot"),
        (JobSettings(instance_types=("g5.xlarge",)), "instance_types", "its own machine"),
        (JobSettings(workspace_mode=WorkspaceMode.SNAPSHOT), "workspace_mode", "its own machine"),
        (JobSettings(output=OutputSettings(format="FFMPEG")), "output.format", "PNG"),
        (JobSettings(output=OutputSettings(resolution_pct=0)), "output.resolution_pct", "1 to 1000"),
        (JobSettings(output=OutputSettings(samples=0)), "output.samples", "1 to 65536"),
        (JobSettings(output=OutputSettings(name="a/b")), "output.name", "'/'"),
    ],
)
def test_a_submit_that_cannot_work_names_the_field_and_changes_nothing(
    bench: FakeFarm, settings: JobSettings, field: str, said: str
) -> None:
    job = bench.a_draft()

    with pytest.raises(Rejected, match=said) as refused:
        commands.submit_job(bench.farm, job, settings)

    assert refused.value.field == field
    assert queries.job_summary(bench.farm, job).status is JobStatus.DRAFT
    assert queries.job_frames(bench.farm, job) == []


def test_a_scene_longer_than_a_job_may_be_is_refused_with_its_length(tmp_path: Path) -> None:
    bench = FakeFarm.open(tmp_path, config=Config(render=RenderConfig(max_frames=100)))
    job = bench.a_draft(inspection=an_inspection(scenes=(a_scene(frames=(1, 250, 1)),)))

    with pytest.raises(Rejected, match="has 250 frames, and one job may have 100"):
        commands.submit_job(bench.farm, job)


def test_a_scene_without_a_camera_is_refused(bench: FakeFarm) -> None:
    job = bench.a_draft(inspection=an_inspection(scenes=(a_scene(camera=None, cameras=()),)))

    with pytest.raises(Rejected, match="has no camera"):
        commands.submit_job(bench.farm, job)


def test_a_blend_newer_than_every_blender_is_refused_with_both_versions(bench: FakeFarm) -> None:
    bench.cloud.premises.blenders_found = [BlenderFound(version="4.2.23", where="a"), BlenderFound(version="4.5.15", where="b")]
    job = bench.a_draft(inspection=an_inspection(version=(5, 0)))

    with pytest.raises(Rejected, match=r"saved by Blender 5\.0, and the newest Blender of this farm is 4\.5\.15") as refused:
        commands.submit_job(bench.farm, job)

    assert refused.value.field == "main_file"


def test_a_farm_without_blender_says_so(bench: FakeFarm) -> None:
    bench.cloud.premises.blenders_found = []

    with pytest.raises(Rejected, match="kiln doctor"):
        commands.submit_job(bench.farm, bench.a_draft())


def test_a_job_with_two_blends_waits_for_a_choice(bench: FakeFarm) -> None:
    job = bench.a_draft(blend="a.blend")
    second = bench.a_file(job, "b.blend")

    with pytest.raises(Rejected, match="choose the one to render") as refused:
        commands.submit_job(bench.farm, job)
    assert refused.value.field == "main_file"

    commands.choose_main_file(bench.farm, job, file=second)
    commands.submit_job(bench.farm, job)

    main = queries.job_detail(bench.farm, job).main_file
    assert main is not None
    assert main.path == "b.blend"


@pytest.mark.parametrize(
    ("status", "said"),
    [(FileStatus.UPLOADING, "still being uploaded"), (FileStatus.CHECKING, "being checked"), (FileStatus.BAD, "truncated")],
)
def test_a_job_whose_files_are_not_all_usable_is_not_submitted(bench: FakeFarm, status: FileStatus, said: str) -> None:
    job = bench.a_draft()
    bench.a_file(job, "wood.png", status=status)

    with pytest.raises(Rejected, match=said) as refused:
        commands.submit_job(bench.farm, job)

    assert refused.value.field == "files"


def test_missing_files_do_not_stop_a_job_but_are_problems_of_it(bench: FakeFarm) -> None:
    job = bench.a_draft(inspection=an_inspection(dependencies=(an_image("wood.png"), an_image("oak.png"))))
    bench.a_file(job, "oak.png")

    commands.submit_job(bench.farm, job)

    problems = queries.job_detail(bench.farm, job).problems
    assert [(problem.code, problem.about, problem.severity) for problem in problems] == [("missing_file", "//wood.png", "warning")]


def test_a_full_disk_stops_a_submit(bench: FakeFarm) -> None:
    job = bench.a_draft()
    bench.cloud.premises.free = 1 << 30

    with pytest.raises(OutOfSpace):
        commands.submit_job(bench.farm, job)

    assert queries.job_summary(bench.farm, job).status is JobStatus.DRAFT


def test_settings_of_a_draft_are_kept_and_checked(bench: FakeFarm) -> None:
    job = bench.a_draft()
    settings = JobSettings(frames="5", instances=3, output=OutputSettings(name="shot_", samples=16), persistent_data=False)

    commands.change_settings(bench.farm, job, settings)

    assert queries.job_detail(bench.farm, job).settings == settings
    assert queries.job_detail(bench.farm, job).frames_spec == "5"
    with pytest.raises(Rejected):
        commands.change_settings(bench.farm, job, replace(settings, scene="Attic"))


def test_a_job_is_submitted_once(bench: FakeFarm) -> None:
    job = bench.a_submitted_job()

    with pytest.raises(Conflict, match="submitted"):
        commands.submit_job(bench.farm, job)


def test_a_submitted_job_is_cancelled_at_once(bench: FakeFarm) -> None:
    job = bench.a_submitted_job()

    commands.cancel_job(bench.farm, job)

    assert queries.job_summary(bench.farm, job).status is JobStatus.CANCELLED
    assert queries.job_events(bench.farm, job)[0].text == "cancelled by a person"


def test_a_cancelled_job_that_is_retried_is_submitted_again(bench: FakeFarm) -> None:
    job = bench.a_submitted_job()
    commands.cancel_job(bench.farm, job)

    commands.retry_job(bench.farm, job)

    summary = queries.job_summary(bench.farm, job)
    assert summary.status is JobStatus.SUBMITTED
    assert summary.ended_at is None


def test_commands_that_the_status_forbids_name_it(bench: FakeFarm) -> None:
    job = bench.a_draft()

    for command in (commands.pause_job, commands.resume_job, commands.cancel_job, commands.retry_job):
        with pytest.raises(Conflict, match="this job is draft"):
            command(bench.farm, job)
    with pytest.raises(Conflict, match="cancel it first"):
        commands.delete_job(bench.farm, bench.a_submitted_job())


def test_a_deleted_job_is_gone_and_leaves_word_of_what_remains(bench: FakeFarm) -> None:
    job = bench.a_draft()
    seen = queries.jobs_version(bench.farm)

    commands.delete_job(bench.farm, job)

    with pytest.raises(NotFound):
        queries.job_detail(bench.farm, job)
    with bench.farm.db.read() as connection:
        assert [left.job for left in deletions.deletions_left(connection)] == [job]
    assert queries.jobs_version(bench.farm) > seen


def test_every_change_of_a_job_raises_its_version_and_the_lists(bench: FakeFarm) -> None:
    job = bench.a_draft()
    versions = [(queries.job_summary(bench.farm, job).version, queries.jobs_version(bench.farm))]

    commands.rename_job(bench.farm, job, name="Other")
    versions.append((queries.job_summary(bench.farm, job).version, queries.jobs_version(bench.farm)))
    commands.submit_job(bench.farm, job)
    versions.append((queries.job_summary(bench.farm, job).version, queries.jobs_version(bench.farm)))

    assert versions == sorted(set(versions))


def test_a_move_that_lost_the_race_changes_nothing(bench: FakeFarm) -> None:
    job = bench.a_submitted_job()
    with bench.farm.db.read() as connection:
        seen = jobs.find_job(connection, job)
    assert seen is not None
    commands.cancel_job(bench.farm, job)

    with bench.farm.db.write() as connection:
        assert not jobs.move(connection, seen, JobStatus.STAGING, because="taken up", at=bench.clock())

    assert queries.job_summary(bench.farm, job).status is JobStatus.CANCELLED


def test_jobs_are_listed_newest_first_in_pages(bench: FakeFarm) -> None:
    made = []
    for number in range(3):
        made.append(bench.a_draft(name=f"job {number}"))
        bench.clock.pass_s(1)

    first = queries.job_list(bench.farm, limit=2)
    rest = queries.job_list(bench.farm, after=first[-1].id, limit=2)

    assert [summary.id for summary in first + rest] == made[::-1]
