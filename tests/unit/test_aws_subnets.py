"""Which subnets instances are launched into."""

from __future__ import annotations

import pytest

from supervisor.cloud.aws.network import Subnet, is_zone_of, one_in_each_zone


@pytest.mark.parametrize(
    ("region", "zone", "is_own"),
    [
        ("us-east-1", "us-east-1a", True),
        ("us-east-1", "us-east-1-bos-1a", False),
        ("us-west-2", "us-west-2-lax-1b", False),
        ("us-east-1", "us-east-1-wl1-bos-wlz-1", False),
        ("us-gov-west-1", "us-gov-west-1b", True),
        ("cn-northwest-1", "cn-northwest-1c", True),
    ],
)
def test_local_zones_and_those_of_telephone_companies_are_told_from_the_regions_own(region: str, zone: str, is_own: bool) -> None:
    assert is_zone_of(region, zone) is is_own


def test_of_the_subnets_of_a_zone_that_with_most_free_addresses_is_taken() -> None:
    def subnet(id: str, zone: str, free: int) -> Subnet:
        return Subnet(id=id, zone=zone, vpc="vpc-1", free_addresses=free)

    found = one_in_each_zone([subnet("a1", "eu-west-1a", 11), subnet("a2", "eu-west-1a", 251), subnet("b1", "eu-west-1b", 0)])
    assert [each.id for each in found] == ["a2", "b1"]
