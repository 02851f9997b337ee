"""Which quota an instance type counts against, and what a quota means for a farm and a job."""

from __future__ import annotations

import pytest

from supervisor.cloud.aws.instance_types import InstanceType
from supervisor.cloud.aws.quota_checks import Allowance, farm_checks, job_checks
from supervisor.cloud.aws.quotas import quota_of
from supervisor.domain.instance import Market


@pytest.mark.parametrize(
    ("name", "on_demand", "spot"),
    [
        ("c7i.4xlarge", "L-1216C47A", "L-34B43A08"),
        ("m7g.large", "L-1216C47A", "L-34B43A08"),
        ("im4gn.large", "L-1216C47A", "L-34B43A08"),
        ("is4gen.large", "L-1216C47A", "L-34B43A08"),
        ("d3.xlarge", "L-1216C47A", "L-34B43A08"),
        ("g6.xlarge", "L-DB2E81BA", "L-3819A6DF"),
        ("g4dn.xlarge", "L-DB2E81BA", "L-3819A6DF"),
        ("gr6.4xlarge", "L-DB2E81BA", "L-3819A6DF"),
        ("vt1.3xlarge", "L-DB2E81BA", "L-3819A6DF"),
        ("p4d.24xlarge", "L-417A185B", "L-7212CCBC"),
        ("p5.48xlarge", "L-417A185B", "L-C4BD4855"),
        ("dl1.24xlarge", "L-6E869C2A", "L-85EED4F7"),
        ("inf2.xlarge", "L-1945791B", "L-B5D1601B"),
        ("trn1.2xlarge", "L-2C3B7624", "L-6B0D517C"),
        ("x2idn.16xlarge", "L-7295265B", "L-E3A00192"),
        ("f1.2xlarge", "L-74FC7D96", "L-88CF9481"),
        ("hpc7a.12xlarge", "L-F7808C92", None),
        ("u-6tb1.56xlarge", None, None),
        ("", None, None),
    ],
)
def test_each_family_has_its_quota(name: str, on_demand: str | None, spot: str | None) -> None:
    found = [quota_of(name, market) for market in (Market.ON_DEMAND, Market.SPOT)]
    assert [quota and quota.code for quota in found] == [on_demand, spot]


def an_allowance(name: str, vcpus_of_one: int, *, vcpus: int, used: int = 0, market: Market = Market.ON_DEMAND) -> Allowance:
    quota = quota_of(name, market)
    assert quota
    one = InstanceType(name=name, architecture="x86_64", has_gpu=False, vcpus=vcpus_of_one, zones=frozenset())
    return Allowance(quota=quota, vcpus=vcpus, used=used, types=(one,))


def test_a_job_goes_ahead_when_one_of_its_families_has_room() -> None:
    allowances = (an_allowance("g6.xlarge", 4, vcpus=0), an_allowance("c7i.4xlarge", 16, vcpus=64))
    assert list(job_checks(allowances, region="eu-west-1", instances=4)) == []


def test_a_job_of_families_that_are_all_too_small_is_told_of_each() -> None:
    allowances = (an_allowance("g6.xlarge", 4, vcpus=0), an_allowance("c7i.4xlarge", 16, vcpus=8))
    [found] = job_checks(allowances, region="eu-west-1", instances=1)
    assert not found.is_warning
    assert "0 vCPUs, as new accounts begin and the account's quota" in found.text
    assert "8 vCPUs, and one c7i.4xlarge has 16" in found.text
    assert "https://eu-west-1.console.aws.amazon.com/servicequotas" in found.remedy


def test_types_that_count_against_no_known_quota_are_not_judged() -> None:
    assert list(job_checks((), region="eu-west-1", instances=1)) == []


def test_what_runs_already_takes_room_from_a_job_but_not_from_the_farms_verdict() -> None:
    full = (an_allowance("c7i.4xlarge", 16, vcpus=64, used=60),)
    [waits] = job_checks(full, region="eu-west-1", instances=1)
    assert waits.is_warning
    [fine] = farm_checks(full, region="eu-west-1", max_instances=4)
    assert fine.is_ok
    assert "64 vCPUs, 60 in use" in fine.text
