"""The contract of Compute where a cloud can stop instances and start them again."""

from __future__ import annotations

from dataclasses import replace

import pytest

from supervisor.cloud.ports import LaunchSpec, RentedInstance
from supervisor.domain.instance import InstanceStatus, Market
from tests.fakes import FakeCompute

_S = InstanceStatus
SPEC = LaunchSpec(
    job="job_a",
    count=2,
    market=Market.ON_DEMAND,
    max_price_usd_per_h=None,
    instance_types=(),
    workspace="frozen-job_a",
    blender_version=(4, 5),
)


@pytest.fixture
def compute() -> FakeCompute:
    compute = FakeCompute()
    compute.can_stop = True
    return compute


def _launched(compute: FakeCompute, market: Market = Market.ON_DEMAND) -> list[RentedInstance]:
    compute.launch(replace(SPEC, market=market), request_id="r1")
    return list(compute.instances())


def _statuses(compute: FakeCompute) -> list[InstanceStatus]:
    return [instance.status for instance in compute.instances()]


def test_an_on_demand_instance_is_stopped_and_started_again_as_the_same_node(compute: FakeCompute) -> None:
    before = _launched(compute)

    compute.stop([one.id for one in before])
    assert _statuses(compute) == [_S.STOPPED] * 2
    compute.start([one.id for one in before])

    assert _statuses(compute) == [_S.RUNNING] * 2
    assert [(one.id, one.node) for one in compute.instances()] == [(one.id, one.node) for one in before]


def test_stopping_and_starting_again_what_is_stopped_or_runs_is_no_error(compute: FakeCompute) -> None:
    ids = [one.id for one in _launched(compute)]
    for _ in range(2):
        compute.stop(ids)
    for _ in range(2):
        compute.start([*ids, "i-nobody"])

    assert _statuses(compute) == [_S.RUNNING] * 2


def test_a_spot_instance_that_is_to_stop_ends(compute: FakeCompute) -> None:
    compute.stop([one.id for one in _launched(compute, Market.SPOT)])

    assert _statuses(compute) == [_S.TERMINATED] * 2


def test_an_instance_that_does_not_run_yet_and_is_to_stop_ends(compute: FakeCompute) -> None:
    compute.comes_up = False

    compute.stop([one.id for one in _launched(compute)])

    assert _statuses(compute) == [_S.TERMINATED] * 2


def test_a_stopped_instance_can_be_ended_and_not_started_after_that(compute: FakeCompute) -> None:
    ids = [one.id for one in _launched(compute)]
    compute.stop(ids)

    compute.terminate(ids)
    compute.start(ids)

    assert _statuses(compute) == [_S.TERMINATED] * 2
