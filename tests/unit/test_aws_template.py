"""What instances are launched with."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from nodeimage.launch import LaunchData, Role, WorkspaceKind
from supervisor.cloud.aws.identity import tags_of
from supervisor.cloud.aws.images import Image
from supervisor.cloud.aws.session import AwsSession
from supervisor.cloud.aws.template import Site, as_template, base_data, instance_data, user_data, workspace_device
from supervisor.cloud.aws.volumes import initialization_mib_s
from supervisor.config import NodeTimes, WorkspaceConfig
from tests.aws.farm import IDENTITY, RELEASE, Renting, set_up_farm
from tests.aws.happenings import IMAGE
from tests.aws.moto_server import Moto

SITE = Site(
    identity=IDENTITY,
    region="eu-central-1",
    endpoint="http://127.0.0.1:8333",
    root_gib=30,
    times=NodeTimes(idle_s=60.0, max_life_s=3600.0),
    workspace=WorkspaceConfig(),
)
AN_IMAGE = Image(
    id="ami-1",
    name="kiln",
    architecture="x86_64",
    variant="gpu",
    blenders=("4.5.15",),
    protocol="1",
    root_device="/dev/xvda",
    root_gib=45,
    created_at="2026-01-01",
)


def told_to(data: dict[str, Any]) -> LaunchData:
    return LaunchData.from_bytes(data["UserData"].encode())


def test_instance_is_told_names_and_times_and_nothing_secret() -> None:
    told = user_data(SITE, RELEASE, role=Role.RENDER, workspace=WorkspaceKind.S3, job="job_a", blender=(4, 5))
    assert (told.region, told.endpoint, told.blender) == ("eu-central-1", "http://127.0.0.1:8333", "4.5")
    assert (told.idle_s, told.max_life_s, told.poll_s) == (60.0, 3600.0, 1.0)
    assert "key_id" not in told.to_bytes().decode()
    assert len(told.to_bytes()) < 1000


def test_user_data_is_plain_for_run_instances_and_encoded_for_templates() -> None:
    told = user_data(SITE, RELEASE, role=Role.STAGE, workspace=WorkspaceKind.BLANK, job="job_a")
    data = instance_data(SITE, AN_IMAGE, "sg-1", told)
    assert told_to(data) == told
    assert LaunchData.from_bytes(base64.b64decode(as_template(data)["UserData"])) == told


def test_root_volume_holds_the_image_even_if_less_is_configured() -> None:
    told = user_data(SITE, RELEASE, role=Role.RENDER, workspace=WorkspaceKind.S3)
    [root] = instance_data(SITE, AN_IMAGE, "sg-1", told)["BlockDeviceMappings"]
    assert root == {
        "DeviceName": "/dev/xvda",
        "Ebs": {"VolumeSize": 45, "VolumeType": "gp3", "Encrypted": True, "DeleteOnTermination": True},
    }


def test_template_itself_opens_no_metadata_to_others_and_ends_with_its_machine() -> None:
    data = base_data(IDENTITY, "sg-1")
    assert data["MetadataOptions"]["HttpTokens"] == "required"
    assert data["MetadataOptions"]["HttpPutResponseHopLimit"] == 1
    assert data["InstanceInitiatedShutdownBehavior"] == "terminate"
    assert {each["ResourceType"] for each in data["TagSpecifications"]} == {"instance", "volume"}
    assert all(tags_of(each) == {"kiln:farm": IDENTITY.farm} for each in data["TagSpecifications"])


@pytest.mark.parametrize(
    ("configured", "gib", "wanted"),
    [
        ({}, 10, {"Throughput": 250, "Iops": 3000}),
        ({"initialization_mib_s": 200}, 10, {"Throughput": 250, "Iops": 3000, "VolumeInitializationRate": 200}),
        ({"initialization_mib_s": 50}, 10, {"Throughput": 250, "Iops": 3000, "VolumeInitializationRate": 100}),
        ({"volume_throughput_mib_s": 1000}, 100, {"Throughput": 1000, "Iops": 4000}),
        ({"volume_throughput_mib_s": 1000}, 1, {"Throughput": 750, "Iops": 3000}),
    ],
)
def test_workspace_volume_is_as_fast_as_configured_and_possible(configured: dict[str, int], gib: int, wanted: dict[str, int]) -> None:
    device = workspace_device("snap-1", WorkspaceConfig(**configured), bytes=gib << 30, volumes=1, has_rate=True)  # type: ignore[arg-type]
    assert device["DeviceName"] == "/dev/sdf"
    always = {"SnapshotId": "snap-1", "VolumeType": "gp3", "Encrypted": True, "DeleteOnTermination": True}
    assert device["Ebs"] == always | wanted


@pytest.mark.parametrize(("volumes", "rate"), [(1, 300), (8, 300), (9, 250), (13, 150), (25, 100), (26, 0), (64, 0)])
def test_many_volumes_at_once_are_filled_at_a_rate_that_aws_allows_for_all_of_them(volumes: int, rate: int) -> None:
    assert initialization_mib_s(300, volumes=volumes) == rate


def test_staging_instance_is_launched_with_the_data_as_it_is(moto: Moto, aws_session: AwsSession) -> None:
    set_up_farm(moto)
    site = Renting(aws_session).site
    data = site.stage_data("job_a")
    assert (told_to(data).role, told_to(data).workspace, told_to(data).job) == (Role.STAGE, WorkspaceKind.BLANK, "job_a")
    ec2 = moto.client("ec2")  # as AWS takes the data; the farm adds the instance's tags
    [one] = ec2.run_instances(**data, InstanceType="c7i.xlarge", SubnetId=site.subnets()[0].id, MinCount=1, MaxCount=1)["Instances"]
    assert one["ImageId"] == IMAGE
    [volume] = ec2.describe_volumes(Filters=[{"Name": "tag:kiln:role", "Values": ["stage"]}])["Volumes"]
    assert (volume["Size"], volume["Encrypted"]) == (30, True)


def test_shared_pool_is_launched_with_tags_and_a_longer_patience(moto: Moto, aws_session: AwsSession) -> None:
    set_up_farm(moto)
    site = Renting(aws_session).site
    data = site.pool_data(site.images.newest(), idle_s=3600.0)
    told = told_to(data)
    assert (told.role, told.job, told.workspace, told.idle_s) == (Role.POOL, "", WorkspaceKind.S3, 3600.0)
    assert [each["ResourceType"] for each in data["TagSpecifications"]] == ["instance", "volume"]
    assert tags_of(data["TagSpecifications"][0]) == {"kiln:farm": IDENTITY.farm, "kiln:role": "pool", "Name": f"{IDENTITY.name} pool"}


def test_subnets_and_group_are_looked_up_once_in_a_while(moto: Moto, aws_session: AwsSession) -> None:
    set_up_farm(moto)
    farm = Renting(aws_session)
    for _ in range(3):
        assert len(farm.site.subnets()) == 6
        assert farm.site.security_group().startswith("sg-")
    assert len(moto.calls("DescribeSubnets")) == len(moto.calls("DescribeLaunchTemplateVersions")) == 1
    farm.site.forget()
    farm.site.subnets()
    assert len(moto.calls("DescribeSubnets")) == 2
