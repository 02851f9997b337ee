"""Workspaces on AWS: what is asked of EC2, what people read meanwhile, and what stays rented when things go wrong."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from nodeimage.launch import StagingState, WorkspaceKind
from nodeimage.protocol import Heartbeat, NodeState, files_key, staging_key, status_key
from supervisor.cloud.aws.identity import tags_of
from supervisor.cloud.aws.session import AwsSession
from supervisor.cloud.aws.staging_places import StagingSite
from supervisor.cloud.aws.staging_plan import MOST_ATTEMPTS
from supervisor.cloud.aws.workspace_records import record_key
from supervisor.cloud.ports import Refused, StagedFile, Unreachable, WorkspaceState
from supervisor.domain.workspace import WorkspaceMode
from tests.fakes.objects import FakeObjectStore

from .farm import IDENTITY
from .faults import Fault, Way, breakable
from .happenings import IMAGE
from .moto_server import Moto
from .workspace_place import FARM, TYPES, WorkspacePlace

JOB, OTHER = "job_a", "job_b"


@pytest.fixture
def place(moto: Moto, aws_session: AwsSession) -> WorkspacePlace:
    """Workspaces where everything takes its time: `settle` lets it arrive."""
    moto.change(is_slow=True)
    return WorkspacePlace(moto, aws_session)


def files_of(place: WorkspacePlace, job: str = JOB, body: bytes = b"BLENDER") -> list[StagedFile]:
    key = f"projects/{job}/scene.blend"
    place.objects.put(key, body)
    return [StagedFile(path="scene.blend", key=key, bytes=len(body), checksum=f"crc32:{zlib.crc32(body):08x}")]


def tick(place: WorkspacePlace, job: str = JOB) -> WorkspaceState:
    """What the lifecycle does with a workspace in a tick, two seconds after the last."""
    place.clock.pass_s(2)
    state = place.workspaces.state(job)
    if state is None or not (state.is_staged or state.problem):
        place.workspaces.stage(job, files_of(place, job), request_id=f"{job}-stage")
        state = place.workspaces.state(job)
    if state and state.is_staged and not state.snapshot:
        place.workspaces.snapshot(job, request_id=f"{job}-snapshot")
        state = place.workspaces.state(job)
    assert state is not None
    return state


def settle(place: WorkspacePlace) -> None:
    place.moto.tell("settle")


def running(place: WorkspacePlace) -> str:
    """Let a tick ask for an instance and let it run. Returns: its id"""
    tick(place)
    settle(place)
    [one] = place.player.staging_instances("running")
    return str(one["InstanceId"])


def through(place: WorkspacePlace, job: str = JOB) -> str:
    """Go all the way. Returns: the snapshot's id"""
    for _ in range(12):
        state = tick(place, job)
        if state.snapshot:
            return state.snapshot
        settle(place)
        place.player.work()
    raise AssertionError(f"no snapshot: {state}")


def rented(place: WorkspacePlace) -> dict[str, list[str]]:
    """What of the workspaces still costs money, as EC2 shows it now."""
    settle(place)
    return {
        "instances": [one["InstanceId"] for one in place.player.staging_instances("pending", "running", "stopped")],
        "volumes": [each["VolumeId"] for each in place.volumes()],
        "snapshots": [each["SnapshotId"] for each in place.snapshots()],
    }


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
    assert [_tag(one, "kiln:job") for one in place.player.staging_instances("running")] == ["job_c"]


def _tag(one: Mapping[str, Any], key: str) -> str:
    return tags_of(one)[key]


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
        tick(place, _tag(first, "kiln:job"))
        settle(place)
    used = [tick(place, job).snapshot for job in (JOB, OTHER)]
    for _ in range(2):
        settle(place)
        used = [tick(place, job).snapshot for job in (JOB, OTHER)]
    assert rented(place) == {"instances": [], "volumes": [], "snapshots": [used[0]]}
    assert used[0] == used[1]
    assert second["InstanceId"] not in [one["InstanceId"] for one in place.player.staging_instances("running")]


def lose(place: WorkspacePlace, instance: str) -> None:
    place.moto.tell("lose", instance=instance)


def power_off(place: WorkspacePlace, instance: str) -> None:
    place.moto.tell("power_off", instance=instance)


def fall_silent(place: WorkspacePlace, instance: str) -> None:
    place.player.report(instance, StagingState.RUNNING, done=1, message="fetching scene.blend")
    tick(place)
    place.clock.pass_s(301)


