"""A launch is one launch, whatever breaks between the asking and the answer, and whoever asks again."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from supervisor.cloud.aws.session import AwsSession
from supervisor.cloud.ports import CloudError, NoCapacity, Refused, Throttled, Unreachable
from supervisor.config import AwsConfig, WorkspaceConfig
from supervisor.domain.instance import Market
from tests.aws.farm import SPEC, Clock, Release, Renting, set_up_farm
from tests.aws.faults import Call, Crash, Fault, Way, breakable, nothing
from tests.aws.moto_server import Moto

OTHER_RELEASE = Release(key="agent/1-fedcba9876543210.pyz", sha256="cd" * 32)


@pytest.fixture
def way() -> Iterator[Way]:
    with breakable(Way()) as way:
        yield way


@pytest.fixture
def farm(moto: Moto, aws_session: AwsSession, way: Way) -> Renting:
    set_up_farm(moto)
    return Renting(aws_session)


def break_fleet(way: Way, fault: Fault) -> None:
    def plan(call: Call) -> Fault | None:
        return fault if call.operation == "CreateFleet" else None

    way.take(plan)


@pytest.mark.parametrize(
    ("fault", "raised"),
    [
        (Fault.THROTTLED_FOR_GOOD, Throttled),
        (Fault.REFUSED, Refused),
        (Fault.BROKEN, Unreachable),
        (Fault.UNREACHABLE, Unreachable),
        (Fault.DIED_BEFORE, Crash),
        (Fault.DIED_AFTER, Crash),
        (Fault.REPLY_LOST_FOR_GOOD, Unreachable),
    ],
)
@pytest.mark.parametrize("is_late", [False, True], ids=["shown at once", "shown late"])
def test_launch_that_broke_off_is_finished_by_another_process(
    moto: Moto, farm: Renting, way: Way, fault: Fault, raised: type[CloudError | Crash], is_late: bool
) -> None:
    moto.change(hides_new=is_late)
    break_fleet(way, fault)
    with pytest.raises(raised):
        farm.compute.launch(SPEC, request_id="launch_1")
    way.take(nothing)
    assert Renting(farm.session).compute.launch(SPEC, request_id="launch_1") == 2
    moto.tell("show_all")
    assert len(moto.instances()) == 2
    assert len(moto.client("ec2").describe_launch_template_versions(LaunchTemplateName="kiln-f0f0f0f0f0f0")["LaunchTemplateVersions"]) == 2


def test_reply_that_was_lost_once_is_no_second_launch(moto: Moto, farm: Renting, way: Way) -> None:
    break_fleet(way, Fault.REPLY_LOST)
    assert farm.compute.launch(SPEC, request_id="launch_1") == 2
    assert len(moto.instances()) == 2


def test_repeat_that_is_answered_with_the_fleet_alone_still_knows_its_instances(moto: Moto, farm: Renting, way: Way) -> None:
    moto.change(hides_new=True, bare_replays=True)
    break_fleet(way, Fault.REPLY_LOST)
    assert farm.compute.launch(SPEC, request_id="launch_1") == 2


def test_repeat_after_ec2_forgot_the_token_finds_the_instances_by_their_request(moto: Moto, farm: Renting) -> None:
    farm.compute.launch(SPEC, request_id="launch_1")
    moto.change(forgets_tokens=True)
    assert Renting(farm.session).compute.launch(SPEC, request_id="launch_1") == 2
    assert len(moto.instances()) == 2


def test_repeat_that_sees_some_of_the_instances_knows_all_of_them_by_their_fleet(moto: Moto, farm: Renting) -> None:
    farm.compute.launch(SPEC, request_id="launch_1")
    first = farm.compute.instances()[0].id
    moto.tell("hide", instance=first)
    assert Renting(farm.session).compute.launch(SPEC, request_id="launch_1") == 2


def test_repeat_after_the_agent_changed_waits_until_the_instances_are_shown(moto: Moto, farm: Renting) -> None:
    moto.change(hides_new=True)
    farm.compute.launch(SPEC, request_id="launch_1")
    restarted = Renting(farm.session, release=OTHER_RELEASE)
    with pytest.raises(Unreachable, match="asked for before"):
        restarted.compute.launch(SPEC, request_id="launch_1")
    moto.tell("show_all")
    assert restarted.compute.launch(SPEC, request_id="launch_1") == 2
    assert len(moto.instances()) == 2


def test_repeat_of_a_launch_that_brought_nothing_is_settled_after_a_while(moto: Moto, farm: Renting) -> None:
    moto.change(capacity={"*": 0})
    with pytest.raises(NoCapacity):
        farm.compute.launch(SPEC, request_id="launch_1")
    moto.change(capacity={})
    clock = Clock()
    restarted = Renting(farm.session, release=OTHER_RELEASE, clock=clock)
    with pytest.raises(Unreachable):
        restarted.compute.launch(SPEC, request_id="launch_1")
    clock.now_s += 61
    with pytest.raises(NoCapacity, match="nothing came of it"):
        restarted.compute.launch(SPEC, request_id="launch_1")
    assert moto.instances() == []


def test_launches_of_a_job_share_a_version_that_goes_when_the_job_is_released(moto: Moto, farm: Renting) -> None:
    farm.compute.launch(SPEC, request_id="launch_1")
    farm.compute.launch(SPEC, request_id="launch_2")
    Renting(farm.session).compute.launch(SPEC, request_id="launch_3")
    farm.compute.launch(replace(SPEC, job="job_b"), request_id="launch_4")
    versions = [each["LaunchTemplateConfigs"][0]["LaunchTemplateSpecification"]["Version"] for each in moto.calls("CreateFleet")]
    assert versions == ["2", "2", "2", "3"]
    assert farm.site.versions.jobs().keys() == {"job_a", "job_b"}
    assert list(farm.site.versions.delete("job_a")) == ["2"]
    assert list(farm.site.versions.delete("job_a")) == []
    assert farm.site.versions.jobs().keys() == {"job_b"}
    farm.compute.launch(SPEC, request_id="launch_5")
    assert moto.calls("CreateFleet")[-1]["LaunchTemplateConfigs"][0]["LaunchTemplateSpecification"]["Version"] == "4"


def test_version_that_somebody_deleted_is_made_anew(moto: Moto, farm: Renting) -> None:
    farm.compute.launch(SPEC, request_id="launch_1")
    Renting(farm.session).site.versions.delete("job_a")
    with pytest.raises(Unreachable, match="version of the launch template"):
        farm.compute.launch(SPEC, request_id="launch_2")
    assert farm.compute.launch(SPEC, request_id="launch_2") == 2
    assert len(moto.instances()) == 4


def test_versions_of_a_farm_that_is_not_set_up_are_none(moto: Moto, aws_session: AwsSession) -> None:
    versions = Renting(aws_session).site.versions
    assert versions.jobs() == {}
    assert list(versions.delete("job_a")) == []
    assert moto.calls("DeleteLaunchTemplateVersions") == []


def test_image_that_was_removed_is_looked_for_again(moto: Moto, farm: Renting) -> None:
    moto.tell("add_image", image="ami-0c222222222222222", age_days=0.5)
    farm.compute.launch(SPEC, request_id="launch_1")
    moto.tell("remove_image", image="ami-0c222222222222222")
    with pytest.raises(Unreachable, match="ami-0c222222222222222"):
        farm.compute.launch(replace(SPEC, job="job_b"), request_id="launch_2")
    assert farm.compute.launch(replace(SPEC, job="job_b"), request_id="launch_2") == 2


NO_PROFILE = "InvalidParameterValue: Value (kiln-f0) for parameter iamInstanceProfile.name is invalid. Invalid IAM Instance Profile name"


def test_instance_profile_that_ec2_has_not_heard_of_yet_does_not_fail_a_launch(moto: Moto, farm: Renting) -> None:
    moto.change(pool_errors={"*": NO_PROFILE})
    for _ in range(2):
        with pytest.raises(Unreachable, match="has not heard of it yet"):
            farm.compute.launch(SPEC, request_id="launch_1")
    moto.change(pool_errors={})
    assert farm.compute.launch(SPEC, request_id="launch_1") == 2
    assert len(moto.instances()) == 2


def test_instance_profile_that_ec2_does_not_know_for_minutes_is_a_persons_to_mend(moto: Moto, aws_session: AwsSession, way: Way) -> None:
    set_up_farm(moto)
    clock = Clock()
    farm = Renting(aws_session, clock=clock)
    moto.change(pool_errors={"*": NO_PROFILE})
    with pytest.raises(Unreachable):
        farm.compute.launch(SPEC, request_id="launch_1")
    clock.now_s += 181
    with pytest.raises(Refused, match="Invalid IAM Instance Profile name"):
        farm.compute.launch(SPEC, request_id="launch_1")


def test_of_two_subnets_in_a_zone_a_fleet_is_offered_the_one_with_room(moto: Moto, aws_session: AwsSession, way: Way) -> None:
    set_up_farm(moto)
    ec2 = moto.client("ec2")
    [first, *_] = ec2.describe_subnets(Filters=[{"Name": "availability-zone", "Values": ["us-east-1a"]}])["Subnets"]
    vpc, zone = first["VpcId"], first["AvailabilityZone"]
    small = ec2.create_subnet(VpcId=vpc, CidrBlock="172.31.128.0/28", AvailabilityZone=zone)["Subnet"]["SubnetId"]
    farm = Renting(aws_session, aws=AwsConfig(describe_s=0, subnets=f"{small}, {first['SubnetId']}"))
    assert farm.compute.launch(SPEC, request_id="launch_1") == 2
    assert {one["SubnetId"] for one in moto.instances()} == {first["SubnetId"]}


FROM_SNAPSHOT = replace(SPEC, workspace_bytes=20 << 30)


def rates(moto: Moto) -> list[int | None]:
    """At which rates the workspace volumes of the launches so far were to be filled."""
    made = moto.calls("CreateLaunchTemplateVersion")
    return [each["LaunchTemplateData"]["BlockDeviceMappings"][1]["Ebs"].get("VolumeInitializationRate") for each in made]


def test_launch_that_is_refused_for_its_rate_of_filling_volumes_goes_on_without(moto: Moto, aws_session: AwsSession, way: Way) -> None:
    set_up_farm(moto)
    volume = moto.client("ec2").create_volume(AvailabilityZone="us-east-1a", Size=20)["VolumeId"]
    spec = replace(FROM_SNAPSHOT, workspace=moto.client("ec2").create_snapshot(VolumeId=volume)["SnapshotId"])
    farm = Renting(aws_session, workspace=WorkspaceConfig(initialization_mib_s=300))
    moto.change(pool_errors={"*": "LimitExceeded: You have exceeded your volume initialization rate limit."})
    with pytest.raises(Unreachable, match="without a rate"):
        farm.compute.launch(spec, request_id="launch_1")
    moto.change(pool_errors={})
    assert farm.compute.launch(spec, request_id="launch_1") == 2
    assert rates(moto) == [300, None]


def test_types_for_other_processors_are_launched_from_their_own_image(moto: Moto, farm: Renting) -> None:
    moto.tell("add_image", image="ami-0c333333333333333", architecture="arm64")
    moto.change(capacity={"c7i.4xlarge": 0}, spot_prices={"c7g.4xlarge": "0.05"})
    spec = replace(SPEC, market=Market.SPOT, instance_types=("c7i.4xlarge", "c7g.4xlarge"))
    assert farm.compute.launch(spec, request_id="launch_1") == 2
    assert {one["ImageId"] for one in moto.instances()} == {"ami-0c333333333333333"}
