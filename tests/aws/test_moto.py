"""What the tests' AWS does where moto alone does otherwise: each is something that the farm relies on."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from typing import Any

import pytest
from botocore.exceptions import ClientError

from supervisor.cloud.aws.identity import tag_list, tags_of

from .happenings import IMAGE
from .moto_server import Moto

TYPES = ("c7i.4xlarge", "c6i.4xlarge")


@pytest.fixture
def ec2(moto: Moto) -> Any:
    return moto.client("ec2")


def code_of(call: Any, **parameters: Any) -> str:
    try:
        call(**parameters)
    except ClientError as error:
        return str(error.response["Error"]["Code"])
    return ""


def subnets(ec2: Any, *zones: str) -> list[str]:
    found = {each["AvailabilityZone"]: each["SubnetId"] for each in ec2.describe_subnets()["Subnets"]}
    return [found[zone] for zone in zones]


def a_template(ec2: Any, *, profile: str = "", **data: Any) -> dict[str, Any]:
    """A launch template version with all that the farm puts into one."""
    whole = {
        "ImageId": IMAGE,
        "UserData": base64.b64encode(b'{"version": 1}').decode(),
        "InstanceInitiatedShutdownBehavior": "terminate",
        "MetadataOptions": {"HttpTokens": "required", "HttpPutResponseHopLimit": 1, "InstanceMetadataTags": "enabled"},
        "TagSpecifications": [
            {"ResourceType": kind, "Tags": tag_list({"kiln:farm": "f", "kiln:job": "job_a"})} for kind in ("instance", "volume")
        ],
        **({"IamInstanceProfile": {"Name": profile}} if profile else {}),
        **data,
    }
    made = ec2.create_launch_template(LaunchTemplateName="kiln-f", LaunchTemplateData=whole)["LaunchTemplate"]
    return {"LaunchTemplateId": made["LaunchTemplateId"], "Version": "1"}


def a_fleet(ec2: Any, template: dict[str, Any], count: int, *, market: str = "spot", token: str = "r1", **override: Any) -> dict[str, Any]:
    overrides = [
        {"InstanceType": name, "SubnetId": subnet, **override} for name in TYPES for subnet in subnets(ec2, "us-east-1a", "us-east-1b")
    ]
    return {
        "Type": "instant",
        "ClientToken": token,
        "LaunchTemplateConfigs": [{"LaunchTemplateSpecification": template, "Overrides": overrides}],
        "TargetCapacitySpecification": {"TotalTargetCapacity": count, "DefaultTargetCapacityType": market},
        "SpotOptions": {"AllocationStrategy": "price-capacity-optimized"},
        "TagSpecifications": [{"ResourceType": "instance", "Tags": tag_list({"kiln:request": token})}],
    }


def test_an_account_has_subnets_in_several_zones_and_an_image_of_the_farm(ec2: Any) -> None:
    assert len({each["AvailabilityZone"] for each in ec2.describe_subnets()["Subnets"]}) >= 3
    [image] = ec2.describe_images(Owners=["self"])["Images"]
    assert tags_of(image)["kiln:protocol"] == "1"
    assert "4.5.15" in tags_of(image)["kiln:blenders"].split()


def test_debian_publishes_its_images(moto: Moto) -> None:
    name = "/aws/service/debian/release/12/latest/arm64"
    image = moto.client("ssm").get_parameter(Name=name)["Parameter"]["Value"]
    assert moto.client("ec2").describe_images(ImageIds=[image])["Images"][0]["Architecture"] == "arm64"


def test_fleet_launches_by_everything_that_the_version_says(moto: Moto, ec2: Any) -> None:
    iam = moto.client("iam")
    iam.create_instance_profile(InstanceProfileName="kiln-f")
    volume = ec2.create_volume(AvailabilityZone="us-east-1a", Size=10)["VolumeId"]
    snapshot = ec2.create_snapshot(VolumeId=volume)["SnapshotId"]
    ebs = {"SnapshotId": snapshot, "VolumeType": "gp3", "Throughput": 250, "VolumeInitializationRate": 200, "DeleteOnTermination": True}
    root = {"DeviceName": "/dev/xvda", "Ebs": {"VolumeSize": 30, "DeleteOnTermination": True}}
    template = a_template(ec2, profile="kiln-f", BlockDeviceMappings=[root, {"DeviceName": "/dev/sdf", "Ebs": ebs}])
    answer = ec2.create_fleet(**a_fleet(ec2, template, 2))
    assert answer["Errors"] == []
    instances = moto.instances()
    assert {one["InstanceId"] for one in instances} == {id for each in answer["Instances"] for id in each["InstanceIds"]}
    for one in instances:
        assert one["ImageId"] == IMAGE
        assert one["IamInstanceProfile"]["Arn"].endswith("kiln-f")
        assert one["MetadataOptions"]["HttpTokens"] == "required"
        assert one["InstanceLifecycle"] == "spot"
        wanted = {"kiln:farm": "f", "kiln:job": "job_a", "kiln:request": "r1", "aws:ec2:fleet-id": answer["FleetId"]}
        assert wanted.items() <= tags_of(one).items()
        said = ec2.describe_instance_attribute(InstanceId=one["InstanceId"], Attribute="userData")["UserData"]["Value"]
        assert json.loads(base64.b64decode(said)) == {"version": 1}
        assert {each["DeviceName"] for each in one["BlockDeviceMappings"]} == {"/dev/xvda", "/dev/sdf"}
    volumes = ec2.describe_volumes(Filters=[{"Name": "tag:kiln:job", "Values": ["job_a"]}])["Volumes"]
    filled = [(each["Size"], each["Throughput"], each["VolumeInitializationRate"]) for each in volumes if each["SnapshotId"] == snapshot]
    assert filled == [(10, 250, 200)] * 2
    assert [each["Size"] for each in volumes].count(30) == 2


def test_fleet_asked_again_launches_nothing_new(moto: Moto, ec2: Any) -> None:
    template = a_template(ec2)
    first = ec2.create_fleet(**a_fleet(ec2, template, 2))
    assert ec2.create_fleet(**a_fleet(ec2, template, 2))["Instances"] == first["Instances"]
    assert len(moto.instances()) == 2
    assert code_of(ec2.create_fleet, **a_fleet(ec2, template, 3)) == "IdempotentParameterMismatch"
    moto.change(bare_replays=True)
    assert "Instances" not in ec2.create_fleet(**a_fleet(ec2, template, 2))
    [told] = ec2.describe_fleets(FleetIds=[first["FleetId"]])["Fleets"]
    assert told["Instances"][0]["InstanceIds"] == first["Instances"][0]["InstanceIds"]


def test_fleet_is_fulfilled_as_far_as_there_is_room_and_the_cheapest_first(moto: Moto, ec2: Any) -> None:
    template = a_template(ec2)
    moto.change(
        capacity={"*": 0, "c7i.4xlarge/us-east-1b": 1, "c6i.4xlarge/us-east-1a": 2},
        spot_prices={"*": "0.3", "c6i.4xlarge/us-east-1a": "0.2"},
    )
    answer = ec2.create_fleet(**a_fleet(ec2, template, 5))
    assert [(each["InstanceType"], len(each["InstanceIds"])) for each in answer["Instances"]] == [("c6i.4xlarge", 2), ("c7i.4xlarge", 1)]
    assert {each["ErrorCode"] for each in answer["Errors"]} == {"InsufficientInstanceCapacity"}
    assert {each["LaunchTemplateAndOverrides"]["Overrides"]["AvailabilityZone"] for each in answer["Errors"]} == {
        "us-east-1a",
        "us-east-1b",
    }
    assert len(moto.instances()) == 3


def test_fleet_pays_no_more_than_the_maximum_price(moto: Moto, ec2: Any) -> None:
    moto.change(spot_prices={"*": "0.3", "c6i.4xlarge/us-east-1b": "0.19"})
    answer = ec2.create_fleet(**a_fleet(ec2, a_template(ec2), 1, MaxPrice="0.2"))
    assert [each["InstanceType"] for each in answer["Instances"]] == ["c6i.4xlarge"]
    moto.change(spot_prices={"*": "0.3"})
    answer = ec2.create_fleet(**a_fleet(ec2, {"LaunchTemplateName": "kiln-f", "Version": "1"}, 1, token="r2", MaxPrice="0.2"))
    assert answer["Instances"] == []
    assert {each["ErrorCode"] for each in answer["Errors"]} == {"SpotMaxPriceTooLow"}


def test_fleet_stops_at_the_quota_of_vcpus(moto: Moto, ec2: Any) -> None:
    moto.change(vcpu_quota={"on-demand": 32, "spot": 0})
    template = a_template(ec2)
    answer = ec2.create_fleet(**a_fleet(ec2, template, 3, market="on-demand"))
    assert sum(len(each["InstanceIds"]) for each in answer["Instances"]) == 2
    assert {each["ErrorCode"] for each in answer["Errors"]} == {"VcpuLimitExceeded"}
    assert {each["ErrorCode"] for each in ec2.create_fleet(**a_fleet(ec2, template, 3, token="r2"))["Errors"]} == {
        "MaxSpotInstanceCountExceeded"
    }


def test_fleet_is_found_by_its_tags_and_deleted_with_its_instances(moto: Moto, ec2: Any) -> None:
    asked = a_fleet(ec2, a_template(ec2), 2)
    asked["TagSpecifications"].append({"ResourceType": "fleet", "Tags": tag_list({"kiln:farm": "f"})})
    fleet = ec2.create_fleet(**asked)["FleetId"]
    filters = [{"Name": name, "Values": [value]} for name, value in (("resource-type", "fleet"), ("key", "kiln:farm"), ("value", "f"))]
    assert [tag["ResourceId"] for tag in ec2.describe_tags(Filters=filters)["Tags"]] == [fleet]
    assert code_of(ec2.delete_fleets, FleetIds=[fleet], TerminateInstances=False) == "InvalidParameterValue"
    ec2.delete_fleets(FleetIds=[fleet], TerminateInstances=True)
    assert ec2.describe_fleets(FleetIds=[fleet])["Fleets"][0]["FleetState"] == "deleted_terminating"
    assert moto.instances("running") == []


def test_fleet_with_an_unknown_profile_tells_of_it_pool_by_pool(ec2: Any) -> None:
    answer = ec2.create_fleet(**a_fleet(ec2, a_template(ec2, profile="nobody"), 1))
    assert {each["ErrorCode"] for each in answer["Errors"]} == {"InvalidParameterValue"}


def test_launch_asked_again_launches_nothing_new_and_grants_between_least_and_most(moto: Moto, ec2: Any) -> None:
    asked = {"ImageId": IMAGE, "InstanceType": "c7i.xlarge", "MinCount": 1, "MaxCount": 4, "ClientToken": "s1"}
    moto.change(capacity={"c7i.xlarge": 3})
    ids = [one["InstanceId"] for one in ec2.run_instances(**asked)["Instances"]]
    assert len(ids) == 3
    assert [one["InstanceId"] for one in ec2.run_instances(**asked)["Instances"]] == ids
    assert code_of(ec2.run_instances, **{**asked, "MaxCount": 2}) == "IdempotentParameterMismatch"
    assert code_of(ec2.run_instances, **{**asked, "ClientToken": "s2"}) == "InsufficientInstanceCapacity"
    assert len(moto.instances()) == 3


def test_volume_asked_for_again_is_the_same(ec2: Any) -> None:
    asked = {"AvailabilityZone": "us-east-1a", "Size": 5, "ClientToken": "v1"}
    assert ec2.create_volume(**asked)["VolumeId"] == ec2.create_volume(**asked)["VolumeId"]
    assert len(ec2.describe_volumes(Filters=[{"Name": "size", "Values": ["5"]}])["Volumes"]) == 1


def test_slow_cloud_is_on_its_way_until_it_settles(moto: Moto, ec2: Any) -> None:
    moto.change(is_slow=True)
    [group] = [ec2.run_instances(ImageId=IMAGE, InstanceType="c7i.xlarge", MinCount=2, MaxCount=2)["Instances"]]
    volume = ec2.create_volume(AvailabilityZone="us-east-1a", Size=5)["VolumeId"]
    snapshot = ec2.create_snapshot(VolumeId=volume)["SnapshotId"]
    assert len(moto.instances("pending")) == 2
    assert code_of(ec2.create_volume, AvailabilityZone="us-east-1a", SnapshotId=snapshot) == "IncorrectState"
    moto.tell("settle")
    assert len(moto.instances("running")) == 2
    assert ec2.describe_snapshots(SnapshotIds=[snapshot])["Snapshots"][0]["State"] == "completed"
    ec2.stop_instances(InstanceIds=[group[0]["InstanceId"]])
    ec2.terminate_instances(InstanceIds=[group[1]["InstanceId"]])
    assert len(moto.instances("stopping")) == len(moto.instances("shutting-down")) == 1
    moto.tell("settle")
    assert len(moto.instances("stopped")) == len(moto.instances("terminated")) == 1


def test_what_befalls_instances_is_told_by_their_state_reason(moto: Moto, ec2: Any) -> None:
    template = a_template(ec2)
    answer = ec2.create_fleet(**a_fleet(ec2, template, 2))
    first, second = [id for each in answer["Instances"] for id in each["InstanceIds"]]
    moto.tell("interrupt", instance=first)
    moto.tell("power_off", instance=second)
    ec2.terminate_instances(InstanceIds=[first, second])
    reasons = {one["InstanceId"]: one["StateReason"]["Code"] for one in moto.instances("terminated")}
    assert reasons == {first: "Server.SpotInstanceTermination", second: "Client.InstanceInitiatedShutdown"}
    moto.tell("age_out")
    assert moto.instances() == []
    assert code_of(ec2.terminate_instances, InstanceIds=[first]) == "InvalidInstanceID.NotFound"


def test_hidden_volumes_and_snapshots_are_described_later(moto: Moto, ec2: Any) -> None:
    seen = ec2.create_volume(AvailabilityZone="us-east-1a", Size=5)["VolumeId"]
    moto.change(hides_new=True)
    device = {"DeviceName": "/dev/sdf", "Ebs": {"VolumeSize": 5, "VolumeType": "gp3"}}
    ec2.run_instances(ImageId=IMAGE, InstanceType="c7i.xlarge", MinCount=1, MaxCount=1, BlockDeviceMappings=[device])
    snapshot, of_it = ec2.create_snapshot(VolumeId=seen)["SnapshotId"], [{"Name": "volume-id", "Values": [seen]}]
    assert [each["VolumeId"] for each in ec2.describe_volumes()["Volumes"]] == [seen]
    assert ec2.describe_snapshots(Filters=of_it)["Snapshots"] == []
    moto.tell("show_all")
    assert len(ec2.describe_volumes()["Volumes"]) == 3  # with the root of the instance
    assert [each["SnapshotId"] for each in ec2.describe_snapshots(Filters=of_it)["Snapshots"]] == [snapshot]


def test_hidden_instances_are_described_later(moto: Moto, ec2: Any) -> None:
    moto.change(hides_new=True)
    [one] = ec2.run_instances(ImageId=IMAGE, InstanceType="c7i.xlarge", MinCount=1, MaxCount=1)["Instances"]
    assert moto.instances() == []
    assert code_of(ec2.terminate_instances, InstanceIds=[one["InstanceId"]]) == "InvalidInstanceID.NotFound"
    moto.tell("show_all")
    assert [each["InstanceId"] for each in moto.instances()] == [one["InstanceId"]]


def test_instances_stop_and_start_by_the_rules(moto: Moto, ec2: Any) -> None:
    template = a_template(ec2)
    [spot] = ec2.create_fleet(**a_fleet(ec2, template, 1))["Instances"][0]["InstanceIds"]
    [ours] = ec2.create_fleet(**a_fleet(ec2, template, 1, market="on-demand", token="r2"))["Instances"][0]["InstanceIds"]
    assert code_of(ec2.stop_instances, InstanceIds=[spot]) == "UnsupportedOperation"
    ec2.stop_instances(InstanceIds=[ours])
    moto.change(capacity={"*": 0})
    assert code_of(ec2.start_instances, InstanceIds=[ours]) == "InsufficientInstanceCapacity"
    ec2.terminate_instances(InstanceIds=[ours])
    assert code_of(ec2.start_instances, InstanceIds=[ours]) == "IncorrectInstanceState"
    assert code_of(ec2.terminate_instances, InstanceIds=["local_nobody"]) == "InvalidInstanceID.Malformed"


def test_volume_is_attached_once_to_what_is_there_in_its_zone(ec2: Any) -> None:
    [one] = ec2.run_instances(ImageId=IMAGE, InstanceType="c7i.xlarge", MinCount=1, MaxCount=1)["Instances"]
    here, there = (ec2.create_volume(AvailabilityZone=f"us-east-1{zone}", Size=5)["VolumeId"] for zone in "ab")
    ec2.attach_volume(VolumeId=here, InstanceId=one["InstanceId"], Device="/dev/sdf")
    assert code_of(ec2.attach_volume, VolumeId=here, InstanceId=one["InstanceId"], Device="/dev/sdg") == "VolumeInUse"
    assert code_of(ec2.attach_volume, VolumeId=there, InstanceId=one["InstanceId"], Device="/dev/sdg") == "InvalidVolume.ZoneMismatch"
    ec2.detach_volume(VolumeId=here)
    assert ec2.describe_volumes(VolumeIds=[here])["Volumes"][0]["State"] == "available"


def test_volume_takes_its_time_to_be_made_attached_and_detached(moto: Moto, ec2: Any) -> None:
    [one] = ec2.run_instances(ImageId=IMAGE, InstanceType="c7i.xlarge", MinCount=1, MaxCount=1)["Instances"]
    zone = one["Placement"]["AvailabilityZone"]
    moto.change(is_slow=True)

    def seen() -> tuple[str, list[str]]:
        [shown] = ec2.describe_volumes(VolumeIds=[volume])["Volumes"]
        return shown["State"], [each["State"] for each in shown["Attachments"]]

    volume = ec2.create_volume(AvailabilityZone=zone, Size=5)["VolumeId"]
    attach = {"VolumeId": volume, "InstanceId": one["InstanceId"], "Device": "/dev/sdf"}
    assert (seen(), code_of(ec2.attach_volume, **attach)) == (("creating", []), "IncorrectState")
    moto.tell("settle")
    ec2.attach_volume(**attach)
    assert seen() == ("in-use", ["attaching"])
    moto.tell("settle")
    assert seen() == ("in-use", ["attached"])
    assert code_of(ec2.detach_volume, VolumeId=volume, InstanceId="i-0123456789abcdef0") == "IncorrectState"
    ec2.detach_volume(VolumeId=volume, InstanceId=one["InstanceId"])
    assert (seen(), code_of(ec2.delete_volume, VolumeId=volume)) == (("in-use", ["detaching"]), "VolumeInUse")
    moto.tell("settle")
    assert seen() == ("available", [])


def test_versions_of_a_template_are_made_once_listed_in_pages_and_deleted(ec2: Any) -> None:
    template = a_template(ec2)["LaunchTemplateId"]
    asked = {"LaunchTemplateId": template, "LaunchTemplateData": {"ImageId": IMAGE}}
    numbers = [
        ec2.create_launch_template_version(**asked, ClientToken=f"t{n}", VersionDescription=f"job_{n}")["LaunchTemplateVersion"][
            "VersionNumber"
        ]
        for n in [*range(20), 3]
    ]
    assert numbers == [*range(2, 22), 5]
    answer = ec2.delete_launch_template_versions(LaunchTemplateId=template, Versions=["1", "5", "99"])
    assert [each["VersionNumber"] for each in answer["SuccessfullyDeletedLaunchTemplateVersions"]] == [5]
    assert [each["VersionNumber"] for each in answer["UnsuccessfullyDeletedLaunchTemplateVersions"]] == [1, 99]
    pages = ec2.get_paginator("describe_launch_template_versions").paginate(LaunchTemplateId=template, PaginationConfig={"PageSize": 5})
    described = [each["VersionNumber"] for page in pages for each in page["LaunchTemplateVersions"]]
    assert sorted(described) == [n for n in range(1, 22) if n != 5]
    fleet = a_fleet(ec2, {"LaunchTemplateId": template, "Version": "5"}, 1)
    assert code_of(ec2.create_fleet, **fleet) == "InvalidLaunchTemplateId.VersionNotFound"


def test_image_has_the_size_of_what_it_was_made_from_and_its_snapshot_has_tags(ec2: Any) -> None:
    devices = [{"DeviceName": "/dev/xvda", "Ebs": {"VolumeSize": 20}}]
    [one] = ec2.run_instances(ImageId=IMAGE, InstanceType="c7i.xlarge", MinCount=1, MaxCount=1, BlockDeviceMappings=devices)["Instances"]
    tags = [{"ResourceType": kind, "Tags": tag_list({"kiln:image": "abc"})} for kind in ("image", "snapshot")]
    image = ec2.create_image(InstanceId=one["InstanceId"], Name="kiln-node-abc", TagSpecifications=tags)["ImageId"]
    [made] = ec2.describe_images(ImageIds=[image])["Images"]
    assert made["BlockDeviceMappings"][0]["Ebs"]["VolumeSize"] == 20
    [snapshot] = ec2.describe_snapshots(Filters=[{"Name": "tag:kiln:image", "Values": ["abc"]}])["Snapshots"]
    assert snapshot["SnapshotId"] == made["BlockDeviceMappings"][0]["Ebs"]["SnapshotId"]


def test_prices_and_quotas_are_answered(moto: Moto, ec2: Any) -> None:
    moto.change(spot_prices={"c7i.4xlarge/us-east-1b": "0.25"}, on_demand_prices={"c7i.4xlarge": "0.714"}, quotas={"L-34B43A08": 256.0})
    told = ec2.describe_spot_price_history(InstanceTypes=["c7i.4xlarge"], ProductDescriptions=["Linux/UNIX"])["SpotPriceHistory"]
    assert {each["AvailabilityZone"]: each["SpotPrice"] for each in told}["us-east-1b"] == "0.25"
    filters = [{"Type": "TERM_MATCH", "Field": "instanceType", "Value": "c7i.4xlarge"}]
    [product] = moto.client("pricing").get_products(ServiceCode="AmazonEC2", Filters=filters)["PriceList"]
    assert '"USD": "0.714"' in product
    quotas = moto.client("service-quotas")
    assert quotas.get_service_quota(ServiceCode="ec2", QuotaCode="L-34B43A08")["Quota"]["Value"] == 256
    assert quotas.get_service_quota(ServiceCode="ec2", QuotaCode="L-3819A6DF")["Quota"]["Value"] == 0


def test_calls_are_remembered_with_their_parameters_until_a_reset(moto: Moto, ec2: Any) -> None:
    ec2.describe_subnets(SubnetIds=subnets(ec2, "us-east-1a"))
    assert moto.calls("DescribeSubnets")[-1] == {"SubnetIds": subnets(ec2, "us-east-1a")}
    moto.reset()
    assert moto.calls() == []


def test_server_in_a_process_of_its_own_is_the_same_cloud() -> None:
    command = [sys.executable, "-m", "tests.aws.moto_server"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        moto = Moto(process.stdout.readline().strip())
        try:
            moto.change(capacity={"*": 1})
            ec2 = moto.client("ec2")
            answer = ec2.create_fleet(**a_fleet(ec2, a_template(ec2), 2))
            assert sum(len(each["InstanceIds"]) for each in answer["Instances"]) == 2
            assert len(moto.instances()) == 2
        finally:
            process.terminate()
