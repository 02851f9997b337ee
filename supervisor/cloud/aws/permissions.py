"""Which of the policy's permissions the farm's keys lack: asked of IAM's simulator, else tried by EC2's dry runs. Nothing is changed."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from botocore import xform_name
from botocore.exceptions import ClientError

from .errors import DENIED_CODES, aws_errors, error_code
from .identity import FARM_TAG
from .operations import OPERATIONS
from .policy import Part, Place, Statement, statements
from .session import AwsSession

#: What EC2 wants to know of a call before it says whether it would be allowed.
_NEEDED: Mapping[str, Mapping[str, Any]] = {"DescribeLaunchTemplateVersions": {"Versions": ["$Default"]}}


@dataclass(frozen=True, slots=True, kw_only=True)
class Permissions:
    """What was found out."""

    lacking: Mapping[Part, tuple[str, ...]]  #: IAM actions, by what they are needed for
    tried: int  #: IAM actions that were looked at
    is_whole: bool  #: every action of the policy was


def look_at_permissions(
    session: AwsSession, place: Place, *, parts: Collection[Part], caller: str, image: str = "", instance_type: str = ""
) -> Permissions:
    """See which permissions are lacking. Changes nothing.

    Shape:   caller: the resource name that the keys sign in as; image, instance_type: to try a launch with; empty: none is tried
    Errors:  CloudError
    """
    granted = [statement for statement in statements(place) if statement.part in parts]
    source = _principal(caller)
    results = _simulated(session, granted, source, account=caller.split(":")[4]) if source else None
    if results is None:
        tries = [*_reads(session, place), *_changes(session, place, image=image, instance_type=instance_type)]
        with aws_errors("try the farm's permissions"):
            results = [(Part.RUN, action, _is_allowed(call)) for action, call in tries]
        return Permissions(lacking=_refused(results), tried=len(results), is_whole=False)
    return Permissions(lacking=_refused(results), tried=len({action for _, action, _ in results}), is_whole=True)


def _refused(results: Iterable[tuple[Part, str, bool]]) -> dict[Part, tuple[str, ...]]:
    found: dict[Part, set[str]] = {}
    for part, action, is_allowed in results:
        if not is_allowed:
            found.setdefault(part, set()).add(action)
    return {part: tuple(sorted(actions)) for part, actions in found.items()}


def _principal(caller: str) -> str:
    """The user or role that the simulator asks for. Returns: empty for the account's root, who may everything"""
    assumed = re.fullmatch(r"arn:([^:]+):sts::(\d+):assumed-role/([^/]+)/.+", caller)
    if assumed:
        return f"arn:{assumed[1]}:iam::{assumed[2]}:role/{assumed[3]}"
    return "" if caller.endswith(":root") else caller


def _simulated(session: AwsSession, granted: Sequence[Statement], source: str, *, account: str) -> list[tuple[Part, str, bool]] | None:
    """Ask IAM's simulator for each statement. Returns: None: the keys may not ask, or IAM does not know them by that name"""
    found: list[tuple[Part, str, bool]] = []
    try:
        for statement in granted:
            found += [(statement.part, *result) for result in _simulate(session.client("iam"), statement, source, account)]
    except ClientError as error:
        # the simulator is no part of the policy: most farms may not ask it
        if error_code(error) in DENIED_CODES | {"NoSuchEntity", "InvalidInput"}:
            return None
        with aws_errors("ask IAM for the farm's permissions"):
            raise
    return found


def _simulate(iam: Any, statement: Statement, source: str, account: str) -> Iterator[tuple[str, bool]]:
    pages = iam.get_paginator("simulate_principal_policy").paginate(
        PolicySourceArn=source,
        ActionNames=list(statement.actions),
        ResourceArns=[_example(name, account) for name in statement.resources],
        ContextEntries=[
            {"ContextKeyName": key, "ContextKeyValues": [value if isinstance(value, str) else value[0]], "ContextKeyType": "string"}
            for keys in statement.conditions.values()
            for key, value in keys.items()
        ],
    )
    for page in pages:
        for result in page["EvaluationResults"]:
            yield result["EvalActionName"], result["EvalDecision"] == "allowed"


def _example(pattern: str, account: str) -> str:
    """One resource that a statement's pattern covers."""
    if pattern == "*":
        return pattern
    _, partition, service, region, *rest = pattern.split(":", 5)
    # "arn:aws:ec2:eu-central-1:*" is everything of EC2's there, whosever: a resource has a name as well
    owner, thing = rest if len(rest) == 2 else (account, "x/x")
    return ":".join(("arn", partition, service, region, owner.replace("*", account), thing.replace("*", "x")))


def _reads(session: AwsSession, place: Place) -> Iterator[tuple[str, Callable[[], object]]]:
    ec2 = session.client("ec2")
    for operation, actions in OPERATIONS.items():
        service, _, name = operation.partition(":")
        if service == "ec2" and name.startswith("Describe"):
            needed = dict(_NEEDED.get(name, {}))
            if "LaunchTemplateVersions" in name:
                needed["LaunchTemplateName"] = place.identity.name
            yield actions[0], _dry(ec2, name, needed)


def _changes(session: AwsSession, place: Place, *, image: str, instance_type: str) -> Iterator[tuple[str, Callable[[], object]]]:
    """Calls that would change something, each as it is made in earnest, but dry."""
    if not image or not instance_type:
        return
    ec2 = session.client("ec2")
    template = {"LaunchTemplateName": place.identity.name}
    yield (
        "ec2:CreateLaunchTemplateVersion",
        _dry(ec2, "CreateLaunchTemplateVersion", {**template, "LaunchTemplateData": {"ImageId": image}}),
    )
    launch = {"LaunchTemplate": template, "ImageId": image, "InstanceType": instance_type, "MinCount": 1, "MaxCount": 1}
    yield "ec2:RunInstances", _dry(ec2, "RunInstances", launch)
    overrides = [{"ImageId": image, "InstanceType": instance_type}]
    fleet = {
        "Type": "instant",
        "LaunchTemplateConfigs": [{"LaunchTemplateSpecification": {**template, "Version": "$Default"}, "Overrides": overrides}],
        "TargetCapacitySpecification": {"TotalTargetCapacity": 1, "DefaultTargetCapacityType": "on-demand"},
        "TagSpecifications": [{"ResourceType": "fleet", "Tags": [{"Key": FARM_TAG, "Value": place.identity.farm}]}],
    }
    yield "ec2:CreateFleet", _dry(ec2, "CreateFleet", fleet)


def _dry(ec2: Any, operation: str, parameters: Mapping[str, Any]) -> Callable[[], object]:
    return lambda: getattr(ec2, xform_name(operation))(**parameters, DryRun=True)


def _is_allowed(call: Callable[[], object]) -> bool:
    """Say whether EC2 would do it. Other faults than a refusal say nothing of rights, or come after they were looked at."""
    try:
        call()
    except ClientError as error:
        return error_code(error) not in DENIED_CODES
    return True
