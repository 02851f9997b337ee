"""Renting on EC2: what is asked for, what is made of what EC2 shows, and that asking again brings no more."""

from __future__ import annotations

import base64
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from nodeimage.launch import LaunchData, Role, WorkspaceKind
from supervisor.cloud.aws.identity import tag_list, tags_of
from supervisor.cloud.aws.session import AwsSession
from supervisor.cloud.ports import NoCapacity, Refused, RentedInstance, Throttled, Unreachable
from supervisor.config import AwsConfig, LaunchConfig
from supervisor.domain.instance import InstanceStatus, Market
from tests.aws.farm import IDENTITY, RELEASE, SPEC, Clock, Renting, set_up_farm
from tests.aws.happenings import IMAGE
from tests.aws.moto_server import Moto

TYPES = ("c7i.4xlarge", "c7a.4xlarge", "c6i.4xlarge", "m7i.4xlarge")
SPOT = replace(SPEC, market=Market.SPOT)
ONE = replace(SPEC, count=1)


@pytest.fixture
def farm(moto: Moto, aws_session: AwsSession) -> Renting:
    set_up_farm(moto)
    return Renting(aws_session)


def one_of(farm: Renting) -> RentedInstance:
    [instance] = farm.compute.instances()
    return instance


def zones_of(moto: Moto, request: dict[str, Any]) -> set[tuple[str, str]]:
    """The places that a fleet was asked for in."""
    subnets = {each["SubnetId"]: each["AvailabilityZone"] for each in moto.client("ec2").describe_subnets()["Subnets"]}
    [config] = request["LaunchTemplateConfigs"]
    return {(each["InstanceType"], subnets[each["SubnetId"]]) for each in config["Overrides"]}


def test_launch_asks_for_every_default_type_in_every_zone_that_has_it(moto: Moto, farm: Renting) -> None:
    assert farm.compute.launch(SPEC, request_id="launch_1") == 2
    [request] = moto.calls("CreateFleet")
    offers = moto.client("ec2").describe_instance_type_offerings(LocationType="availability-zone")["InstanceTypeOfferings"]
    assert zones_of(moto, request) == {(each["InstanceType"], each["Location"]) for each in offers if each["InstanceType"] in TYPES}
    assert {name for name, _ in zones_of(moto, request)} == set(TYPES)


def test_launch_on_demand_sends_these_parameters_and_no_others(moto: Moto, farm: Renting) -> None:
    farm.compute.launch(replace(SPEC, instance_types=("c7i.4xlarge",)), request_id="launch_1")
    [request] = moto.calls("CreateFleet")
    [config] = request.pop("LaunchTemplateConfigs")
    assert config["LaunchTemplateSpecification"] == {"LaunchTemplateName": IDENTITY.name, "Version": "2"}
    assert all(each.keys() == {"InstanceType", "SubnetId"} for each in config["Overrides"])
    tags = request.pop("TagSpecifications")
    assert [each["ResourceType"] for each in tags] == ["fleet", "instance"]
    assert tags_of({"Tags": tags[1]["Tags"]}) == {
        "kiln:farm": IDENTITY.farm,
        "kiln:job": "job_a",
        "kiln:role": "render",
        "kiln:request": "launch_1",
        "Name": f"{IDENTITY.name} job_a",
    }
    assert request == {
        "Type": "instant",
        "ClientToken": "launch_1",
        "TargetCapacitySpecification": {"TotalTargetCapacity": 2, "DefaultTargetCapacityType": "on-demand"},
        "OnDemandOptions": {"AllocationStrategy": "lowest-price"},
    }


def test_launch_on_the_spot_market_says_what_it_pays_at_most(moto: Moto, farm: Renting) -> None:
    farm.compute.launch(replace(SPOT, max_price_usd_per_h=Decimal("0.200")), request_id="launch_1")
    [request] = moto.calls("CreateFleet")
    assert {each["MaxPrice"] for each in request["LaunchTemplateConfigs"][0]["Overrides"]} == {"0.200"}
    assert request["SpotOptions"] == {"AllocationStrategy": "price-capacity-optimized", "InstanceInterruptionBehavior": "terminate"}
    assert request["TargetCapacitySpecification"]["DefaultTargetCapacityType"] == "spot"
    assert "OnDemandOptions" not in request
    farm.compute.launch(SPOT, request_id="launch_2")
    assert not any("MaxPrice" in each for each in moto.calls("CreateFleet")[1]["LaunchTemplateConfigs"][0]["Overrides"])


