"""Hold what the farm asks of AWS against the policy that `kiln aws policy` prints: nothing more is asked, and nothing more is allowed.

`Asked.hear` is an `on_session` of AwsSession: it notes each operation of its clients before it is sent, with the tags of the things that it
names. moto checks no policy by itself. What is checked: the operation is in the table; each of its actions has a statement; what the
statements demand of the tags in the request and of the tags of what is changed holds; S3's buckets and keys are those of the policy.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any  # Any: botocore's parameters and events have no types

from supervisor.cloud.aws.identity import FARM_TAG, Identity
from supervisor.cloud.aws.operations import EXTRAS, OPERATIONS
from supervisor.cloud.aws.policy import Part, Place, Statement, statements

from .farm import IDENTITY
from .model_check import wrong_values
from .moto_server import Moto
from .world import REGION

#: Operation of EC2 -> the parameters that name what it changes, and of what kind that is.
_CHANGES = {
    "AttachVolume": ("VolumeId", "volume"),
    "CreateImage": ("InstanceId", "instance"),
    "CreateLaunchTemplateVersion": ("LaunchTemplateName", "launch-template"),
    "CreateSnapshot": ("VolumeId", "volume"),
    "AuthorizeSecurityGroupEgress": ("GroupId", "security-group"),
    "RevokeSecurityGroupEgress": ("GroupId", "security-group"),
    "RevokeSecurityGroupIngress": ("GroupId", "security-group"),
    "DeleteFleets": ("FleetIds", "fleet"),
    "DeleteLaunchTemplate": ("LaunchTemplateName", "launch-template"),
    "DeleteLaunchTemplateVersions": ("LaunchTemplateName", "launch-template"),
    "ModifyInstanceAttribute": ("InstanceId", "instance"),
    "ModifyLaunchTemplate": ("LaunchTemplateName", "launch-template"),
    "DeleteSecurityGroup": ("GroupId", "security-group"),
    "DeleteSnapshot": ("SnapshotId", "snapshot"),
    "DeleteVolume": ("VolumeId", "volume"),
    "DetachVolume": ("VolumeId", "volume"),
    "DeregisterImage": ("ImageId", "image"),
    "StartInstances": ("InstanceIds", "instance"),
    "StopInstances": ("InstanceIds", "instance"),
    "TerminateInstances": ("InstanceIds", "instance"),
}
#: Operation of EC2 -> what it makes, which must bear the farm's tag from the start.
_MAKES = {
    "CreateFleet": ("fleet", "instance", "volume"),
    "CreateImage": ("image", "snapshot"),
    "CreateLaunchTemplate": ("launch-template",),
    "CreateSecurityGroup": ("security-group",),
    "CreateSnapshot": ("snapshot",),
    "CreateVolume": ("volume",),
    "RunInstances": ("instance", "volume"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One operation, as it was about to be sent."""

    operation: str  #: service:Operation
    params: Mapping[str, Any]
    changes: tuple[tuple[str, str, Mapping[str, str]], ...] = ()  #: what it names and changes: kind, id, tags
    template: Mapping[str, Any] = field(default_factory=dict)  #: data of the launch template that it launches by


@dataclass
class Asked:
    """Every operation that was asked for."""

    moto: Moto
    requests: list[Request] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)  #: values that are in no list of AWS's

    def hear(self, session: Any) -> None:
        """Note what the clients of a boto3 session are asked for, presigned URLs included."""
        session.events.register("provide-client-params", self._note)

    def _note(self, params: Mapping[str, Any], model: Any, **_: Any) -> None:
        operation = f"{model.service_model.service_id.hyphenize()}:{model.name}"
        if model.input_shape is not None:
            self.wrong += [f"{operation}: {each}" for each in wrong_values(model.input_shape, params)]
        changes = tuple(self._changed(operation, params))
        self.requests.append(Request(operation=operation, params=dict(params), changes=changes, template=self._template(params)))

    def _template(self, params: Mapping[str, Any]) -> Mapping[str, Any]:
        configs = params.get("LaunchTemplateConfigs", ())
        named = configs[0]["LaunchTemplateSpecification"] if configs else params.get("LaunchTemplate")
        if not named:
            return {}
        template = named.get("LaunchTemplateId") or named["LaunchTemplateName"]
        data: Mapping[str, Any] = self.moto.tell("template_data", template=template, version=named.get("Version", "$Default"))
        return data

    def _changed(self, operation: str, params: Mapping[str, Any]) -> Iterable[tuple[str, str, Mapping[str, str]]]:
        service, _, name = operation.partition(":")
        if service != "ec2" or name not in _CHANGES:
            return
        parameter, kind = _CHANGES[name]
        named = params.get(parameter, params.get("LaunchTemplateId", ()) if kind == "launch-template" else ())
        for one in [named] if isinstance(named, str) else named:
            # over the tests' own way in: what is sent by botocore is counted, and made to fail, by tests of faults
            tags = self.moto.tell("tags", thing=one)
            if tags is not None:
                yield kind, one, tags

    def forget(self) -> None:
        self.requests.clear()
        self.wrong.clear()

    @property
    def operations(self) -> frozenset[str]:
        return frozenset(request.operation for request in self.requests)


