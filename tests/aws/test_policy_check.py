"""What the tests hold requests against the policy with: it looks at the tags of all that is changed, and sees where there are none."""

from __future__ import annotations

from typing import Any

import boto3
import pytest
from botocore import xform_name
from botocore.exceptions import ClientError

from .farm import IDENTITY
from .happenings import IMAGE
from .moto_server import KEYS, Moto
from .policy_check import Asked, beyond_the_policy
from .world import REGION

ZONE = f"{REGION}a"


@pytest.fixture
def heard(moto: Moto) -> Asked:
    """What is asked through `ec2`."""
    return Asked(moto)


@pytest.fixture
def ec2(moto: Moto, heard: Asked) -> Any:
    """The farm's way to EC2, which is heard; by that of `moto` nobody is."""
    session = boto3.session.Session(**KEYS)
    heard.hear(session)
    return session.client("ec2", region_name=REGION, endpoint_url=moto.url)


def _volume(ec2: Any) -> str:
    return str(ec2.create_volume(AvailabilityZone=ZONE, Size=1)["VolumeId"])


def _snapshot(ec2: Any) -> str:
    return str(ec2.create_snapshot(VolumeId=_volume(ec2))["SnapshotId"])


def _instance(ec2: Any) -> str:
    [one] = ec2.run_instances(ImageId=IMAGE, MinCount=1, MaxCount=1, InstanceType="c7i.xlarge")["Instances"]
    return str(one["InstanceId"])


def _image(ec2: Any) -> str:
    return str(ec2.create_image(InstanceId=_instance(ec2), Name="anybody's")["ImageId"])


def _group(ec2: Any) -> str:
    return str(ec2.create_security_group(GroupName="anybodys", Description="anybody's")["GroupId"])


def _template(ec2: Any) -> str:
    data = {"InstanceType": "c7i.xlarge"}
    return str(ec2.create_launch_template(LaunchTemplateName="anybodys", LaunchTemplateData=data)["LaunchTemplate"]["LaunchTemplateName"])


CHANGES = {
    "DeleteVolume": ("VolumeId", "volume", _volume),
    "DeleteSnapshot": ("SnapshotId", "snapshot", _snapshot),
    "TerminateInstances": ("InstanceIds", "instance", _instance),
    "DeregisterImage": ("ImageId", "image", _image),
    "DeleteSecurityGroup": ("GroupId", "security-group", _group),
    "DeleteLaunchTemplate": ("LaunchTemplateName", "launch-template", _template),
}


@pytest.mark.parametrize("operation", CHANGES)
def test_change_of_something_without_tags_is_more_than_the_policy_allows(moto: Moto, ec2: Any, heard: Asked, operation: str) -> None:
    parameter, kind, make = CHANGES[operation]
    thing = make(moto.client("ec2"))
    getattr(ec2, xform_name(operation))(**{parameter: [thing] if parameter.endswith("s") else thing})
    assert beyond_the_policy(heard, IDENTITY, region=REGION) == [f"ec2:{operation}: the {kind} {thing} is not the farm's: {{}}"]


def test_change_of_something_that_is_not_there_is_ec2s_to_refuse(ec2: Any, heard: Asked) -> None:
    with pytest.raises(ClientError, match=r"InvalidVolume\.NotFound"):
        ec2.delete_volume(VolumeId="vol-0123456789abcdef0")
    assert beyond_the_policy(heard, IDENTITY, region=REGION) == []
