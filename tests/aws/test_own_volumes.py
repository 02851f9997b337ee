"""Volumes that the farm fills on its own instance: what is asked of EC2, what people read, and what stays when things go wrong."""

from __future__ import annotations

from typing import Any

import pytest

from nodeimage.launch import WorkspaceKind
from supervisor.cloud.aws.identity import FARM_TAG, HOST_TAG, JOB_TAG, ROLE_TAG, tags_of
from supervisor.cloud.aws.own_machine import OwnInstance
from supervisor.cloud.aws.own_volumes import MOST_AT_ONCE
from supervisor.cloud.aws.session import AwsSession
from supervisor.cloud.aws.staging_terms import Filling

from .faults import Fault, Way, breakable
from .moto_server import Moto
from .own_place import ZONE, run_own_instance
from .workspace_place import FARM, WorkspacePlace
from .workspace_steps import JOB, OTHER, files_of, rented, settle, tag, through, tick


@pytest.fixture
def here(moto: Moto) -> OwnInstance:
    return run_own_instance(moto)


@pytest.fixture
def place(moto: Moto, aws_session: AwsSession, here: OwnInstance) -> WorkspacePlace:
    """Workspaces of a farm that may fill volumes on its own instance; everything takes its time."""
    moto.change(is_slow=True)
    return WorkspacePlace(moto, aws_session, here=here)


def filling(place: WorkspacePlace, job: str = JOB) -> str:
    """Go on until the volume is being filled here. Returns: its id"""
    for _ in range(9):
        tick(place, job)
        settle(place)
        mine = [volume.id for volume in place.fillings.running.values() if volume.job == job]
        if mine:
            return mine[0]
    raise AssertionError("nothing fills a volume here")


def filled(place: WorkspacePlace, job: str = JOB) -> str:
    """Go all the way. Returns: the snapshot's id"""
    for _ in range(20):
        state = tick(place, job)
        if state.snapshot:
            return state.snapshot
        settle(place)
        place.fillings.work()
    raise AssertionError(f"no snapshot: {state}")


def attached(place: WorkspacePlace, here: OwnInstance) -> list[str]:
    settle(place)
    return [each["VolumeId"] for each in place.volumes() if [attachment["InstanceId"] for attachment in each["Attachments"]] == [here.id]]


def asked(place: WorkspacePlace, action: str) -> list[dict[str, Any]]:
    """What was asked in earnest."""
    return [params for params in place.moto.calls(action) if not params.get("DryRun")]


def test_volume_is_made_beside_the_farm_attached_detached_frozen_and_deleted(place: WorkspacePlace, here: OwnInstance) -> None:
    snapshot = filled(place)
    actions = [call["action"] for call in place.moto.calls() if not call["params"].get("DryRun")]
    changing = [action for action in actions if not action.startswith("Describe")]
    assert changing == ["CreateVolume", "AttachVolume", "DetachVolume", "CreateSnapshot", "DeleteVolume"]
    assert rented(place) == {"instances": [], "volumes": [], "snapshots": [snapshot]}
    assert [one["InstanceId"] for one in place.moto.instances("running")] == [here.id]


def test_volume_is_asked_for_in_the_zone_of_the_farm_with_the_tags_of_a_workspace(place: WorkspacePlace, here: OwnInstance) -> None:
    volume = filling(place)
    [made] = asked(place, "CreateVolume")
    assert (made["AvailabilityZone"], made["Size"], made["VolumeType"], made["Encrypted"]) == (ZONE, 1, "gp3", True)
    assert (made["Iops"], made["Throughput"]) == (3000, 250)
    assert made["ClientToken"] == place.record().token
    [kind] = made["TagSpecifications"]
    assert kind["ResourceType"] == "volume"
    assert tags_of(kind).items() >= {FARM_TAG: FARM, JOB_TAG: JOB, ROLE_TAG: "stage", HOST_TAG: here.id}.items()
    [put] = asked(place, "AttachVolume")
    assert put == {"VolumeId": volume, "InstanceId": here.id, "Device": "/dev/sdf"}
    [told] = place.fillings.told
    assert (told.job, told.workspace) == (JOB, WorkspaceKind.BLANK)


def test_names_that_are_taken_on_the_instance_are_passed_over(place: WorkspacePlace, here: OwnInstance) -> None:
    ec2 = place.moto.client("ec2")
    mine = ec2.create_volume(AvailabilityZone=ZONE, Size=1)["VolumeId"]
    settle(place)
    ec2.attach_volume(VolumeId=mine, InstanceId=here.id, Device="/dev/sdf")
    filling(place)
    assert asked(place, "AttachVolume")[-1]["Device"] == "/dev/sdg"
    filled(place)
    assert [each["VolumeId"] for each in place.volumes()] == [mine]


