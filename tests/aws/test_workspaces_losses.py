"""Staging instances on AWS that are lost, late, not to be had, or refused: who fills the volume then, and what people read."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from nodeimage.launch import StagingState
from nodeimage.protocol import Heartbeat, NodeState, status_key
from supervisor.cloud.aws.errors import SEEN_WITHIN_S
from supervisor.cloud.aws.session import AwsSession
from supervisor.cloud.aws.staging_places import StagingSite
from supervisor.cloud.aws.staging_terms import MOST_ATTEMPTS
from supervisor.cloud.ports import Refused, Unreachable

from .farm import IDENTITY
from .happenings import IMAGE
from .moto_server import Moto
from .workspace_place import TYPES, WorkspacePlace
from .workspace_steps import JOB, OTHER, rented, running, settle, through, tick


@pytest.fixture
def place(moto: Moto, aws_session: AwsSession) -> WorkspacePlace:
    """Workspaces where everything takes its time: `settle` lets it arrive."""
    moto.change(is_slow=True)
    return WorkspacePlace(moto, aws_session)


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


def test_instance_profile_that_ec2_does_not_know_for_minutes_is_a_problem_that_says_so(place: WorkspacePlace) -> None:
    text = "Value (kiln-f0) for parameter iamInstanceProfile.name is invalid. Invalid IAM Instance Profile name"
    place.moto.change(pool_errors={"*": f"InvalidParameterValue: {text}"})
    with pytest.raises(Unreachable):
        tick(place)
    place.clock.pass_s(SEEN_WITHIN_S + 1)
    assert "Invalid IAM Instance Profile name" in tick(place).problem


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
