"""Workspaces on AWS: what is asked of EC2, what people read meanwhile, and what stays rented."""

from __future__ import annotations

import pytest

from nodeimage.launch import StagingState, WorkspaceKind
from nodeimage.protocol import files_key, staging_key
from supervisor.cloud.aws.identity import tags_of
from supervisor.cloud.aws.session import AwsSession
from supervisor.cloud.aws.workspace_records import record_key
from supervisor.cloud.ports import WorkspaceState
from supervisor.domain.workspace import WorkspaceMode
from tests.fakes.objects import FakeObjectStore

from .faults import Fault, Way, breakable
from .moto_server import Moto
from .workspace_place import FARM, TYPES, WorkspacePlace
from .workspace_steps import JOB, OTHER, files_of, rented, running, settle, tag, through, tick


@pytest.fixture
def place(moto: Moto, aws_session: AwsSession) -> WorkspacePlace:
    """Workspaces where everything takes its time: `settle` lets it arrive."""
    moto.change(is_slow=True)
    return WorkspacePlace(moto, aws_session)


def test_staging_instance_is_asked_for_with_an_empty_volume_that_outlives_it(place: WorkspacePlace) -> None:
    tick(place)
    [asked] = place.moto.calls("RunInstances")
    assert (asked["MinCount"], asked["MaxCount"], asked["InstanceType"]) == (1, 1, TYPES[0])
    assert asked["ClientToken"].startswith(f"{JOB}-stage-")
    assert len(asked["ClientToken"]) <= 64
    root, volume = asked["BlockDeviceMappings"]
    assert root["Ebs"]["DeleteOnTermination"] is True
    assert volume == {
        "DeviceName": "/dev/sdf",
        "Ebs": {
            "VolumeSize": 1,
            "VolumeType": "gp3",
            "Throughput": 250,
            "Iops": 3000,
            "Encrypted": True,
            "DeleteOnTermination": False,
        },
    }
    for kind in asked["TagSpecifications"]:
        tags = tags_of(kind)
        wanted = {"kiln:farm": FARM, "kiln:job": JOB, "kiln:role": "stage", "kiln:request": asked["ClientToken"].rpartition("-")[0]}
        assert wanted.items() <= tags.items()
    assert {kind["ResourceType"] for kind in asked["TagSpecifications"]} == {"instance", "volume"}
    [one] = place.player.staging_instances()
    told = place.player.launch_data(one["InstanceId"])
    assert (told.job, told.workspace) == (JOB, WorkspaceKind.BLANK)


def test_snapshot_bears_its_content_and_is_made_of_the_volume(place: WorkspacePlace) -> None:
    instance = running(place)
    place.player.report(instance, StagingState.DONE)
    tick(place)
    [volume] = place.volumes()
    [asked] = place.moto.calls("CreateSnapshot")
    assert asked["VolumeId"] == volume["VolumeId"]
    [kind] = asked["TagSpecifications"]
    assert tags_of(kind).items() >= {"kiln:farm": FARM, "kiln:job": JOB}.items()
    assert len(tags_of(kind)["kiln:content"]) == 64


def test_people_read_how_far_it_is_all_the_way(place: WorkspacePlace) -> None:
    said = [tick(place).doing]
    settle(place)
    [one] = place.player.staging_instances("running")
    place.player.report(one["InstanceId"], StagingState.RUNNING, done=3)
    said.append(tick(place).doing)
    assert place.workspaces.state(JOB) == WorkspaceState(staged_bytes=3, total_bytes=7, doing="the volume is being filled: 42 %")
    place.player.finish(one["InstanceId"])
    said.append(tick(place).doing)
    assert said == [
        "the instance that copies its files is starting",
        "the volume is being filled: 42 %",
        "the snapshot is being made: 40 %",
    ]
    settle(place)
    state = tick(place)
    assert (state.doing, state.is_staged, bool(state.snapshot)) == ("", True, True)


def test_finished_workspace_costs_its_snapshot_alone(place: WorkspacePlace) -> None:
    snapshot = through(place)
    assert rented(place) == {"instances": [], "volumes": [], "snapshots": [snapshot]}


def test_restart_between_any_two_steps_goes_on_with_what_there_is(place: WorkspacePlace) -> None:
    for _ in range(12):
        place.restart()
        state = tick(place)
        if state.snapshot:
            break
        settle(place)
        place.player.work()
    assert [state.snapshot] == rented(place)["snapshots"]
    assert len(place.moto.calls("RunInstances")) == len(place.moto.calls("CreateSnapshot")) == 1


