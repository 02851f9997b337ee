"""Faults do to a call what they say, and to nothing else."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError

from .faults import SINGLE_FAULTS, Call, Crash, Fault, Way, at, breakable, nothing, storm
from .moto_server import Moto


@pytest.fixture
def way() -> Iterator[Way]:
    with breakable(Way()) as way:
        yield way


@pytest.fixture
def ec2(moto: Moto, way: Way) -> Any:
    return moto.client("ec2")


@pytest.fixture
def volume(ec2: Any) -> str:
    return str(ec2.create_volume(AvailabilityZone="us-east-1a", Size=5)["VolumeId"])


def snapshots(ec2: Any, way: Way, volume: str) -> int:
    way.take(nothing)
    return len(ec2.describe_snapshots(Filters=[{"Name": "volume-id", "Values": [volume]}])["Snapshots"])


@pytest.mark.parametrize(
    ("fault", "raised", "made"),
    [
        (Fault.THROTTLED, None, 1),
        (Fault.THROTTLED_FOR_GOOD, ClientError, 0),
        (Fault.REFUSED, ClientError, 0),
        (Fault.BROKEN, ClientError, 0),
        (Fault.UNREACHABLE, EndpointConnectionError, 0),
        (Fault.DIED_BEFORE, Crash, 0),
        (Fault.DIED_AFTER, Crash, 1),
        (Fault.REPLY_LOST, None, 2),  # no client token: the second attempt makes a second one
        (Fault.RESET, None, 2),
        (Fault.REPLY_LOST_FOR_GOOD, EndpointConnectionError, 1),
    ],
)
def test_fault_raises_and_leaves_what_it_says(
    ec2: Any, way: Way, volume: str, fault: Fault, raised: type[BaseException] | None, made: int
) -> None:
    way.take(at(2, fault))
    ec2.describe_volumes()
    if raised is None:
        ec2.create_snapshot(VolumeId=volume)
    else:
        with pytest.raises(raised):
            ec2.create_snapshot(VolumeId=volume)
    assert [call.operation for call in way.calls] == ["DescribeVolumes", "CreateSnapshot"]
    assert snapshots(ec2, way, volume) == made


def test_every_fault_of_the_matrix_is_known_to_this_test() -> None:
    assert set(SINGLE_FAULTS) <= set(Fault)
    assert len(SINGLE_FAULTS) == len(set(SINGLE_FAULTS))


def test_throttling_and_refusal_have_the_codes_of_their_service(moto: Moto, way: Way) -> None:
    assert _codes(way, moto.client("ec2").describe_volumes) == ["RequestLimitExceeded", "UnauthorizedOperation"]
    assert _codes(way, moto.client("s3").list_buckets) == ["SlowDown", "AccessDenied"]


def _codes(way: Way, call: Callable[[], object]) -> list[str]:
    codes = []
    for fault in (Fault.THROTTLED_FOR_GOOD, Fault.REFUSED):
        way.take(at(1, fault))
        with pytest.raises(ClientError) as raised:
            call()
        codes.append(str(raised.value.response["Error"]["Code"]))
    return codes


def test_what_died_reaches_nothing_any_more_until_it_lives_again(ec2: Any, way: Way, volume: str) -> None:
    way.take(at(1, Fault.DIED_AFTER))
    for _ in range(2):
        with pytest.raises(Crash):
            ec2.create_snapshot(VolumeId=volume)
    assert snapshots(ec2, way, volume) == 1


def test_storm_is_the_same_for_the_same_seed_and_spares_other_services() -> None:
    calls = [Call(number=n, service="ec2", operation="DescribeVolumes", attempt=1) for n in range(1, 200)]

    def hits(seed: int) -> list[Fault | None]:
        plan = storm(seed, rate=0.2, faults=[Fault.THROTTLED, Fault.REPLY_LOST], services=["ec2"])
        return [plan(call) for call in calls]

    assert hits(1) == hits(1)
    assert hits(1) != hits(2)
    assert 10 < sum(1 for hit in hits(1) if hit) < 80
    spared = storm(1, rate=1.0, faults=[Fault.THROTTLED], services=["s3"])
    assert [spared(call) for call in calls] == [None] * len(calls)


def test_hard_death_ends_the_process_and_the_cloud_lives(moto: Moto) -> None:
    program = (
        "from tests.aws.faults import *; from tests.aws.moto_server import Moto; import sys\n"
        "with breakable(Way(is_hard=True)) as way:\n"
        "    way.take(at(1, Fault.DIED_AFTER))\n"
        "    Moto(sys.argv[1]).client('ec2').create_volume(AvailabilityZone='us-east-1a', Size=5)\n"
    )
    ended = subprocess.run([sys.executable, "-c", program, moto.url], check=False)
    assert ended.returncode == 137
    assert len(moto.client("ec2").describe_volumes(Filters=[{"Name": "size", "Values": ["5"]}])["Volumes"]) == 1
