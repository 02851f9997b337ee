"""The policies: everything in the table is granted, nothing else is, and IAM takes them."""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path

import botocore.session
import pytest

from supervisor.cloud.aws.identity import Identity
from supervisor.cloud.aws.node_policy import node_policy
from supervisor.cloud.aws.operations import EXTRAS, OPERATIONS
from supervisor.cloud.aws.policy import MOST_CHARACTERS, Part, Place, farm_policy, parts_of, statements
from tests.conventions.sources import ROOT, modules, tree_of

IDENTITY = Identity(farm="0123456789ab", projects_bucket="kiln-0123456789ab-projects", received_bucket="kiln-0123456789ab-received")
PLACE = Place(identity=IDENTITY, region="us-east-1")
#: Services that the farm calls.
SERVICES = ("autoscaling", "ec2", "iam", "pricing", "s3", "service-quotas", "ssm", "sts")
#: Where boto3's clients are called for a farm on AWS. What runs on its instances has a policy of its own.
CALLERS = [*modules("supervisor/cloud/aws", "ami"), ROOT / "supervisor/cloud/s3.py", ROOT / "supervisor/cloud/s3_uploads.py"]
#: What may be allowed on everything: EC2 and the price list know no resources for these.
WITHOUT_RESOURCES = ("autoscaling:Describe", "ec2:Describe", "pricing:", "servicequotas:")


def test_every_operation_of_the_table_is_one_of_aws() -> None:
    session = botocore.session.get_session()
    services = {session.get_service_model(name).service_id.hyphenize(): name for name in session.get_available_services()}
    for operation in OPERATIONS.keys() | EXTRAS:
        service, _, name = operation.partition(":")
        assert name in session.get_service_model(services[service]).operation_names, operation


def test_the_table_has_exactly_the_operations_that_the_farm_calls() -> None:
    session = botocore.session.get_session()
    names: dict[str, set[str]] = {}
    for service in SERVICES:
        model = session.get_service_model(service)
        for name in model.operation_names:
            names.setdefault(botocore.xform_name(name), set()).add(f"{model.service_id.hyphenize()}:{name}")
    known = OPERATIONS.keys() | EXTRAS
    called = {word: names[word] for path in CALLERS for word in _words_of(path) if word in names}
    assert {word for word, operations in called.items() if not operations & known} == set()
    assert OPERATIONS.keys() - {operation for operations in called.values() for operation in operations} == set()


def _words_of(path: Path) -> Iterator[str]:
    """Names of attributes, methods of clients among them, and texts: paginators are asked for by name."""
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Attribute):
            yield node.attr
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def test_the_policy_grants_exactly_what_the_operations_need() -> None:
    granted = {action for statement in statements(PLACE) for action in statement.actions}
    assert granted == {action for actions in OPERATIONS.values() for action in actions}


def test_one_managed_policy_holds_all_of_it() -> None:
    for has_pool, fills_volumes in ((False, False), (False, True), (True, False)):  # what a shared pool works on needs no volumes
        parts = parts_of(has_pool=has_pool, fills_volumes=fills_volumes)
        policy = farm_policy(Place(identity=IDENTITY, region="ap-southeast-2"), parts=parts)
        assert len(json.dumps(policy, separators=(",", ":"))) <= MOST_CHARACTERS


@pytest.mark.parametrize("part", list(Part))
def test_each_part_fits_a_managed_policy_whatever_the_names_are(part: Part) -> None:
    long_names = Identity(farm="a" * 32, projects_bucket="b" * 63, received_bucket="c" * 63)
    policy = farm_policy(Place(identity=long_names, region="ap-southeast-2"), parts=[part])
    assert len(json.dumps(policy, separators=(",", ":"))) <= MOST_CHARACTERS


@pytest.mark.parametrize("fills_volumes", [False, True])
def test_statements_that_are_merged_allow_what_they_allowed_apart(fills_volumes: bool) -> None:
    parts = parts_of(has_pool=False, fills_volumes=fills_volumes)
    merged = farm_policy(PLACE, parts=parts)["Statement"]
    for statement in statements(PLACE):
        if statement.part not in parts:
            continue
        [held] = [each for each in merged if each["Sid"] in {statement.sid, statement.kin}]
        assert set(statement.actions) <= set(held["Action"])
        assert all(any(fnmatchcase(name, pattern) for pattern in held["Resource"]) for name in statement.resources)
        assert held.get("Condition", {}) == {test: dict(keys) for test, keys in statement.conditions.items()}