def test_version_for_a_job_holds_all_that_its_instances_are_launched_with(moto: Moto, farm: Renting) -> None:
    farm.compute.launch(SPEC, request_id="launch_1")
    [asked] = moto.calls("CreateLaunchTemplateVersion")
    data = asked["LaunchTemplateData"]
    told = LaunchData.from_bytes(base64.b64decode(data.pop("UserData")))
    assert (told.role, told.job, told.workspace, told.blender) == (Role.RENDER, "job_a", WorkspaceKind.S3, "4.5")
    assert (told.farm, told.agent, told.agent_sha256) == (IDENTITY.farm, RELEASE.key, RELEASE.sha256)
    assert (told.projects_bucket, told.received_bucket, told.endpoint) == (IDENTITY.projects_bucket, IDENTITY.received_bucket, "")
    group = moto.client("ec2").describe_security_groups(GroupNames=[IDENTITY.name])["SecurityGroups"][0]["GroupId"]
    [volume_tags] = data.pop("TagSpecifications")
    assert volume_tags["ResourceType"] == "volume"
    assert (
        tags_of({"Tags": volume_tags["Tags"]}).items() >= {"kiln:farm": IDENTITY.farm, "kiln:job": "job_a", "kiln:role": "render"}.items()
    )
    assert data == {
        "ImageId": IMAGE,
        "IamInstanceProfile": {"Name": IDENTITY.name},
        "SecurityGroupIds": [group],
        "InstanceInitiatedShutdownBehavior": "terminate",
        "MetadataOptions": {
            "HttpEndpoint": "enabled",
            "HttpTokens": "required",
            "HttpPutResponseHopLimit": 1,
            "InstanceMetadataTags": "enabled",
        },
        "BlockDeviceMappings": [
            {
                "DeviceName": "/dev/xvda",
                "Ebs": {"VolumeSize": 30, "VolumeType": "gp3", "Encrypted": True, "DeleteOnTermination": True},
            }
        ],
    }
    assert asked["VersionDescription"].startswith("job_a s3:0123 ")


def test_workspace_from_a_snapshot_is_a_volume_of_its_own_for_each_instance(moto: Moto, farm: Renting) -> None:
    ec2 = moto.client("ec2")
    volume = ec2.create_volume(AvailabilityZone="us-east-1a", Size=12, VolumeType="gp3")["VolumeId"]
    snapshot = ec2.create_snapshot(VolumeId=volume)["SnapshotId"]
    farm.compute.launch(replace(SPEC, workspace=snapshot, workspace_bytes=11 << 30), request_id="launch_1")
    [asked] = moto.calls("CreateLaunchTemplateVersion")
    assert LaunchData.from_bytes(base64.b64decode(asked["LaunchTemplateData"]["UserData"])).workspace is WorkspaceKind.VOLUME
    assert asked["LaunchTemplateData"]["BlockDeviceMappings"][1] == {
        "DeviceName": "/dev/sdf",
        "Ebs": {
            "SnapshotId": snapshot,
            "VolumeType": "gp3",
            "Encrypted": True,
            "DeleteOnTermination": True,
            "Throughput": 250,
            "Iops": 3000,
        },
    }
    mine = ec2.describe_volumes(Filters=[{"Name": "tag:kiln:job", "Values": ["job_a"]}])["Volumes"]
    assert sorted(each["Size"] for each in mine) == [12, 12, 30, 30]
    farm.compute.terminate([one.id for one in farm.compute.instances()])
    assert ec2.describe_volumes(Filters=[{"Name": "tag:kiln:job", "Values": ["job_a"]}])["Volumes"] == []


def test_instance_is_shown_with_all_that_the_farm_wants_to_know(farm: Renting) -> None:
    farm.prices.by_type = {("c7i.4xlarge", Market.SPOT): Decimal("0.21")}
    farm.compute.launch(replace(SPOT, count=1, instance_types=("c7i.4xlarge",)), request_id="launch_1")
    shown = one_of(farm)
    assert shown.node == f"node_{shown.id.removeprefix('i-')}"
    assert (shown.job, shown.request_id, shown.instance_type, shown.market) == ("job_a", "launch_1", "c7i.4xlarge", Market.SPOT)
    assert (shown.status, shown.note, shown.was_interrupted) == (InstanceStatus.RUNNING, "", False)
    assert shown.price_usd_per_h == Decimal("0.21")
    assert shown.zone.startswith("us-east-1")
    assert shown.launched_at.tzinfo


