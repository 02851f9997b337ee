"""Setting up an account: what is there is left, what lacks is made, what differs is mended; after a crash at any call too."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from supervisor.cloud.aws.identity import FARM_TAG, IMAGE_TAG, Identity, tag_list, tags_of
from supervisor.cloud.aws.node_policy import node_policy
from supervisor.cloud.aws.policy import Place
from supervisor.cloud.aws.session import AwsSession
from supervisor.cloud.aws.setup import AwsSetup, Wishes
from supervisor.cloud.aws.teardown import tear_down
from supervisor.cloud.aws.template import base_data
from supervisor.cloud.ports import Refused, RemovalState, SetupStep, StepState

from .faults import Crash, Fault, Way, at, breakable
from .moto_server import Moto
from .policy_check import Asked

WISHES = Wishes(public_url="https://farm.example/kiln/", stale_days=6.5, expire_frames_days=30, subnets=())


@pytest.fixture
def setup(aws_session: AwsSession, identity: Identity) -> AwsSetup:
    return AwsSetup(aws_session, identity, WISHES, template_data=partial(base_data, identity))


def states(steps: Any) -> set[StepState]:
    return {step.state for step in steps}


def done(setup: AwsSetup) -> list[SetupStep]:
    return list(setup.apply())


def test_an_empty_account_lacks_everything_and_planning_changes_nothing(setup: AwsSetup, moto: Moto) -> None:
    assert states(setup.plan()) == {StepState.ABSENT}
    assert states(setup.plan()) == {StepState.ABSENT}
    assert moto.client("s3").list_buckets()["Buckets"] == []
    assert [role["RoleName"] for role in moto.client("iam").list_roles()["Roles"]] == []


def test_setting_up_makes_everything_and_then_finds_nothing_to_do(setup: AwsSetup, asked: Asked, identity: Identity) -> None:
    assert states(done(setup)) == {StepState.READY}
    assert states(setup.plan()) == {StepState.READY}
    before = len(asked.requests)
    assert states(done(setup)) == {StepState.READY}
    assert [each.operation for each in asked.requests[before:] if "Get" not in each.operation and "Describe" not in each.operation] == [
        "s3:HeadBucket",
        "s3:HeadBucket",
    ]


def test_the_buckets_are_private_encrypted_tagged_and_open_to_the_farms_page_alone(setup: AwsSetup, moto: Moto, identity: Identity) -> None:
    done(setup)
    s3 = moto.client("s3")
    for bucket in (identity.projects_bucket, identity.received_bucket):
        assert all(s3.get_public_access_block(Bucket=bucket)["PublicAccessBlockConfiguration"].values())
        rules = s3.get_bucket_encryption(Bucket=bucket)["ServerSideEncryptionConfiguration"]["Rules"]
        assert rules[0]["ApplyServerSideEncryptionByDefault"] == {"SSEAlgorithm": "AES256"}
        assert {"Key": FARM_TAG, "Value": identity.farm} in s3.get_bucket_tagging(Bucket=bucket)["TagSet"]
        [cors] = s3.get_bucket_cors(Bucket=bucket)["CORSRules"]
        assert cors["AllowedOrigins"] == ["https://farm.example"]
        assert cors["ExposeHeaders"] == ["ETag"]
    rules = {rule["ID"]: rule for rule in s3.get_bucket_lifecycle_configuration(Bucket=identity.received_bucket)["Rules"]}
    assert rules["kiln-abort-unfinished-uploads"]["AbortIncompleteMultipartUpload"] == {"DaysAfterInitiation": 7}
    assert rules["kiln-expire-frames"]["Expiration"] == {"Days": 30}
    [abort] = s3.get_bucket_lifecycle_configuration(Bucket=identity.projects_bucket)["Rules"]
    assert abort["ID"] == "kiln-abort-unfinished-uploads"


def test_rules_that_others_gave_a_bucket_stay(setup: AwsSetup, moto: Moto, identity: Identity) -> None:
    s3 = moto.client("s3")
    s3.create_bucket(Bucket=identity.received_bucket)
    theirs = {"ID": "to-glacier", "Status": "Enabled", "Filter": {"Prefix": "old/"}, "Expiration": {"Days": 900}}
    s3.put_bucket_lifecycle_configuration(Bucket=identity.received_bucket, LifecycleConfiguration={"Rules": [theirs]})
    done(setup)
    kept = {rule["ID"] for rule in s3.get_bucket_lifecycle_configuration(Bucket=identity.received_bucket)["Rules"]}
    assert kept == {"to-glacier", "kiln-abort-unfinished-uploads", "kiln-expire-frames"}


def test_without_a_public_address_the_page_that_asks_may_upload_and_those_before_it_too(
    aws_session: AwsSession, identity: Identity, moto: Moto
) -> None:
    wishes = Wishes(public_url="", stale_days=7, expire_frames_days=0, subnets=())
    setup = AwsSetup(aws_session, identity, wishes, template_data=partial(base_data, identity))
    list(setup.apply(origin="http://farm:8000"))
    assert states(setup.plan(origin="http://10.0.0.5:8000")) == {StepState.DIFFERS, StepState.READY}
    list(setup.apply(origin="http://10.0.0.5:8000"))
    [cors] = moto.client("s3").get_bucket_cors(Bucket=identity.projects_bucket)["CORSRules"]
    assert cors["AllowedOrigins"] == ["http://10.0.0.5:8000", "http://farm:8000"]
    assert states(setup.plan()) == {StepState.READY}


def test_the_role_is_ec2s_and_allows_what_nodes_do_and_nothing_else(setup: AwsSetup, moto: Moto, identity: Identity) -> None:
    done(setup)
    iam = moto.client("iam")
    policy = iam.get_role_policy(RoleName=identity.name, PolicyName="kiln-node")["PolicyDocument"]
    assert policy == node_policy(Place(identity=identity, region="us-east-1"))
    granted = {action for each in policy["Statement"] for action in each["Action"]}
    assert granted == {"s3:AbortMultipartUpload", "s3:DeleteObject", "s3:GetObject", "s3:ListBucket", "s3:PutObject"}
    writes = [each for each in policy["Statement"] if "s3:PutObject" in each["Action"]]
    assert [each["Resource"] for each in writes] == [[f"arn:aws:s3:::{identity.received_bucket}/received/*"]]
    profile = iam.get_instance_profile(InstanceProfileName=identity.name)["InstanceProfile"]
    assert [role["RoleName"] for role in profile["Roles"]] == [identity.name]


def test_a_role_whose_policy_was_changed_gets_the_farms_again(setup: AwsSetup, moto: Moto, identity: Identity) -> None:
    done(setup)
    wide = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:*", "Resource": "*"}]}
    lambdas = {"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"}
    others = {"Version": "2012-10-17", "Statement": [lambdas]}
    iam = moto.client("iam")
    iam.put_role_policy(RoleName=identity.name, PolicyName="kiln-node", PolicyDocument=json.dumps(wide))
    iam.update_assume_role_policy(RoleName=identity.name, PolicyDocument=json.dumps(others))
    assert [step.name for step in setup.plan() if step.state is StepState.DIFFERS] == [f"role {identity.name}"]
    done(setup)
    assert states(setup.plan()) == {StepState.READY}


def test_the_security_group_lets_nothing_in_and_web_traffic_out(setup: AwsSetup, moto: Moto, identity: Identity) -> None:
    done(setup)
    ec2 = moto.client("ec2")
    [group] = ec2.describe_security_groups(Filters=[{"Name": "group-name", "Values": [identity.name]}])["SecurityGroups"]
    assert tags_of(group)[FARM_TAG] == identity.farm
    assert group["IpPermissions"] == []
    assert {(rule["IpProtocol"], rule["FromPort"], rule["ToPort"]) for rule in group["IpPermissionsEgress"]} == {
        ("tcp", 443, 443),
        ("tcp", 80, 80),
    }


def test_a_door_that_somebody_opened_in_the_security_group_is_shut_again(setup: AwsSetup, moto: Moto, identity: Identity) -> None:
    done(setup)
    ec2 = moto.client("ec2")
    [group] = ec2.describe_security_groups(Filters=[{"Name": "group-name", "Values": [identity.name]}])["SecurityGroups"]
    ssh = {"IpProtocol": "tcp", "FromPort": 22, "ToPort": 22, "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}
    ec2.authorize_security_group_ingress(GroupId=group["GroupId"], IpPermissions=[ssh])
    everything = {"IpProtocol": "-1", "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}
    ec2.authorize_security_group_egress(GroupId=group["GroupId"], IpPermissions=[everything])
    assert [step.name for step in setup.plan() if step.state is StepState.DIFFERS] == [f"security group {identity.name}"]
    done(setup)
    assert states(setup.plan()) == {StepState.READY}
    [mended] = ec2.describe_security_groups(GroupIds=[group["GroupId"]])["SecurityGroups"]
    assert mended["IpPermissions"] == []
    assert len(mended["IpPermissionsEgress"]) == 2


def test_a_template_of_an_older_kiln_gets_a_new_default_version(setup: AwsSetup, moto: Moto, identity: Identity) -> None:
    done(setup)
    ec2 = moto.client("ec2")
    old = {"MetadataOptions": {"HttpTokens": "optional"}}
    made = ec2.create_launch_template_version(LaunchTemplateName=identity.name, LaunchTemplateData=old, VersionDescription="base")
    number = made["LaunchTemplateVersion"]["VersionNumber"]
    ec2.modify_launch_template(LaunchTemplateName=identity.name, DefaultVersion=str(number))
    job = ec2.create_launch_template_version(LaunchTemplateName=identity.name, LaunchTemplateData=old, VersionDescription="job_1 s3:aa")
    done(setup)
    assert states(setup.plan()) == {StepState.READY}
    versions = ec2.describe_launch_template_versions(LaunchTemplateName=identity.name)["LaunchTemplateVersions"]
    kept = {(each["VersionNumber"], each.get("VersionDescription")) for each in versions}
    assert kept == {(job["LaunchTemplateVersion"]["VersionNumber"], "job_1 s3:aa"), (number + 2, "base")}


def test_a_bucket_of_somebody_else_blocks_with_what_to_do(setup: AwsSetup, aws_session: AwsSession, identity: Identity) -> None:
    with breakable(Way()) as way:
        # moto owns every bucket
        way.take(lambda call: Fault.REFUSED if call.operation == "HeadBucket" else None)
        found = done(setup)
    assert [step.state for step in found] == [StepState.BLOCKED]
    assert "name another one in [aws]" in found[0].text


def test_an_account_without_default_subnets_blocks_with_what_to_do(setup: AwsSetup, moto: Moto) -> None:
    ec2 = moto.client("ec2")
    for subnet in ec2.describe_subnets()["Subnets"]:
        ec2.delete_subnet(SubnetId=subnet["SubnetId"])
    found = done(setup)
    assert found[-1].state is StepState.BLOCKED
    assert "[aws] subnets" in found[-1].text
    assert states(found[:-1]) == {StepState.READY}


def test_subnets_of_several_networks_are_refused(aws_session: AwsSession, identity: Identity, moto: Moto) -> None:
    ec2 = moto.client("ec2")
    vpc = ec2.create_vpc(CidrBlock="10.9.0.0/16")["Vpc"]["VpcId"]
    other = ec2.create_subnet(VpcId=vpc, CidrBlock="10.9.1.0/24")["Subnet"]["SubnetId"]
    default = next(each["SubnetId"] for each in ec2.describe_subnets()["Subnets"] if each["SubnetId"] != other)
    wishes = Wishes(public_url="", stale_days=7, expire_frames_days=0, subnets=(other, default))
    setup = AwsSetup(aws_session, identity, wishes, template_data=partial(base_data, identity))
    assert "several networks" in done(setup)[-1].text


@pytest.mark.parametrize("fault", [Fault.DIED_AFTER, Fault.REPLY_LOST])
def test_after_a_crash_at_any_change_setting_up_again_ends_right(
    aws_session: AwsSession, moto: Moto, identity: Identity, fault: Fault
) -> None:
    # one bucket for both: the second is made as the first
    one = replace(identity, received_bucket=identity.projects_bucket)
    setup = AwsSetup(aws_session, one, WISHES, template_data=partial(base_data, identity))
    with breakable(Way()) as way:
        done(setup)
        # what only reads leaves things as the change before it did
        changes = [call.number for call in way.calls if not call.operation.startswith(("Describe", "Get", "Head", "List"))]
    assert len(changes) > 15
    for number in changes:
        moto.reset()
        with breakable(Way()) as way, suppress(Crash):
            way.take(at(number, fault))
            done(setup)
        assert states(done(setup)) == {StepState.READY}
        assert states(setup.plan()) == {StepState.READY}, number
        groups = moto.client("ec2").describe_security_groups(Filters=[{"Name": "group-name", "Values": [identity.name]}])
        assert len(groups["SecurityGroups"]) == 1


def test_taking_down_removes_all_that_was_made_and_says_what_stays(setup: AwsSetup, moto: Moto, asked: Asked, identity: Identity) -> None:
    done(setup)
    told = list(tear(setup))
    assert {step.name for step in setup.plan() if step.state is StepState.READY} == {"role AWSServiceRoleForEC2Spot"}
    assert {each.name for each in told if each.state is RemovalState.STAYS} == {"keys of the farm"}
    assert {step.name for step in setup.plan()} - {each.name for each in told} == {"role AWSServiceRoleForEC2Spot"}
    assert [each.name for each in tear(setup)] == ["keys of the farm"]


def tear(setup: AwsSetup, *, with_data: bool = False, dry_run: bool = False) -> Any:
    return tear_down(setup, with_data=with_data, dry_run=dry_run)


def test_a_dry_run_of_taking_down_removes_nothing(setup: AwsSetup) -> None:
    done(setup)
    told = list(tear(setup, with_data=True, dry_run=True))
    assert states(setup.plan()) == {StepState.READY}
    assert len([each for each in told if each.state is RemovalState.REMOVED]) == 6


def test_buckets_with_frames_stay_unless_the_data_may_go_too(setup: AwsSetup, moto: Moto, identity: Identity) -> None:
    done(setup)
    s3 = moto.client("s3")
    for number in range(3):
        s3.put_object(Bucket=identity.received_bucket, Key=f"received/job_1/frames/{number:08d}/a.png", Body=b"x")
    s3.create_multipart_upload(Bucket=identity.projects_bucket, Key="projects/job_1/a.blend")
    told = {each.name: each for each in tear(setup)}
    assert told[f"bucket {identity.received_bucket}"].state is RemovalState.STAYS
    assert told[f"bucket {identity.projects_bucket}"].state is RemovalState.STAYS
    assert {bucket["Name"] for bucket in s3.list_buckets()["Buckets"]} == {identity.projects_bucket, identity.received_bucket}
    list(tear(setup, with_data=True))
    assert s3.list_buckets()["Buckets"] == []


@pytest.mark.parametrize("thing", ["instance", "volume", "snapshot"])
def test_taking_down_is_refused_while_something_is_rented(setup: AwsSetup, moto: Moto, identity: Identity, thing: str) -> None:
    done(setup)
    ec2 = moto.client("ec2")
    tags = [{"ResourceType": thing, "Tags": [{"Key": FARM_TAG, "Value": identity.farm}]}]
    if thing == "instance":
        made = ec2.run_instances(ImageId="ami-0c111111111111111", MinCount=1, MaxCount=1, TagSpecifications=tags)["Instances"][0][
            "InstanceId"
        ]
    else:
        volume = ec2.create_volume(AvailabilityZone="us-east-1a", Size=1, TagSpecifications=tags if thing == "volume" else [])["VolumeId"]
        made = volume if thing == "volume" else ec2.create_snapshot(VolumeId=volume, TagSpecifications=tags)["SnapshotId"]
    with pytest.raises(Refused, match=made):
        list(tear(setup, with_data=True))
    assert states(setup.plan()) == {StepState.READY}


def test_snapshots_of_the_farms_images_do_not_keep_it_from_being_taken_down(setup: AwsSetup, moto: Moto, identity: Identity) -> None:
    done(setup)
    ec2 = moto.client("ec2")
    [image] = ec2.describe_images(Owners=["self"])["Images"]
    snapshot = image["BlockDeviceMappings"][0]["Ebs"]["SnapshotId"]
    ec2.create_tags(Resources=[image["ImageId"], snapshot], Tags=tag_list({FARM_TAG: identity.farm, IMAGE_TAG: "0123456789ab"}))
    told = list(tear(setup))
    assert f"image {image['ImageId']}" in {each.name for each in told if each.state is RemovalState.STAYS}