def never_speak(place: WorkspacePlace, instance: str) -> None:
    place.clock.pass_s(601)


def give_up(place: WorkspacePlace, instance: str) -> None:
    """What the image does when the agent can't be started: it says why, and powers the machine off."""
    node = instance.replace("i-", "node_")
    beat = Heartbeat(node=node, job=JOB, beat=1, at_ms=0, state=NodeState.STARTING, problem="the agent can't be fetched")
    place.objects.put(status_key(node), beat.to_bytes())
    power_off(place, instance)


LOSSES: list[tuple[Callable[[WorkspacePlace, str], None], str]] = [
    (lose, "Internal error on launch"),
    (power_off, "Instance initiated shutdown"),
    (fall_silent, "fetching scene.blend"),
    (never_speak, "did not report"),
    (give_up, "the agent can't be fetched"),
]


@pytest.mark.parametrize(("happens", "words"), LOSSES, ids=[happens.__name__ for happens, _ in LOSSES])
def test_lost_instance_is_replaced_and_the_last_one_is_a_problem_with_nothing_left(
    place: WorkspacePlace, happens: Callable[[WorkspacePlace, str], None], words: str
) -> None:
    lost = []
    for _ in range(MOST_ATTEMPTS):
        tick(place)
        settle(place)
        tick(place)
        [one] = place.player.staging_instances("running")
        lost.append(one["InstanceId"])
        happens(place, one["InstanceId"])
        settle(place)
    state = tick(place)
    assert words in state.problem
    assert "Submit it again" in state.problem
    assert len(set(lost)) == MOST_ATTEMPTS == len(place.moto.calls("RunInstances"))
    settle(place)
    place.workspaces.delete(JOB)
    assert rented(place) == {"instances": [], "volumes": [], "snapshots": []}


def test_replacement_does_the_work(place: WorkspacePlace) -> None:
    lose(place, running(place))
    settle(place)
    snapshot = through(place)
    assert rented(place) == {"instances": [], "volumes": [], "snapshots": [snapshot]}


def test_files_that_are_not_what_was_uploaded_are_a_problem_at_once(place: WorkspacePlace) -> None:
    instance = running(place)
    place.player.report(instance, StagingState.FAILED, message="“scene.blend” does not match its checksum; upload it again")
    state = tick(place)
    assert state.problem == "“scene.blend” does not match its checksum; upload it again"
    place.workspaces.release_copies(JOB)
    assert tick(place).problem == state.problem
    place.workspaces.delete(JOB)
    assert rented(place) == {"instances": [], "volumes": [], "snapshots": []}
    assert len(place.moto.calls("RunInstances")) == 1


def test_type_without_room_is_passed_over_for_the_next(place: WorkspacePlace) -> None:
    place.moto.change(capacity={TYPES[0]: 0})
    tick(place)
    [one] = place.player.staging_instances()
    assert one["InstanceType"] == TYPES[1]
    asked = place.moto.calls("RunInstances")
    assert [each["InstanceType"] for each in asked] == list(TYPES)
    assert len({each["SubnetId"] for each in asked}) == 1
    assert len({each["ClientToken"] for each in asked}) == 2


def test_without_room_anywhere_it_waits_says_why_and_asks_again(place: WorkspacePlace) -> None:
    place.moto.change(capacity={"*": 0})
    state = tick(place)
    assert state.doing.startswith("waiting for an instance that copies its files: ")
    assert "capacity" in state.doing
    asked = len(place.moto.calls("RunInstances"))
    tick(place)
    assert len(place.moto.calls("RunInstances")) == asked
    place.moto.change(capacity={})
    place.clock.pass_s(11)
    assert tick(place).doing == "the instance that copies its files is starting"
    assert not tick(place).problem


def test_waiting_for_room_is_no_lost_instance(place: WorkspacePlace) -> None:
    place.moto.change(capacity={"*": 0})
    for _ in range(MOST_ATTEMPTS + 2):
        assert not tick(place).problem
        place.clock.pass_s(600)
    place.moto.change(capacity={})
    assert through(place)


def test_instance_profile_that_ec2_has_not_heard_of_yet_does_not_fail_the_staging(place: WorkspacePlace) -> None:
    text = "Value (kiln-f0) for parameter iamInstanceProfile.name is invalid. Invalid IAM Instance Profile name"
    place.moto.change(pool_errors={"*": f"InvalidParameterValue: {text}"})
    with pytest.raises(Unreachable, match="has not heard of it yet"):
        tick(place)
    place.moto.change(pool_errors={})
    place.clock.pass_s(10)
    assert through(place)
    assert len(place.moto.calls("CreateSnapshot")) == 1