def test_price_is_that_of_the_first_sight_and_asked_for_until_it_is_known(farm: Renting) -> None:
    farm.prices.default = None
    farm.compute.launch(ONE, request_id="launch_1")
    assert one_of(farm).price_usd_per_h == 0
    farm.prices.default = Decimal("0.3")
    assert one_of(farm).price_usd_per_h == Decimal("0.3")
    farm.prices.default = Decimal("0.5")
    assert one_of(farm).price_usd_per_h == Decimal("0.3")


def test_every_state_of_ec2_has_a_status(moto: Moto, farm: Renting) -> None:
    moto.change(is_slow=True)
    farm.compute.launch(ONE, request_id="launch_1")
    assert one_of(farm).status is InstanceStatus.PENDING
    moto.tell("settle")
    farm.compute.stop([one_of(farm).id])
    assert one_of(farm).status is InstanceStatus.STOPPING
    moto.tell("settle")
    assert one_of(farm).status is InstanceStatus.STOPPED
    farm.compute.start([one_of(farm).id])
    assert one_of(farm).status is InstanceStatus.PENDING
    moto.tell("settle")
    assert one_of(farm).status is InstanceStatus.RUNNING
    farm.compute.terminate([one_of(farm).id])
    assert one_of(farm).status is InstanceStatus.TERMINATING
    moto.tell("settle")
    assert one_of(farm).status is InstanceStatus.TERMINATED


def test_only_what_renders_for_this_farm_is_shown(moto: Moto, farm: Renting) -> None:
    asked = {"ImageId": IMAGE, "InstanceType": "c7i.xlarge", "MinCount": 1, "MaxCount": 1}
    ids = {}
    for farm_id, role in ((IDENTITY.farm, "pool"), (IDENTITY.farm, "stage"), (IDENTITY.farm, "build"), ("another", "render")):
        tags = [{"ResourceType": "instance", "Tags": tag_list({"kiln:farm": farm_id, "kiln:role": role})}]
        ids[farm_id, role] = moto.client("ec2").run_instances(**asked, TagSpecifications=tags)["Instances"][0]["InstanceId"]
    shown = one_of(farm)
    assert shown.id == ids[IDENTITY.farm, "pool"]
    assert (shown.job, shown.request_id, shown.market) == ("", "", Market.ON_DEMAND)


def test_interrupted_instance_says_so(moto: Moto, farm: Renting) -> None:
    farm.compute.launch(replace(SPOT, count=1), request_id="launch_1")
    moto.tell("interrupt", instance=one_of(farm).id)
    shown = one_of(farm)
    assert (shown.status, shown.was_interrupted) == (InstanceStatus.TERMINATED, True)
    assert shown.note == "AWS took the spot instance back"


def test_instance_that_shut_itself_down_says_so(moto: Moto, farm: Renting) -> None:
    farm.compute.launch(ONE, request_id="launch_1")
    moto.tell("power_off", instance=one_of(farm).id)
    shown = one_of(farm)
    assert (shown.status, shown.note, shown.was_interrupted) == (InstanceStatus.TERMINATED, "it shut itself down", False)


def test_one_description_serves_for_a_while_and_until_something_is_changed(moto: Moto, aws_session: AwsSession) -> None:
    set_up_farm(moto)
    clock = Clock()
    farm = Renting(aws_session, aws=AwsConfig(describe_s=2.0), clock=clock)
    farm.compute.launch(ONE, request_id="launch_1")
    moto.tell("forget_calls")
    for _ in range(3):
        farm.compute.instances()
        farm.compute.free_slots()
    assert len(moto.calls("DescribeInstances")) == 1
    clock.now_s += 2.0
    farm.compute.instances()
    assert len(moto.calls("DescribeInstances")) == 2
    farm.compute.terminate([one_of(farm).id])
    assert one_of(farm).status is InstanceStatus.TERMINATED
    assert len(moto.calls("DescribeInstances")) == 3