def test_all_jobs_together_are_looked_at_with_three_calls(place: WorkspacePlace) -> None:
    jobs = [f"job_{number}" for number in range(8)]
    for job in jobs:
        tick(place, job)
    settle(place)
    patient = place.workspaces
    place.moto.tell("forget_calls")
    place.restart(believed_s=60)
    for job in [*jobs, *jobs]:
        place.workspaces.stage(job, files_of(place, job), request_id="r1")
        assert place.workspaces.state(job)
    asked = [each["action"] for each in place.moto.calls()]
    assert sorted(asked) == ["DescribeInstances", "DescribeSnapshots", "DescribeVolumes"]
    assert patient.jobs() == place.workspaces.jobs() == jobs


def test_settled_snapshot_is_not_looked_at_in_every_tick(place: WorkspacePlace) -> None:
    through(place)
    place.moto.tell("forget_calls")
    for _ in range(5):
        tick(place)
    assert place.moto.calls() == []
    place.clock.pass_s(16)
    tick(place)
    assert len(place.moto.calls("DescribeSnapshots")) == 1


def test_files_that_nodes_fetch_need_nothing_of_ec2(place: WorkspacePlace) -> None:
    place.mode = WorkspaceMode.S3
    place.restart()
    state = tick(place)
    assert state.snapshot
    assert state.snapshot.startswith("s3:")
    place.workspaces.release_copies(JOB)
    place.workspaces.delete(JOB)
    assert {each["action"] for each in place.moto.calls()} == {"DescribeLaunchTemplateVersions"}
    assert place.objects.keys("received/") == []


def test_auto_chooses_by_the_size_of_the_files_and_a_job_may_choose_itself(moto: Moto, aws_session: AwsSession) -> None:
    place = WorkspacePlace(moto, aws_session, mode=WorkspaceMode.AUTO)
    place.workspaces.stage(JOB, files_of(place), request_id="r1")
    assert place.moto.calls("RunInstances") == []
    place.workspaces.stage(OTHER, files_of(place, OTHER), request_id="r1", mode=WorkspaceMode.SNAPSHOT)
    assert len(place.moto.calls("RunInstances")) == 1
    place.restart(snapshot_from_gib=0)
    place.workspaces.stage("job_c", files_of(place, "job_c", b"OTHER"), request_id="r1")
    assert len(place.moto.calls("RunInstances")) == 2
    place.workspaces.stage(OTHER, files_of(place, OTHER), request_id="r1", mode=WorkspaceMode.S3)
    assert place.workspaces.state(OTHER) == WorkspaceState(staged_bytes=7, total_bytes=7, is_staged=True)
    assert [tag(one, "kiln:job") for one in place.player.staging_instances("running")] == ["job_c"]


def test_the_same_files_of_another_job_are_not_copied_again(place: WorkspacePlace) -> None:
    snapshot = through(place)
    assert tick(place, OTHER).snapshot == snapshot
    assert len(place.moto.calls("RunInstances")) == 1


def test_snapshot_stays_until_the_last_job_that_uses_it_is_deleted(place: WorkspacePlace) -> None:
    snapshot = through(place)
    tick(place, OTHER)
    place.workspaces.delete(JOB)
    assert tick(place, OTHER).snapshot == snapshot
    place.workspaces.delete(OTHER)
    assert rented(place)["snapshots"] == []


def test_jobs_with_the_same_files_at_the_same_time_end_with_one_snapshot(place: WorkspacePlace) -> None:
    tick(place)
    tick(place, OTHER)
    settle(place)
    first, second = place.player.staging_instances("running")
    place.player.finish(first["InstanceId"])
    settle(place)
    for _ in range(3):
        tick(place, tag(first, "kiln:job"))
        settle(place)
    used = [tick(place, job).snapshot for job in (JOB, OTHER)]
    for _ in range(2):
        settle(place)
        used = [tick(place, job).snapshot for job in (JOB, OTHER)]
    assert rented(place) == {"instances": [], "volumes": [], "snapshots": [used[0]]}
    assert used[0] == used[1]
    assert second["InstanceId"] not in [one["InstanceId"] for one in place.player.staging_instances("running")]


@pytest.mark.parametrize("steps", range(6))
def test_deleted_at_any_time_nothing_is_left(place: WorkspacePlace, steps: int) -> None:
    for _ in range(steps):
        if not tick(place).snapshot:
            settle(place)
            place.player.work()
    place.restart()
    place.workspaces.delete(JOB)
    place.workspaces.delete(JOB)
    settle(place)
    place.workspaces.delete(JOB)
    assert rented(place) == {"instances": [], "volumes": [], "snapshots": []}
    assert place.objects.keys("received/") == place.objects.keys("workspaces/") == []