def test_people_read_how_far_it_is(place: WorkspacePlace) -> None:
    said = [tick(place).doing]
    while not place.fillings.running:
        settle(place)
        said.append(tick(place).doing)
    place.fillings.report(done=3)
    state = tick(place)
    assert (state.doing, state.staged_bytes, state.is_staged) == ("the volume is being filled: 42 %", 3, False)
    place.fillings.work()
    said.append(tick(place).doing)
    settle(place)
    said.append(tick(place).doing)
    assert said == [
        "the volume for its files is being made",
        "the volume for its files is being attached",
        "the volume for its files is being made ready",
        "the filled volume is being detached",
        "the snapshot is being made: 40 %",
    ]


def test_farm_that_is_started_again_at_any_step_goes_on_with_the_volume_that_there_is(place: WorkspacePlace) -> None:
    for _ in range(20):
        place.restart()
        state = tick(place)
        if state.snapshot:
            break
        settle(place)
        place.fillings.work()
    assert [state.snapshot] == rented(place)["snapshots"]
    assert len(asked(place, "CreateVolume")) == len(asked(place, "AttachVolume")) == len(asked(place, "CreateSnapshot")) == 1


def test_farm_that_dies_while_it_fills_a_volume_fills_the_same_again(place: WorkspacePlace) -> None:
    volume = filling(place)
    place.fillings.report(done=3)
    tick(place)
    place.restart()
    assert filling(place) == volume
    assert filled(place)
    assert len(asked(place, "CreateVolume")) == 1


WAYS_OFF = {
    "not on EC2": {"here": None},
    "told not to": {"filled_by": "staging_instance"},
}


@pytest.mark.parametrize("how", WAYS_OFF.values(), ids=WAYS_OFF.keys())
def test_staging_instance_fills_the_volume_where_the_farm_can_not(place: WorkspacePlace, how: dict[str, Any]) -> None:
    for name, value in how.items():
        setattr(place, name, value)
    place.restart()
    assert through(place)
    assert place.moto.calls("CreateVolume") == []


def test_keys_that_may_make_no_volumes_leave_it_to_a_staging_instance(place: WorkspacePlace) -> None:
    with breakable(Way()) as way:
        way.take(lambda call: Fault.REFUSED if call.operation == "CreateVolume" else None)
        tick(place)
    assert place.record().host == ""
    check = place.parts.own.check()
    assert (check.is_ok, "may not make volumes: `kiln aws policy --part fill`" in check.text) == (True, True)
    assert through(place)


@pytest.mark.parametrize("operation", ["CreateVolume", "AttachVolume"])
def test_refusal_at_the_deed_leaves_it_to_a_staging_instance_and_gives_the_volume_back(place: WorkspacePlace, operation: str) -> None:
    place.parts.own.check()  # what may be done is believed from here on
    with breakable(Way()) as way:
        way.take(lambda call: Fault.REFUSED if call.operation == operation else None)
        for _ in range(6):
            tick(place)
            settle(place)
    assert through(place)
    assert len(place.moto.calls("RunInstances")) == 1
    assert rented(place)["volumes"] == []
    assert place.fillings.told == []


@pytest.mark.parametrize("code", ["InsufficientVolumeCapacity", "VolumeLimitExceeded", "InvalidZone.NotFound"])
def test_volume_that_is_not_to_be_had_beside_the_farm_is_left_to_a_staging_instance(place: WorkspacePlace, code: str) -> None:
    place.parts.own.check()
    place.moto.change(volume_error=code)
    tick(place)
    assert through(place)
    assert len(place.moto.calls("RunInstances")) == 1


def test_farm_that_may_not_attach_makes_no_volume_for_the_next_job(place: WorkspacePlace) -> None:
    with breakable(Way()) as way:
        way.take(lambda call: Fault.REFUSED if call.operation == "AttachVolume" else None)
        for _ in range(6):
            tick(place)
            settle(place)
    tick(place, OTHER)
    assert len(asked(place, "CreateVolume")) == 1
    assert place.record(OTHER).host == ""
    assert "may not attach volumes" in place.parts.own.check().text


def test_volume_that_can_not_be_filled_here_is_given_back_and_a_staging_instance_does_it(place: WorkspacePlace, here: OwnInstance) -> None:
    volume = filling(place)
    place.fillings.finish(volume, Filling(status=1, last_words="mount: permission denied"))
    failed = place.workspaces.state(JOB)
    assert failed is not None
    assert failed.doing == f"another instance is asked for: {here.id} could not fill {volume}: mount: permission denied"
    assert tick(place).doing == "the instance that copies its files is starting"
    assert attached(place, here) == []
    snapshot = through(place)
    assert rented(place) == {"instances": [], "volumes": [], "snapshots": [snapshot]}
    assert len(asked(place, "CreateVolume")) == len(place.moto.calls("RunInstances")) == 1