def test_fewer_are_granted_where_there_is_less_room(moto: Moto, farm: Renting) -> None:
    moto.change(capacity={"*": 0, "c7a.4xlarge/us-east-1b": 1, "c6i.4xlarge/us-east-1a": 2})
    assert farm.compute.launch(replace(SPEC, count=5), request_id="launch_1") == 3
    assert len(farm.compute.instances()) == 3


def test_launch_without_any_room_says_where_and_at_which_price(moto: Moto, farm: Renting) -> None:
    moto.change(capacity={"*": 0})
    wanted = replace(SPOT, count=1, max_price_usd_per_h=Decimal("0.20"), instance_types=("c7i.4xlarge",))
    with pytest.raises(NoCapacity) as raised:
        farm.compute.launch(wanted, request_id="launch_1")
    text = str(raised.value)
    assert text.startswith("can't launch an instance for job_a: no spot capacity for c7i.4xlarge in us-east-1a, ")
    assert text.endswith(" at $0.20/h")
    assert farm.compute.instances() == []


def test_launch_that_was_refused_for_a_passing_reason_is_asked_anew(moto: Moto, farm: Renting) -> None:
    moto.change(pool_errors={"*": "RequestLimitExceeded"})
    with pytest.raises(Throttled):
        farm.compute.launch(SPEC, request_id="launch_1")
    moto.change(pool_errors={})
    assert farm.compute.launch(SPEC, request_id="launch_1") == 2
    assert [each["ClientToken"] for each in moto.calls("CreateFleet")] == ["launch_1", "launch_1-1"]
    assert len(moto.calls("CreateLaunchTemplateVersion")) == 1


def test_wish_that_can_never_be_fulfilled_is_refused_with_the_reason(moto: Moto, farm: Renting) -> None:
    with pytest.raises(Refused, match=r"no instance type c7i\.huge in us-east-1: correct it"):
        farm.compute.launch(replace(SPEC, instance_types=("c7i.4xlarge", "c7i.huge")), request_id="launch_1")
    with pytest.raises(Refused, match=r"no image for .* has Blender 5\.1 .*4\.2\.23, 4\.5\.15.*kiln ami build"):
        farm.compute.launch(replace(SPEC, blender_version=(5, 1)), request_id="launch_2")
    assert moto.instances() == []


def test_workspace_that_stays_unknown_to_aws_is_refused_after_a_while(moto: Moto, aws_session: AwsSession) -> None:
    set_up_farm(moto)
    clock = Clock()
    farm = Renting(aws_session, clock=clock)
    gone = replace(SPEC, workspace="snap-0123456789abcdef0")
    with pytest.raises(Unreachable, match=r"snap-0123456789abcdef0.* AWS has not heard of it yet"):
        farm.compute.launch(gone, request_id="launch_1")
    clock.now_s += 181
    with pytest.raises(Refused, match=r"snap-0123456789abcdef0"):
        farm.compute.launch(gone, request_id="launch_1")
    assert moto.instances() == []


def test_farm_without_instance_types_asks_for_some(moto: Moto, aws_session: AwsSession) -> None:
    set_up_farm(moto)
    with pytest.raises(Refused, match=r"name some in the job's settings, or in \[aws\] instance_types"):
        Renting(aws_session, aws=AwsConfig(instance_types="")).compute.launch(SPEC, request_id="launch_1")


def test_type_that_no_zone_of_the_subnets_has_is_refused(moto: Moto, aws_session: AwsSession) -> None:
    set_up_farm(moto)
    [subnet] = [each["SubnetId"] for each in moto.client("ec2").describe_subnets()["Subnets"] if each["AvailabilityZone"] == "us-east-1e"]
    farm = Renting(aws_session, aws=AwsConfig(subnets=subnet))
    with pytest.raises(Refused, match=r"c7i\.4xlarge: not offered in us-east-1e, where the farm's subnets are"):
        farm.compute.launch(replace(SPEC, instance_types=("c7i.4xlarge",)), request_id="launch_1")


def test_farm_that_is_not_set_up_is_told_to_be(moto: Moto, aws_session: AwsSession) -> None:
    with pytest.raises(Refused, match=r"not set up in its AWS account: .*kiln aws setup"):
        Renting(aws_session).compute.launch(SPEC, request_id="launch_1")
    assert moto.calls("CreateFleet") == []


