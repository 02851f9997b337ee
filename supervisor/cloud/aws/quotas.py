"""How many vCPUs the account may run, by family and market: AWS counts in these, and a new account has few or none."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from botocore.exceptions import ClientError

from supervisor.domain.instance import Market

from .errors import aws_errors, is_absent
from .instance_types import InstanceType, InstanceTypes
from .session import AwsSession

#: Family -> code of its quota, on demand and spot, with what AWS calls the family. Source: EC2 user guide, quotas of on-demand and of spot
#: instances, 2026-01. P5 has a quota of its own for spot alone.
_STANDARD = ("L-1216C47A", "L-34B43A08", "Standard (A, C, D, H, I, M, R, T, Z)")
_FAMILIES: Mapping[str, tuple[str, str, str]] = {
    "dl": ("L-6E869C2A", "L-85EED4F7", "DL"),
    "f": ("L-74FC7D96", "L-88CF9481", "F"),
    "g": ("L-DB2E81BA", "L-3819A6DF", "G and VT"),
    "vt": ("L-DB2E81BA", "L-3819A6DF", "G and VT"),
    "hpc": ("L-F7808C92", "", "HPC"),
    "inf": ("L-1945791B", "L-B5D1601B", "Inf"),
    "p": ("L-417A185B", "L-7212CCBC", "P"),
    "trn": ("L-2C3B7624", "L-6B0D517C", "Trn"),
    "x": ("L-7295265B", "L-E3A00192", "X"),
}
_P5_SPOT = "L-C4BD4855"
_COUNTED = ["pending", "running", "stopping", "shutting-down"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Quota:
    """One of the account's quotas."""

    code: str
    family: str  #: as AWS calls it
    market: Market

    @property
    def name(self) -> str:
        """As the console lists it."""
        return f"All {self.family} Spot Instance Requests" if self.market is Market.SPOT else f"Running On-Demand {self.family} instances"


def quota_of(instance_type: str, market: Market) -> Quota | None:
    """The quota that instances of a type count against. Returns: None: none that we know of"""
    letters = re.match(r"[a-z]+", instance_type)
    if letters is None or instance_type.startswith("u-"):
        return None
    family = letters[0]
    # the longer names first: hpc and inf are not of H and I, whereas gr6 is of G
    found = _FAMILIES.get(family) or _FAMILIES.get(family[0]) or (_STANDARD if family[0] in "acdhimrtz" else None)
    if found is None:
        return None
    on_demand, spot, name = found
    code = on_demand if market is not Market.SPOT else _P5_SPOT if instance_type.startswith("p5") else spot
    return Quota(code=code, family="P5" if code == _P5_SPOT else name, market=market) if code else None


def quota_vcpus(session: AwsSession, quota: Quota) -> int:
    """How many vCPUs the account may have at once under a quota. Errors: CloudError"""
    client = session.client("service-quotas")
    with aws_errors(f"read the quota “{quota.name}”"):
        try:
            found = client.get_service_quota(ServiceCode="ec2", QuotaCode=quota.code)
        except ClientError as error:
            if not is_absent(error):
                raise
            # an account that never had another value than the one that all begin with
            found = client.get_aws_default_service_quota(ServiceCode="ec2", QuotaCode=quota.code)
    return int(found["Quota"]["Value"])


def vcpus_in_use(session: AwsSession, types: InstanceTypes) -> Mapping[str, int]:
    """vCPUs of everything that runs in the account and region at present, the farm's or not.

    Returns: quota's code -> how many
    Errors:  CloudError
    """
    counted = _running(session)
    facts = {each.name: each for each in types.find(sorted({name for name, _ in counted}))} if counted else {}
    used: dict[str, int] = {}
    for (name, market), count in counted.items():
        quota = quota_of(name, market)
        if quota:
            used[quota.code] = used.get(quota.code, 0) + count * facts[name].vcpus
    return used


def _running(session: AwsSession) -> Mapping[tuple[str, Market], int]:
    """How many instances run, by type and market."""
    counted: Counter[tuple[str, Market]] = Counter()
    filters = [{"Name": "instance-state-name", "Values": _COUNTED}]
    with aws_errors("see what runs in the account"):
        for page in session.client("ec2").get_paginator("describe_instances").paginate(Filters=filters):
            for one in (one for group in page["Reservations"] for one in group["Instances"]):
                market = Market.SPOT if one.get("InstanceLifecycle") == "spot" else Market.ON_DEMAND
                counted[one["InstanceType"], market] += 1
    return counted


def quotas_of(types: Sequence[InstanceType], market: Market) -> Mapping[Quota, tuple[InstanceType, ...]]:
    """The quotas that types count against, each with its types."""
    found: dict[Quota, tuple[InstanceType, ...]] = {}
    for each in types:
        quota = quota_of(each.name, market)
        if quota:
            found[quota] = (*found.get(quota, ()), each)
    return found


def more_of(quota: Quota, region: str) -> str:
    """How to get more of a quota, for people."""
    page = f"https://{region}.console.aws.amazon.com/servicequotas/home/services/ec2/quotas/{quota.code}"
    return f"ask AWS for more in {region}, which takes minutes to days: {page}"