def test_damaged_file_is_a_problem_of_the_job_and_nothing_is_left(place: WorkspacePlace, here: OwnInstance) -> None:
    filling(place)
    place.objects.put(files_of(place)[0].key, b"DAMAGED")
    place.fillings.work()
    place.clock.pass_s(2)
    state = place.workspaces.state(JOB)
    assert state is not None
    assert "does not match its checksum" in state.problem
    place.workspaces.release_copies(JOB)
    settle(place)
    place.workspaces.delete(JOB)
    assert (attached(place, here), rented(place)["volumes"]) == ([], [])


def test_no_more_volumes_are_filled_here_than_the_machine_stands(place: WorkspacePlace) -> None:
    jobs = [f"job_{number}" for number in range(MOST_AT_ONCE + 1)]
    for job in jobs:
        place.objects.put(files_of(place, job, body=job.encode())[0].key, b"BLENDER")
        place.workspaces.stage(job, files_of(place, job, body=job.encode()), request_id=job)
    settle(place)
    assert len(asked(place, "CreateVolume")) == MOST_AT_ONCE
    assert [tag(one, "kiln:job") for one in place.player.staging_instances("running")] == [jobs[-1]]


@pytest.mark.parametrize("steps", range(10))
def test_deleted_at_any_time_nothing_is_left(place: WorkspacePlace, here: OwnInstance, steps: int) -> None:
    for _ in range(steps):
        tick(place)
        settle(place)
        place.fillings.work()
    for _ in range(3):
        place.workspaces.delete(JOB)
        settle(place)
    assert place.fillings.running == {}
    assert attached(place, here) == []
    assert rented(place) == {"instances": [], "volumes": [], "snapshots": []}
    assert place.objects.keys("received/") == place.objects.keys("workspaces/") == []


def test_paused_while_it_is_filled_the_volume_is_let_go_and_it_begins_anew(place: WorkspacePlace, here: OwnInstance) -> None:
    first = filling(place)
    place.workspaces.release_copies(JOB)
    assert (place.fillings.running, attached(place, here)) == ({}, [])
    second = filling(place)
    assert second != first
    assert [each["VolumeId"] for each in place.volumes()] == [second]
    assert filled(place)
    assert rented(place)["volumes"] == []


def test_volume_that_something_still_uses_is_not_torn_away(place: WorkspacePlace, here: OwnInstance) -> None:
    volume = filling(place)
    place.fillings.busy.add(volume)
    place.workspaces.release_copies(JOB)
    assert attached(place, here) == [volume]
    tick(place)
    assert attached(place, here)[0] == volume
    place.fillings.busy.clear()
    tick(place)
    assert volume not in attached(place, here)


def test_farm_that_moved_to_another_machine_takes_its_volume_back_and_asks_for_an_instance(
    place: WorkspacePlace, here: OwnInstance
) -> None:
    volume = filling(place)
    place.here = run_own_instance(place.moto)
    place.restart()
    tick(place)
    assert attached(place, here) == []
    assert through(place)
    assert volume not in rented(place)["volumes"]


FOUND = {
    "auto": (True, False, "are filled by staging instances, because the farm does not run on an EC2 instance"),
    "staging_instance": (True, False, "are filled by staging instances, because [workspace] filled_by says so"),
    "farm": (False, True, "are filled by staging instances, because the farm does not run on an EC2 instance"),
}


@pytest.mark.parametrize("filled_by", FOUND)
def test_doctor_says_who_fills_volumes_and_why(place: WorkspacePlace, filled_by: Any) -> None:
    place.here, place.filled_by = None, filled_by
    place.restart()
    check = place.parts.own.check()
    assert (check.is_ok, check.is_warning, check.text) == FOUND[filled_by]
    assert bool(check.remedy) is check.is_warning


def test_doctor_says_that_the_farm_fills_volumes_where_it_may(place: WorkspacePlace, here: OwnInstance) -> None:
    check = place.parts.own.check()
    assert (check.is_ok, check.text) == (True, f"are filled by the farm itself, because it runs on {here.id} in {ZONE}, and may")
    assert asked(place, "CreateVolume") == []


def test_instance_of_another_account_is_not_the_farms_to_work_on(place: WorkspacePlace) -> None:
    place.here = OwnInstance(id="i-0123456789abcdef0", zone=ZONE)
    place.restart()
    assert "i-0123456789abcdef0 is in another account" in place.parts.own.check().text
    assert through(place)
