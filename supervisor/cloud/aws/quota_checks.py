"""What the account's quotas allow, beside what the farm or a job asks for, in findings for people."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from supervisor.cloud.ports import Check
from supervisor.domain.instance import Market

from .instance_types import InstanceType
from .quotas import Quota, more_of

_MARKET_WORDS = {Market.ON_DEMAND: "on demand", Market.SPOT: "as spot"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowance:
    """One quota, with the types that the farm or a job would take from it."""

    quota: Quota
    vcpus: int  #: that the account may have at once
    used: int  #: of these, by whatever runs in the account
    types: tuple[InstanceType, ...]

    @property
    def smallest(self) -> InstanceType:
        return min(self.types, key=lambda each: each.vcpus)

    @property
    def most(self) -> int:
        """How many instances of the smallest type it allows in all."""
        return self.vcpus // self.smallest.vcpus

    @property
    def free(self) -> int:
        """How many more it allows at present."""
        return max(0, self.vcpus - self.used) // self.smallest.vcpus


def farm_checks(allowances: Sequence[Allowance], *, region: str, max_instances: int) -> Iterator[Check]:
    """What the quotas mean for the farm as it is configured. Shape: allowances: of both markets"""
    works = any(each.most for each in allowances)
    for each in allowances:
        quota, smallest = each.quota, each.smallest
        name = f"quota “{quota.name}”"
        if not each.most:
            text = f"it is {_too_few(each)}: no {quota.family} instance can start {_MARKET_WORDS[quota.market]}"
            yield Check(name=name, is_ok=False, is_warning=works, text=text, remedy=more_of(quota, region))
        elif each.most < max_instances:
            text = (
                f"{each.vcpus} vCPUs, {each.used} in use: {_instances(each.most)} of {smallest.name} ({smallest.vcpus} vCPUs) at once; "
                f"[launch] max_instances is {max_instances}"
            )
            remedy = f"for more at once, {more_of(quota, region)}"
            yield Check(name=name, is_ok=False, is_warning=True, text=text, remedy=remedy)
        else:
            text = f"{each.vcpus} vCPUs, {each.used} in use: enough for {_instances(each.most)} of {smallest.name}"
            yield Check(name=name, is_ok=True, text=text)


def job_checks(allowances: Sequence[Allowance], *, region: str, instances: int) -> Iterator[Check]:
    """What the quotas mean for a job. Shape: allowances: of its market; none: its types count against no quota that we know"""
    if not allowances:
        return
    first = allowances[0]
    market = first.quota.market
    if not any(each.most for each in allowances):
        other = Market.ON_DEMAND if market is Market.SPOT else Market.SPOT
        why = " and ".join(f"the account's quota “{each.quota.name}” is {_too_few(each)}" for each in allowances)
        text = f"none of the job's instance types can start {_MARKET_WORDS[market]}: {why}"
        remedy = f"choose smaller or other types, or try {_MARKET_WORDS[other]}; or {more_of(first.quota, region)}"
        yield Check(name="quota", is_ok=False, text=text, remedy=remedy)
        return
    free = sum(each.free for each in allowances)
    if free < instances:
        room = f"room for {_instances(free)}" if free else "no room for any instance"
        then = f"and it asks for {instances}" if free else "so it waits until others end"
        text = f"the account's quotas leave {room} of the job's types at present, {then}"
        remedy = f"for more at once, {more_of(first.quota, region)}"
        yield Check(name="quota", is_ok=False, is_warning=True, text=text, remedy=remedy)


def _too_few(each: Allowance) -> str:
    if not each.vcpus:
        return "0 vCPUs, as new accounts begin"
    vcpus = "one vCPU" if each.vcpus == 1 else f"{each.vcpus} vCPUs"
    return f"{vcpus}, and one {each.smallest.name} has {each.smallest.vcpus}"


def _instances(count: int) -> str:
    return "no instance" if count == 0 else "one instance" if count == 1 else f"{count} instances"


def allowances_of(
    quotas: Mapping[Quota, tuple[InstanceType, ...]], vcpus: Mapping[Quota, int], used: Mapping[str, int]
) -> tuple[Allowance, ...]:
    return tuple(Allowance(quota=quota, vcpus=vcpus[quota], used=used.get(quota.code, 0), types=types) for quota, types in quotas.items())
