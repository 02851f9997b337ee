"""A job whose files are brought to instances by a snapshot: the lifecycle over workspaces on AWS, tick by tick."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from nodeimage.launch import StagingState
from supervisor import queries
from supervisor.cloud.aws.session import AwsSession
from supervisor.commands import jobs as commands
from supervisor.domain.job import JobStatus
from supervisor.domain.settings import JobSettings
from supervisor.domain.workspace import WorkspaceMode
from supervisor.lifecycle.sweep import sweep
from tests.fakes.farm import FakeFarm, renting

from .moto_server import Moto
from .premises_place import PremisesPlace
from .workspace_place import WorkspacePlace

BODY = b"BLENDER"


@dataclass
class Preparing:
    """A farm on fakes, but for its workspaces and premises, which are AWS's."""

    bench: FakeFarm
    place: WorkspacePlace

    def a_job(self) -> str:
        return self.bench.a_submitted_job(settings=JobSettings(workspace_mode=WorkspaceMode.SNAPSHOT))

    def tick(self) -> None:
        self.bench.tick(after_s=2)

    def reason(self, job: str) -> str:
        return queries.job_summary(self.bench.farm, job).reason

    def running(self) -> str:
        """Let the staging instance run. Returns: its id"""
        self.place.moto.tell("settle")
        [one] = self.place.player.staging_instances("running")
        return str(one["InstanceId"])

    def rented(self) -> tuple[int, int]:
        """Staging instances and volumes that are there."""
        self.place.moto.tell("settle")
        return len(self.place.player.staging_instances("pending", "running")), len(self.place.volumes())


@pytest.fixture
def farm(moto: Moto, aws_session: AwsSession, tmp_path: Path) -> Preparing:
    moto.change(is_slow=True)
    bench = FakeFarm.open(tmp_path, config=renting())
    place = WorkspacePlace(moto, aws_session, objects=bench.cloud.objects, clock=bench.clock)
    premises = PremisesPlace(place, tmp_path).premises
    cloud = replace(bench.farm.cloud, workspaces=place.workspaces, premises=premises)
    bench.farm = replace(bench.farm, cloud=cloud)
    bench.restart()
    return Preparing(bench, place)


def test_instances_are_launched_from_the_snapshot_and_people_read_how_it_is_made(farm: Preparing) -> None:
    job = farm.a_job()
    farm.tick()
    said = [farm.reason(job)]
    instance = farm.running()
    farm.place.player.report(instance, StagingState.RUNNING, done=3)
    farm.tick()
    said.append(farm.reason(job))
    farm.place.player.finish(instance)
    farm.tick()
    said.append(farm.reason(job))
    assert said == [
        "the instance that copies its files is starting",
        "the volume is being filled: 42 %",
        "the snapshot is being made: 40 %",
    ]
    farm.place.moto.tell("settle")
    farm.tick()
    assert farm.bench.status(job) is JobStatus.LAUNCHING
    [snapshot] = farm.place.snapshots()
    [launch] = farm.bench.cloud.compute.launches
    assert (launch.workspace, launch.workspace_bytes) == (snapshot["SnapshotId"], len(BODY))
    assert farm.rented() == (0, 0)


def test_job_cancelled_while_its_volume_is_filled_ends_when_instance_and_volume_are_gone(farm: Preparing) -> None:
    job = farm.a_job()
    farm.tick()
    farm.place.player.report(farm.running(), StagingState.RUNNING, done=3)
    farm.tick()
    commands.cancel_job(farm.bench.farm, job)
    farm.tick()
    farm.tick()
    assert farm.bench.status(job) is JobStatus.RELEASING
    assert farm.reason(job) == "cancelled by a person; what prepared its files is still to be given back"
    assert farm.rented() == (0, 0)
    farm.tick()
    assert farm.bench.status(job) is JobStatus.CANCELLED


def test_job_whose_files_are_damaged_fails_with_the_reason_and_is_made_ready_anew_when_retried(farm: Preparing) -> None:
    job = farm.a_job()
    farm.tick()
    text = "“shot.blend” does not match its checksum; upload it again"
    farm.place.player.report(farm.running(), StagingState.FAILED, message=text)
    farm.tick()
    assert farm.rented() == (0, 0)
    farm.tick()
    assert farm.bench.status(job) is JobStatus.FAILED
    assert farm.reason(job) == f"its files could not be prepared: {text}"
    assert farm.place.workspaces.jobs() == []
    commands.retry_job(farm.bench.farm, job)
    farm.tick()
    farm.running()
    assert len({asked["ClientToken"] for asked in farm.place.moto.calls("RunInstances")}) == 2


def test_ended_jobs_snapshot_is_kept_for_a_retry_and_swept_in_the_end(farm: Preparing) -> None:
    job = farm.a_job()
    for _ in range(6):
        farm.tick()
        farm.place.moto.tell("settle")
        farm.place.player.work()
    commands.cancel_job(farm.bench.farm, job)
    farm.tick()
    farm.tick()
    assert farm.bench.status(job) is JobStatus.CANCELLED
    farm.bench.clock.pass_s(71 * 3600)
    sweep(farm.bench.farm)
    assert len(farm.place.snapshots()) == 1
    farm.bench.clock.pass_s(2 * 3600)
    sweep(farm.bench.farm)
    assert farm.place.snapshots() == []
    assert farm.place.workspaces.jobs() == []