def test_paused_while_its_volume_is_filled_gives_instance_and_volume_back_and_begins_anew(place: WorkspacePlace) -> None:
    place.player.report(running(place), StagingState.RUNNING, done=3)
    tick(place)
    versions = place.parts.site.versions
    versions.ensure(place.parts.site.stage_data(JOB), job=JOB, workspace="snap-1", token="t")
    assert JOB in versions.jobs()
    # as long as the instance is on its way out, its volume is paid for
    assert not place.workspaces.release_copies(JOB)
    assert not place.workspaces.release_copies(JOB)
    assert len(place.moto.calls("TerminateInstances")) == 1
    assert rented(place) == {"instances": [], "volumes": [], "snapshots": []}
    place.clock.pass_s(2)
    assert place.workspaces.release_copies(JOB)
    [asked] = place.moto.calls("ModifyInstanceAttribute")
    assert asked["BlockDeviceMappings"][0]["Ebs"]["DeleteOnTermination"] is True
    assert JOB not in versions.jobs()
    assert through(place)


def test_instance_launched_a_moment_before_a_pause_is_ended_although_it_is_not_listed_yet(place: WorkspacePlace) -> None:
    place.moto.change(hides_new=True)
    tick(place)
    launched = place.record().instance
    assert not place.workspaces.release_copies(JOB)
    assert [asked["InstanceIds"] for asked in place.moto.calls("TerminateInstances")] == [[launched]]
    # EC2 may not know it yet: then it is found later, among what nobody needs
    place.moto.tell("show_all")
    tick(place)
    settle(place)
    assert launched not in [one["InstanceId"] for one in place.player.staging_instances("running")]
    assert len(place.player.staging_instances("running")) == 1


def test_snapshot_in_the_making_is_not_stopped_by_a_pause(place: WorkspacePlace) -> None:
    place.player.report(running(place), StagingState.DONE)
    tick(place)
    assert not place.workspaces.release_copies(JOB)
    assert place.moto.calls("ModifyInstanceAttribute") == []
    assert len(place.volumes()) == 1
    there = rented(place)
    assert there["instances"] == []
    # with the snapshot the volume's time is over
    place.clock.pass_s(2)
    place.workspaces.release_copies(JOB)
    assert rented(place) == {"instances": [], "volumes": [], "snapshots": there["snapshots"]}
    place.clock.pass_s(2)
    assert place.workspaces.release_copies(JOB)
    assert through(place) == there["snapshots"][0]
    assert rented(place) == {"instances": [], "volumes": [], "snapshots": there["snapshots"]}
    assert len(place.moto.calls("CreateSnapshot")) == 1


def test_missing_file_is_found_before_anything_is_rented(place: WorkspacePlace) -> None:
    files = files_of(place)
    place.objects.delete([files[0].key])
    place.workspaces.stage(JOB, files, request_id="r1")
    state = place.workspaces.state(JOB)
    assert state is not None
    assert state.problem == "“scene.blend” is no longer in the bucket; upload it again"
    assert place.moto.calls() == []


def test_deleting_removes_manifest_report_and_record(place: WorkspacePlace) -> None:
    through(place)
    assert {files_key(JOB), staging_key(JOB), record_key(JOB)} <= set(place.objects.keys())
    place.workspaces.delete(JOB)
    assert not {files_key(JOB), staging_key(JOB), record_key(JOB)} & set(place.objects.keys())
    assert place.workspaces.jobs() == []


def test_record_that_another_process_deleted_is_noticed(place: WorkspacePlace) -> None:
    through(place)
    objects: FakeObjectStore = place.objects
    objects.delete([record_key(JOB)])
    place.clock.pass_s(31)
    assert place.workspaces.state(JOB) is None


def test_volume_that_can_not_be_told_to_go_with_its_instance_does_not_keep_it(place: WorkspacePlace) -> None:
    place.player.report(running(place), StagingState.RUNNING, done=3)
    with breakable(Way()) as way:
        way.take(lambda call: Fault.REFUSED if call.operation == "ModifyInstanceAttribute" else None)
        place.workspaces.release_copies(JOB)
    settle(place)
    assert place.player.staging_instances("running") == []
    assert len(place.volumes()) == 1
    tick(place)
    assert len(place.volumes()) == 1  # the old one is gone, the new one is there
    assert len(place.moto.calls("DeleteVolume")) == 1
