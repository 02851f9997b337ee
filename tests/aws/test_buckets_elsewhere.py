"""The farm's buckets in a store other than Amazon's, with instances on AWS all the same."""

from __future__ import annotations

from functools import partial

import pytest

from supervisor.cloud.aws.identity import Identity
from supervisor.cloud.aws.network import Rule
from supervisor.cloud.aws.session import AwsSession, Keys
from supervisor.cloud.aws.setup import AwsSetup, Wishes
from supervisor.cloud.aws.template import base_data
from supervisor.cloud.local.seaweedfs import SeaweedFS
from supervisor.cloud.ports import StepState

from .moto_server import Moto

WISHES = Wishes(public_url="https://farm.example", stale_days=3, expire_frames_days=10, subnets=(), blender_mirror="http://mirror:8081/")


@pytest.fixture
def setup(weed: SeaweedFS, moto: Moto, monkeypatch: pytest.MonkeyPatch) -> AwsSetup:
    for name, value in moto.environment.items():
        monkeypatch.setenv(name, value)
    identity = Identity(farm="elsewhere", projects_bucket="kiln-elsewhere-projects", received_bucket="kiln-elsewhere-received")
    keys = Keys(access_key=weed.keys.farm_access, secret_key=weed.keys.farm_secret)
    session = AwsSession(region="us-east-1", keys=keys, s3_endpoint=weed.endpoint, s3_region="us-east-1")
    return AwsSetup(session, identity, WISHES, template_data=partial(base_data, identity))


def test_buckets_are_made_where_the_configuration_says(setup: AwsSetup, weed: SeaweedFS, moto: Moto) -> None:
    assert {step.state for step in setup.apply()} == {StepState.READY}
    assert {step.state for step in setup.plan()} == {StepState.READY}
    there = weed.connect()
    [rule] = there.get_bucket_cors(Bucket="kiln-elsewhere-projects")["CORSRules"]
    assert rule["AllowedOrigins"] == ["https://farm.example"]
    rules = there.get_bucket_lifecycle_configuration(Bucket="kiln-elsewhere-received")["Rules"]
    assert {rule["ID"] for rule in rules} == {"kiln-abort-unfinished-uploads", "kiln-expire-frames"}
    assert moto.client("s3").list_buckets()["Buckets"] == []
    for bucket in setup.buckets():
        bucket.remove(with_data=True, dry_run=False)
    assert {step.state for step in setup.plan()[:2]} == {StepState.ABSENT}


def test_instances_may_reach_that_store_and_the_mirror_of_blender(setup: AwsSetup, weed: SeaweedFS) -> None:
    port = int(weed.endpoint.rpartition(":")[2])
    assert {rule.first_port for rule in setup.security_group().wanted} == {80, 443, port, 8081}
    assert Rule("tcp", port, port, "0.0.0.0/0") in setup.security_group().wanted
