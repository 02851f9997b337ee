"""The tests' own check of what is sent to AWS finds what is wrong with it."""

from __future__ import annotations

from typing import Any

import botocore.session
import pytest

from tests.aws.model_check import wrong_values


def shape_of(service: str, operation: str) -> Any:
    return botocore.session.get_session().get_service_model(service).operation_model(operation).input_shape


@pytest.mark.parametrize(
    ("call", "params", "wrong"),
    [
        ("ec2:CreateFleet", {"Type": "instant", "OnDemandOptions": {"AllocationStrategy": "lowest-price"}}, []),
        ("ec2:CreateFleet", {"Type": "at-once"}, ["Type: 'at-once' is none of request, maintain, instant"]),
        (
            "ec2:CreateFleet",
            {"OnDemandOptions": {"AllocationStrategy": "cheapest"}},
            ["OnDemandOptions.AllocationStrategy: 'cheapest' is none of lowest-price, prioritized"],
        ),
        ("ec2:RunInstances", {"InstanceType": "c99.huge"}, []),
        ("iam:CreateRole", {"RoleName": "n" * 65}, ["RoleName: 65 characters are more than 64"]),
        ("iam:CreateRole", {"RoleName": "a role"}, ["RoleName: 'a role' does not fit [\\w+=,.@-]+"]),
    ],
)
def test_words_that_aws_does_not_know_are_named(call: str, params: dict[str, Any], wrong: list[str]) -> None:
    assert list(wrong_values(shape_of(*call.split(":")), params)) == wrong


def test_words_in_lists_are_looked_at_too() -> None:
    asked = {"TagSpecifications": [{"ResourceType": "instances"}]}
    [found] = wrong_values(shape_of("ec2", "CreateFleet"), asked)
    assert found.startswith("TagSpecifications[].ResourceType: 'instances' is none of")