def check_nothing_more_is_asked(asked: Asked, identity: Identity = IDENTITY, *, region: str = REGION) -> None:
    """Each operation is in the table, the policy allows it, and AWS knows every word in it."""
    beyond = beyond_the_policy(asked, identity, region=region)
    assert not beyond, "\n".join(beyond)


def beyond_the_policy(asked: Asked, identity: Identity, *, region: str = REGION) -> list[str]:
    """What was asked that is not in the table, that the policy does not allow, or that AWS has no word for."""
    unknown = [
        f"{operation} is not in supervisor/cloud/aws/operations.py" for operation in sorted(asked.operations - OPERATIONS.keys() - EXTRAS)
    ]
    granted = statements(Place(identity=identity, region=region))
    refused = [fault for request in asked.requests if request.operation in OPERATIONS for fault in faults(request, granted, identity)]
    return [*dict.fromkeys(asked.wrong), *unknown, *dict.fromkeys(refused)]


def never_used(operations: Iterable[str], part: Part, identity: Identity = IDENTITY, *, region: str = REGION) -> frozenset[str]:
    """Actions that one part of the policy allows, and that none of the operations needs."""
    there = statements(Place(identity=identity, region=region))
    allowed = {action for statement in there if statement.part is part for action in statement.actions}
    return frozenset(allowed).difference(*(OPERATIONS[name] for name in operations if name in OPERATIONS))


def faults(request: Request, granted: Iterable[Statement], identity: Identity) -> list[str]:
    """Why the policy would refuse a request."""
    granted = tuple(granted)
    found = [f"{request.operation}: no statement has {action}" for action in _actions(request) if not _named(action, granted)]
    name = request.operation.partition(":")[2]
    if request.operation.startswith("ec2:") and not _is_of_nothing(request):
        for kind in _MAKES.get(name, ()):
            if not _is_tagged(request, kind, identity):
                found.append(f"{request.operation}: the {kind} is made without {FARM_TAG}")
        for kind, one, tags in request.changes:
            if tags.get(FARM_TAG) != identity.farm:
                found.append(f"{request.operation}: the {kind} {one} is not the farm's: {dict(tags)}")
    return found + list(_s3_faults(request, granted))


def _is_of_nothing(request: Request) -> bool:
    """Say whether it launches by a template version that is not there: EC2 says so before it looks at rights."""
    names_template = "LaunchTemplate" in request.params or "LaunchTemplateConfigs" in request.params
    return names_template and not request.template


def _actions(request: Request) -> tuple[str, ...]:
    return OPERATIONS[request.operation]


def _named(action: str, granted: Iterable[Statement]) -> bool:
    return any(action in statement.actions for statement in granted)


def _is_tagged(request: Request, kind: str, identity: Identity) -> bool:
    specifications = [*request.params.get("TagSpecifications", ()), *request.template.get("TagSpecifications", ())]
    return any(
        each["ResourceType"] == kind and {"Key": FARM_TAG, "Value": identity.farm} in [dict(tag) for tag in each["Tags"]]
        for each in specifications
    )


def _s3_faults(request: Request, granted: Iterable[Statement]) -> Iterable[str]:
    """S3's resources are named by the request itself: the bucket, or the object."""
    bucket = request.params.get("Bucket")
    if not bucket:
        return
    for action in _actions(request):
        is_object = action.endswith(("Object", "Upload", "UploadParts")) and "Bucket" not in action
        resource = f"arn:aws:s3:::{bucket}" + (f"/{request.params.get('Key', 'any')}" if is_object else "")
        fits = any(
            action in statement.actions and any(fnmatchcase(resource, pattern) for pattern in statement.resources) for statement in granted
        )
        if not fits:
            yield f"{request.operation}: {action} is not allowed on {resource}"
