"""What a shared pool takes of AWS besides the rest, as data: its API operations, and the policy for them. Most farms do without."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from .policy import Part, Place, Statement

_ROLE = "AWSServiceRoleForAutoScaling"
_SERVICE = "autoscaling.amazonaws.com"
#: What launching by the farm's template takes, which its policy for running allows.
_LAUNCH = ("ec2:RunInstances", "ec2:CreateTags", "iam:PassRole")

#: As `operations.OPERATIONS`.
POOL_OPERATIONS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "auto-scaling:CreateAutoScalingGroup": (
            "autoscaling:CreateAutoScalingGroup",
            "autoscaling:CreateOrUpdateTags",
            "iam:CreateServiceLinkedRole",
            *_LAUNCH,
        ),
        "auto-scaling:DeleteAutoScalingGroup": ("autoscaling:DeleteAutoScalingGroup",),
        "auto-scaling:DescribeAutoScalingGroups": ("autoscaling:DescribeAutoScalingGroups",),
        "auto-scaling:DescribeScalingActivities": ("autoscaling:DescribeScalingActivities",),
        "auto-scaling:DetachInstances": ("autoscaling:DetachInstances",),
        "auto-scaling:PutScheduledUpdateGroupAction": ("autoscaling:PutScheduledUpdateGroupAction",),
        "auto-scaling:SuspendProcesses": ("autoscaling:SuspendProcesses",),
        "auto-scaling:TerminateInstanceInAutoScalingGroup": ("autoscaling:TerminateInstanceInAutoScalingGroup",),
        "auto-scaling:UpdateAutoScalingGroup": ("autoscaling:UpdateAutoScalingGroup", *_LAUNCH),
    }
)


def pool_statements(place: Place) -> tuple[Statement, ...]:
    actions = {action for needed in POOL_OPERATIONS.values() for action in needed if action.startswith("autoscaling:")}
    looking = {action for action in actions if action.startswith("autoscaling:Describe")}
    group = f"arn:{place.partition}:autoscaling:{place.region}:*:autoScalingGroup:*:autoScalingGroupName/{place.identity.name}"
    return (
        Statement(
            sid="LookAtGroups",
            part=Part.RUN,
            actions=tuple(sorted(looking)),
            resources=("*",),
            conditions={"StringEquals": {"aws:RequestedRegion": place.region}},
        ),
        Statement(sid="Pool", part=Part.RUN, actions=tuple(sorted(actions - looking)), resources=(group,)),
        Statement(
            sid="PoolRole",
            part=Part.RUN,
            actions=("iam:CreateServiceLinkedRole",),
            resources=(place.iam(f"role/aws-service-role/{_SERVICE}/{_ROLE}"),),
            conditions={"StringEquals": {"iam:AWSServiceName": _SERVICE}},
        ),
    )


def pool_policy(place: Place) -> dict[str, Any]:
    """What the farm's keys need for a shared pool, as IAM takes it, besides `farm_policy`."""
    return {"Version": "2012-10-17", "Statement": [statement.document() for statement in pool_statements(place)]}