def test_slots_are_those_of_the_configuration_less_what_runs_or_is_about_to(moto: Moto, aws_session: AwsSession) -> None:
    set_up_farm(moto)
    farm = Renting(aws_session, launch=LaunchConfig(max_instances=4))
    moto.change(hides_new=True)
    farm.compute.launch(replace(SPEC, count=3), request_id="launch_1")
    assert farm.compute.instances() == []
    assert farm.compute.free_slots() == 1
    moto.tell("show_all")
    assert farm.compute.free_slots() == 1
    first, second, _ = farm.compute.instances()
    farm.compute.stop([first.id])
    farm.compute.terminate([second.id])
    assert farm.compute.free_slots() == 3


def test_hidden_instances_free_their_slots_after_a_while(moto: Moto, aws_session: AwsSession) -> None:
    set_up_farm(moto)
    clock = Clock()
    farm = Renting(aws_session, launch=LaunchConfig(max_instances=4), clock=clock)
    moto.change(hides_new=True)
    farm.compute.launch(replace(SPEC, count=3), request_id="launch_1")
    clock.now_s += 301
    assert farm.compute.free_slots() == 4


def test_stopping_keeps_what_can_be_started_again_and_ends_the_rest(moto: Moto, farm: Renting) -> None:
    farm.compute.launch(ONE, request_id="launch_1")
    farm.compute.launch(replace(SPOT, count=1), request_id="launch_2")
    moto.change(is_slow=True)
    farm.compute.launch(ONE, request_id="launch_3")
    farm.compute.stop([*(one.id for one in farm.compute.instances()), "i-0123456789abcdef0"])
    moto.tell("settle")
    assert {one.request_id: one.status for one in farm.compute.instances()} == {
        "launch_1": InstanceStatus.STOPPED,
        "launch_2": InstanceStatus.TERMINATED,
        "launch_3": InstanceStatus.TERMINATED,
    }


def test_starting_without_room_is_no_capacity_and_with_little_starts_some(moto: Moto, farm: Renting) -> None:
    farm.compute.launch(replace(SPEC, count=2, instance_types=("c7i.4xlarge",)), request_id="launch_1")
    ids = [one.id for one in farm.compute.instances()]
    farm.compute.stop(ids)
    moto.change(capacity={"*": 0})
    with pytest.raises(NoCapacity, match="can't start stopped instances"):
        farm.compute.start(ids)
    moto.change(capacity={"*": 1})
    farm.compute.start(ids)
    assert sorted(one.status for one in farm.compute.instances()) == [InstanceStatus.RUNNING, InstanceStatus.STOPPED]


def test_starting_more_than_the_configuration_allows_starts_as_many_as_it_does(moto: Moto, aws_session: AwsSession) -> None:
    set_up_farm(moto)
    farm = Renting(aws_session, launch=LaunchConfig(max_instances=2))
    farm.compute.launch(SPEC, request_id="launch_1")
    stopped = [one.id for one in farm.compute.instances()]
    farm.compute.stop(stopped)
    farm.compute.launch(replace(ONE, job="job_b"), request_id="launch_2")
    farm.compute.start(stopped)
    assert len(moto.instances("running")) == 2
    with pytest.raises(NoCapacity, match="max_instances"):
        farm.compute.start(stopped)


def test_one_wrong_id_does_not_keep_the_others_running(moto: Moto, farm: Renting) -> None:
    farm.compute.launch(replace(SPEC, count=3), request_id="launch_1")
    first, *others = [one.id for one in farm.compute.instances()]
    farm.compute.terminate([first])
    moto.tell("age_out")
    farm.compute.terminate(["local_nobody", first, "i-0123456789abcdef0", *others])
    assert [one["InstanceId"] for one in moto.instances("running")] == []
    farm.compute.terminate([])


def test_stopped_instance_that_is_gone_is_no_error_when_it_is_started(moto: Moto, farm: Renting) -> None:
    farm.compute.launch(SPEC, request_id="launch_1")
    first, second = [one.id for one in farm.compute.instances()]
    farm.compute.stop([first, second])
    farm.compute.terminate([first])
    farm.compute.start([first, second])
    assert [one["InstanceId"] for one in moto.instances("running")] == [second]
