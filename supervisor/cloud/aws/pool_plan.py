"""What the shared pool's Auto Scaling group is to be, and in what one differs from that. Rules alone; nothing is asked of AWS."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from supervisor.config import PoolConfig

from .launch_site import Place


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolPlan:
    """What a group launches, where, and within which bounds."""

    template: str
    version: str
    types: tuple[str, ...]
    subnets: tuple[str, ...]
    is_spot: bool
    most: int

    def policy(self) -> dict[str, Any]:
        return {
            "LaunchTemplate": {
                "LaunchTemplateSpecification": {"LaunchTemplateName": self.template, "Version": self.version},
                "Overrides": [{"InstanceType": name} for name in self.types],
            },
            "InstancesDistribution": {
                "OnDemandAllocationStrategy": "lowest-price",
                "OnDemandBaseCapacity": 0,
                "OnDemandPercentageAboveBaseCapacity": 0 if self.is_spot else 100,
                "SpotAllocationStrategy": "price-capacity-optimized",
            },
        }


def plan_of(template: str, version: str, places: Sequence[Place], *, pool: PoolConfig) -> PoolPlan:
    """Shape:   places: not empty, all with the same image"""
    return PoolPlan(
        template=template,
        version=version,
        types=tuple(dict.fromkeys(place.instance_type for place in places)),
        subnets=tuple(dict.fromkeys(place.subnet.id for place in places)),
        is_spot=pool.market == "spot",
        most=pool.max_instances,
    )


def group_request(name: str, plan: PoolPlan, *, wanted: int, tags: Mapping[str, str]) -> dict[str, Any]:
    """Ask for a group, as parameters of CreateAutoScalingGroup. Its instances are tagged by the launch template."""
    return {
        "AutoScalingGroupName": name,
        "MinSize": 0,  # the farm says how many: it may want fewer than the least where all of them fail
        "MaxSize": plan.most,
        "DesiredCapacity": wanted,
        "MixedInstancesPolicy": plan.policy(),
        "VPCZoneIdentifier": ",".join(plan.subnets),
        # the farm replaces what is taken back by the notice; AWS would do it by a guess, and end the old one
        "CapacityRebalance": False,
        "HealthCheckType": "EC2",
        "HealthCheckGracePeriod": 0,
        "NewInstancesProtectedFromScaleIn": False,
        "TerminationPolicies": ["NewestInstance"],
        "Tags": [
            {"ResourceId": name, "ResourceType": "auto-scaling-group", "Key": key, "Value": value, "PropagateAtLaunch": False}
            for key, value in tags.items()
        ],
    }


def differing(group: Mapping[str, Any], plan: PoolPlan, *, wanted: int) -> dict[str, Any]:
    """What must be changed of a group, as parameters of UpdateAutoScalingGroup. Empty: nothing"""
    changes: dict[str, Any] = {}
    sizes = {"MinSize": 0, "MaxSize": max(plan.most, wanted), "DesiredCapacity": wanted}
    if any(group[name] != size for name, size in sizes.items()):
        changes |= sizes
    if _launches(group) != _launches({"MixedInstancesPolicy": plan.policy()}):
        changes["MixedInstancesPolicy"] = plan.policy()
    if set(group.get("VPCZoneIdentifier", "").split(",")) != set(plan.subnets):
        changes["VPCZoneIdentifier"] = ",".join(plan.subnets)
    return changes


def _launches(group: Mapping[str, Any]) -> tuple[str, list[str], int]:
    """What a group launches: the version of the template, the types, the percentage on demand."""
    policy = group.get("MixedInstancesPolicy", {})
    template = policy.get("LaunchTemplate", {})
    version = template.get("LaunchTemplateSpecification", {}).get("Version", "")
    types = [each["InstanceType"] for each in template.get("Overrides", ())]
    return str(version), types, int(policy.get("InstancesDistribution", {}).get("OnDemandPercentageAboveBaseCapacity", 100))