def test_no_statement_names_every_resource_but_where_aws_knows_no_other() -> None:
    for statement in statements(PLACE):
        if "*" in statement.resources:
            assert all(action.startswith(WITHOUT_RESOURCES) for action in statement.actions), statement.sid
        assert not any("*" in action for action in statement.actions), statement.sid


def test_what_the_farm_changes_must_be_its_own() -> None:
    own = {"aws:ResourceTag/kiln:farm", "aws:RequestTag/kiln:farm"}
    changing = ("ec2:Delete", "ec2:Terminate", "ec2:Stop", "ec2:Start", "ec2:Modify", "ec2:CreateTags", "ec2:CreateLaunchTemplate")
    for statement in statements(PLACE):
        if any(action.startswith(changing) for action in statement.actions):
            keys = {key for test in statement.conditions.values() for key in test}
            assert keys & own, statement.sid


def test_running_needs_less_than_setting_up() -> None:
    running = farm_policy(PLACE, parts=[Part.RUN])
    actions = {action for statement in running["Statement"] for action in statement["Action"]}
    assert not any(
        action.startswith(("iam:Create", "iam:Put", "iam:Delete", "iam:Add", "s3:CreateBucket", "s3:DeleteBucket")) for action in actions
    )
    assert "ec2:CreateFleet" in actions


def test_a_farm_without_a_shared_pool_has_no_rights_to_one() -> None:
    without = farm_policy(PLACE, parts=parts_of(has_pool=False, fills_volumes=True))
    actions = {action for statement in without["Statement"] for action in statement["Action"] if action.startswith("autoscaling:")}
    assert actions == {"autoscaling:DescribeAutoScalingGroups", "autoscaling:DescribeScalingActivities"}, "it may look for one that is left"
    assert "autoscaling:UpdateAutoScalingGroup" in json.dumps(farm_policy(PLACE, parts=parts_of(has_pool=True, fills_volumes=False)))


FILLING = {"ec2:AttachVolume", "ec2:CreateVolume", "ec2:DetachVolume"}


def test_a_farm_that_is_not_told_to_fill_volumes_itself_has_no_rights_to_it() -> None:
    without = json.dumps(farm_policy(PLACE, parts=parts_of(has_pool=True, fills_volumes=False)))
    assert not any(action in without for action in FILLING)
    assert "CreateVolume" not in without
    within = farm_policy(PLACE, parts=[Part.FILL])
    assert {action for statement in within["Statement"] for action in statement["Action"]} == FILLING | {"ec2:CreateTags"}


def test_only_volumes_of_the_farm_can_be_attached_and_detached() -> None:
    moving = [statement for statement in statements(PLACE) if {"ec2:AttachVolume", "ec2:DetachVolume"} & set(statement.actions)]
    without_condition = [statement for statement in moving if not statement.conditions]
    assert {name for statement in without_condition for name in statement.resources} == {"arn:aws:ec2:us-east-1:*:instance/*"}
    assert all(
        statement.conditions == {"StringEquals": {"aws:ResourceTag/kiln:farm": IDENTITY.farm}}
        for statement in moving
        if statement not in without_condition
    )


def test_statements_have_names_of_their_own() -> None:
    sids = [statement.sid for statement in statements(PLACE)]
    assert len(set(sids)) == len(sids)
    assert all(sid.isalnum() for sid in sids)


@pytest.mark.parametrize(
    ("region", "partition", "service"),
    [
        ("eu-central-1", "aws", "ec2.amazonaws.com"),
        ("cn-north-1", "aws-cn", "ec2.amazonaws.com.cn"),
        ("us-gov-west-1", "aws-us-gov", "ec2.amazonaws.com"),
    ],
)
def test_names_are_those_of_the_regions_part_of_aws(region: str, partition: str, service: str) -> None:
    place = Place(identity=IDENTITY, region=region)
    text = json.dumps([farm_policy(place), node_policy(place)])
    assert f"arn:{partition}:s3:::{IDENTITY.projects_bucket}" in text
    assert place.ec2_service == service
    assert "arn:aws:" not in text or partition == "aws"


def test_nodes_can_not_touch_what_is_uploaded() -> None:
    for statement in node_policy(PLACE)["Statement"]:
        on_projects = [name for name in statement["Resource"] if IDENTITY.projects_bucket in name]
        assert not on_projects or statement["Action"] == ["s3:GetObject"]
        assert all("/projects/*" in name or "/agent/*" in name for name in on_projects)