def test_launch_that_aws_refuses_is_a_problem_that_says_why(place: WorkspacePlace) -> None:
    place.moto.change(pool_errors={"*": "UnauthorizedOperation: You are not authorized to perform this operation."})
    refused = tick(place)
    assert "You are not authorized" in refused.problem
    assert "`kiln aws policy`" in refused.problem


def test_image_that_was_removed_is_looked_up_again_and_its_lack_is_told(place: WorkspacePlace) -> None:
    tick(place, OTHER)
    place.moto.tell("remove_image", image=IMAGE)
    with pytest.raises(Unreachable, match=IMAGE):
        tick(place)
    place.clock.pass_s(10)
    assert "`kiln ami build`" in tick(place).problem


def test_instance_that_is_not_listed_yet_is_not_asked_for_again(place: WorkspacePlace) -> None:
    place.moto.change(hides_new=True)
    for _ in range(3):
        assert tick(place).doing == "the instance that copies its files is starting"
        place.clock.pass_s(15)
    assert len(place.moto.calls("RunInstances")) == 1
    place.moto.tell("show_all")
    assert through(place)


def test_instance_asked_for_before_a_crash_is_found_by_its_token(place: WorkspacePlace) -> None:
    place.moto.change(hides_new=True)
    tick(place)
    record = place.record()
    place.forget_answer(JOB)
    place.restart()
    place.clock.pass_s(6)
    tick(place)
    tokens = [asked["ClientToken"] for asked in place.moto.calls("RunInstances")]
    assert len(tokens) == 2
    assert len(set(tokens)) == 1
    assert len(place.moto.instances()) == 0
    place.moto.tell("show_all")
    assert [one["InstanceId"] for one in place.player.staging_instances()] == [record.instance]


def test_instance_asked_for_before_an_upgrade_is_replaced_by_a_new_one(place: WorkspacePlace) -> None:
    place.moto.change(hides_new=True)
    tick(place)
    place.forget_answer(JOB)
    place.agent = "agent/2.pyz"
    place.restart()
    place.clock.pass_s(6)
    tick(place)
    place.moto.tell("show_all")
    tick(place)
    settle(place)
    [one] = place.player.staging_instances("running")
    assert place.player.launch_data(one["InstanceId"]).agent == "agent/2.pyz"
    assert through(place)


def test_failed_snapshot_is_made_again(place: WorkspacePlace) -> None:
    place.player.report(running(place), StagingState.DONE)
    tick(place)
    place.moto.tell("fail_snapshots")
    place.clock.pass_s(61)
    assert through(place)
    assert len(place.moto.calls("CreateSnapshot")) == 2
    place.workspaces.delete(JOB)
    assert rented(place) == {"instances": [], "volumes": [], "snapshots": []}


def test_instance_that_does_not_shut_down_is_ended(place: WorkspacePlace) -> None:
    place.player.report(running(place), StagingState.DONE)
    tick(place)
    place.clock.pass_s(61)
    tick(place)
    assert len(place.player.staging_instances("shutting-down")) == 1
    assert through(place)
    assert rented(place)["volumes"] == []


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


def site_of(place: WorkspacePlace, *types: str) -> StagingSite:
    return StagingSite(place.parts.site, types=types)


def test_places_are_every_type_in_one_zone_and_then_in_the_next(place: WorkspacePlace) -> None:
    places = site_of(place, *TYPES).places(JOB)
    assert [each.instance_type for each in places[:4]] == [*TYPES, *TYPES]
    assert len({each.subnet for each in places[:2]}) == 1
    assert places[0].data["IamInstanceProfile"] == {"Name": IDENTITY.name}
    assert places[0].data["MetadataOptions"]["HttpTokens"] == "required"
    assert places[0].data["InstanceInitiatedShutdownBehavior"] == "terminate"


def test_type_that_does_not_exist_is_refused_with_the_key_that_names_it(place: WorkspacePlace) -> None:
    with pytest.raises(Refused, match=r"c7i\.huge.*\[workspace\] staging_instance_type"):
        site_of(place, "c7i.huge").places(JOB)


def test_type_without_an_image_is_refused_with_what_to_do(place: WorkspacePlace) -> None:
    with pytest.raises(Refused, match="kiln ami build"):
        site_of(place, "c7g.xlarge").places(JOB)


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
