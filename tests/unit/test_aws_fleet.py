"""What a fleet's answer comes to: the reasons of many places as one error that people understand, sorted by what the farm does next."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from supervisor.cloud.aws.fleet import FleetError, errors_in, instances_in, refusal
from supervisor.cloud.aws.images import Image
from supervisor.cloud.aws.launch_site import Place
from supervisor.cloud.aws.network import Subnet
from supervisor.cloud.ports import CloudError, NoCapacity, Refused, Throttled, Unreachable
from supervisor.domain.instance import Market
from tests.aws.farm import SPEC

SPOT = replace(SPEC, count=1, market=Market.SPOT, max_price_usd_per_h=Decimal("0.20"))
IMAGE = Image(
    id="ami-1", name="", architecture="x86_64", variant="cpu", blenders=("4.5.15",), protocol="1", root_device="", root_gib=8, created_at=""
)


def an_error(code: str, instance_type: str = "c7i.4xlarge", zone: str = "us-east-1a", message: str = "as AWS puts it") -> FleetError:
    return FleetError(code=code, message=message, instance_type=instance_type, zone=zone)


@pytest.mark.parametrize(
    ("code", "expected", "text"),
    [
        ("InsufficientInstanceCapacity", NoCapacity, "no spot capacity for c7i.4xlarge in us-east-1a at $0.20/h"),
        ("UnfulfillableCapacity", NoCapacity, "no spot capacity for c7i.4xlarge in us-east-1a at $0.20/h"),
        ("SpotMaxPriceTooLow", NoCapacity, "spot instances cost more than $0.20/h now: c7i.4xlarge in us-east-1a"),
        ("MaxSpotInstanceCountExceeded", NoCapacity, "the account's quota of spot vCPUs is used up"),
        ("VcpuLimitExceeded", NoCapacity, "the account's quota of spot vCPUs is used up"),
        ("InsufficientFreeAddressesInSubnet", NoCapacity, "the subnet has no free address left: c7i.4xlarge in us-east-1a"),
        ("Unsupported", Refused, "not offered: c7i.4xlarge in us-east-1a"),
        ("InvalidFleetConfiguration", Refused, "not offered: c7i.4xlarge in us-east-1a"),
        ("RequestLimitExceeded", Throttled, "as AWS puts it (RequestLimitExceeded): c7i.4xlarge in us-east-1a"),
        ("InternalError", Unreachable, "as AWS puts it (InternalError)"),
        ("UnauthorizedOperation", Refused, "as AWS puts it (UnauthorizedOperation); the farm's keys may not do this"),
        ("InvalidParameterValue", Refused, "as AWS puts it (InvalidParameterValue)"),
    ],
)
def test_reason_is_sorted_and_told_in_words(code: str, expected: type[CloudError], text: str) -> None:
    error = refusal([an_error(code)], SPOT)
    assert type(error) is expected
    assert str(error).startswith(f"can't launch an instance for job_a: {text}")


def test_reasons_on_demand_do_not_speak_of_spot() -> None:
    text = str(refusal([an_error("InsufficientInstanceCapacity"), an_error("VcpuLimitExceeded", "c7a.4xlarge")], SPEC))
    assert "no capacity for c7i.4xlarge in us-east-1a; the account's quota of vCPUs is used up" in text
    assert "spot" not in text
    assert "$" not in text


def test_places_with_the_same_reason_are_told_together() -> None:
    errors = [
        an_error("InsufficientInstanceCapacity", name, f"us-east-1{zone}") for name in ("c7i.4xlarge", "c7a.4xlarge") for zone in "cab"
    ]
    errors.append(an_error("InsufficientInstanceCapacity", "m7i.4xlarge", "us-east-1f"))
    text = str(refusal(errors, SPOT))
    assert text.endswith("no spot capacity for c7i.4xlarge, c7a.4xlarge in us-east-1a, b, c, m7i.4xlarge in us-east-1f at $0.20/h")


@pytest.mark.parametrize(
    ("codes", "expected"),
    [
        (("Unsupported", "InsufficientInstanceCapacity"), NoCapacity),
        (("InvalidParameterValue", "InsufficientInstanceCapacity"), NoCapacity),
        (("RequestLimitExceeded", "InsufficientInstanceCapacity"), NoCapacity),
        (("RequestLimitExceeded", "Unsupported"), Throttled),
        (("InternalError", "InvalidParameterValue"), Unreachable),
        (("InvalidParameterValue", "Unsupported"), Refused),
    ],
)
def test_of_several_reasons_the_one_that_leaves_hope_counts(codes: tuple[str, ...], expected: type[CloudError]) -> None:
    assert type(refusal([an_error(code) for code in codes], SPOT)) is expected


def test_what_a_zone_does_not_have_is_told_only_where_there_is_nothing_else_to_tell() -> None:
    text = str(refusal([an_error("Unsupported", zone="us-east-1e"), an_error("InvalidParameterValue")], SPOT))
    assert "us-east-1e" not in text


def test_answer_without_instances_and_errors_is_no_capacity() -> None:
    assert type(refusal([], SPOT)) is NoCapacity


def test_answer_is_read_with_zones_of_subnets_where_it_names_none() -> None:
    override = {"InstanceType": "c7i.4xlarge", "SubnetId": "subnet-1"}
    answer: dict[str, Any] = {
        "Instances": [{"InstanceIds": ["i-1", "i-2"]}, {"InstanceIds": ["i-3"]}],
        "Errors": [{"ErrorCode": "Unsupported", "ErrorMessage": "no", "LaunchTemplateAndOverrides": {"Overrides": override}}, {}],
    }
    place = Place(instance_type="c7i.4xlarge", subnet=Subnet(id="subnet-1", zone="us-east-1c", vpc="vpc-1"), image=IMAGE)
    assert instances_in(answer) == ("i-1", "i-2", "i-3")
    assert errors_in(answer, [place]) == [an_error("Unsupported", zone="us-east-1c", message="no"), an_error("", "", "", "")]
