"""Auto Scaling groups, as AWS keeps them.

moto's own launch the template's default version, in one subnet, as the first type; they never lack capacity and never replace what ended.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from moto.autoscaling.exceptions import AutoscalingClientError
from moto.autoscaling.models import ASG_NAME_TAG, AutoScalingBackend, FakeAutoScalingGroup, InstanceState
from moto.autoscaling.responses import AutoScalingResponse
from moto.core.responses import ActionResult
from moto.ec2.exceptions import EC2ClientError

from .patching import Method, mend
from .room import grant

_GONE = frozenset({"terminated", "shutting-down"})


def repair() -> None:
    mend(FakeAutoScalingGroup, "replace_autoscaling_group_instances", _launch)
    mend(FakeAutoScalingGroup, "update", _update)
    mend(AutoScalingBackend, "create_auto_scaling_group", _create)
    mend(AutoScalingBackend, "describe_auto_scaling_groups", _describe)
    mend(AutoScalingResponse, "describe_scaling_activities", _activities)


def _create(original: Method) -> Method:
    def create_auto_scaling_group(self: Any, name: str, *rest: Any, **kwargs: Any) -> Any:
        if name in self.autoscaling_groups:
            error = AutoscalingClientError(f"AutoScalingGroup by this name already exists: {name}")
            error.code = "AlreadyExists"
            raise error
        return original(self, name, *rest, **kwargs)

    return create_auto_scaling_group


def _update(original: Method) -> Method:
    """What a request does not name stays as it is."""

    def update(self: Any, *rest: Any, **kwargs: Any) -> None:
        kwargs["mixed_instances_policy"] = kwargs.get("mixed_instances_policy") or _as_asked(self.mixed_instances_policy)
        original(self, *rest, **kwargs)

    return update


def _as_asked(policy: dict[str, Any]) -> dict[str, Any]:
    """A policy that moto has completed, as a request has it: the template by its name alone."""
    template = policy["LaunchTemplate"]
    specification = {key: value for key, value in template["LaunchTemplateSpecification"].items() if key != "LaunchTemplateId"}
    return {**policy, "LaunchTemplate": {**template, "LaunchTemplateSpecification": specification}}


def _describe(original: Method) -> Method:
    """Before anybody looks, groups have replaced what ended."""

    def describe_auto_scaling_groups(self: Any, *rest: Any, **kwargs: Any) -> Any:
        for group in list(self.autoscaling_groups.values()):
            group.instance_states = [one for one in group.instance_states if one.instance.state not in _GONE]
            if len(group.instance_states) < group.desired_capacity:
                group.set_desired_capacity(group.desired_capacity)
        return original(self, *rest, **kwargs)

    return describe_auto_scaling_groups


def _activities(original: Method) -> Method:
    def describe_scaling_activities(self: Any) -> ActionResult:
        group = self.autoscaling_backend.autoscaling_groups.get(self._get_param("AutoScalingGroupName"))
        return ActionResult({"Activities": list(reversed(getattr(group, "activities", [])))})

    return describe_scaling_activities


def _launch(original: Method) -> Method:
    """Launch by the policy: its version of the template, its types in the group's subnets, on demand or spot."""

    def replace_autoscaling_group_instances(self: Any, count_needed: int, propagated_tags: dict[str, str]) -> None:
        missing, refusal = count_needed, ""
        for instance_type, subnet in _places(self):
            if missing <= 0:
                break
            try:
                launched = _launch_in(self, instance_type, subnet, missing, propagated_tags)
            except EC2ClientError as error:
                refusal = f"{error.message} Launching EC2 instance failed."
                continue
            missing -= launched
            _note(self, "Successful", f"Launching a new EC2 instance: {launched}", "")
        if missing > 0:
            _note(self, "Failed", "Launching a new EC2 instance.  Status Reason: ", refusal)

    return replace_autoscaling_group_instances


def _places(group: Any) -> Iterator[tuple[str, str]]:
    for override in group.mixed_instances_policy["LaunchTemplate"]["Overrides"]:
        for subnet in group.vpc_zone_identifier.split(","):
            yield override["InstanceType"], subnet


def _launch_in(group: Any, instance_type: str, subnet: str, missing: int, tags: dict[str, str]) -> int:
    backend = group.autoscaling_backend.ec2_backend
    policy = group.mixed_instances_policy
    template = _as_asked(policy)["LaunchTemplate"]["LaunchTemplateSpecification"]
    is_spot = int(policy.get("InstancesDistribution", {}).get("OnDemandPercentageAboveBaseCapacity", 100)) == 0
    pool = f"{instance_type}/{backend.get_subnet(subnet).availability_zone}"
    count = grant(backend, pool, missing, market="spot" if is_spot else "on-demand")
    reservation = backend.run_instances(
        backend._get_template_from_args(template).data["ImageId"],
        count,
        None,
        [],
        launch_template=template,
        instance_type=instance_type,
        is_instance_type_default=False,
        region_name=backend.region_name,
        subnet_id=subnet,
        instance_market_options="spot" if is_spot else {},
        lifecycle="spot" if is_spot else None,
        tags={"instance": {**tags, ASG_NAME_TAG: group.name}},
    )
    for instance in reservation.instances:
        instance.autoscaling_group = group
        group.instance_states.append(InstanceState(instance, protected_from_scale_in=group.new_instances_protected_from_scale_in))
    return count


def _note(group: Any, status: str, description: str, message: str) -> None:
    if not hasattr(group, "activities"):
        group.activities = []
    group.activities.append(
        {"ActivityId": str(len(group.activities)), "StatusCode": status, "Description": description, "StatusMessage": message}
    )
