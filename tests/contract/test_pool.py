"""The contract of Pool: in memory, and as an Auto Scaling group."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest

from supervisor.cloud.aws.pool import Ec2Pool
from supervisor.cloud.aws.session import AwsSession
from supervisor.cloud.ports import Compute, Pool
from supervisor.config import AwsConfig, NodeTimes, PoolConfig
from supervisor.domain.instance import InstanceStatus
from tests.aws.farm import IDENTITY, Clock, Renting, set_up_farm
from tests.aws.moto_server import Moto
from tests.fakes import FakeCompute, FakePool

UNTIL = datetime.now(UTC) + timedelta(hours=1)


@dataclass
class Place:
    pool: Pool
    compute: Compute
    lose: Callable[[str], object]  #: make an instance end by itself
    let_time_pass: Callable[[], object]  #: so long that what was believed is looked at again

    def resize(self, wanted: int) -> None:
        self.pool.resize(wanted, until=UNTIL)

    def alive(self) -> list[str]:
        """The instances of no job that are there."""
        shown = self.compute.instances()
        assert all(one.job == "" for one in shown)
        return [one.id for one in shown if one.status in {InstanceStatus.PENDING, InstanceStatus.RUNNING}]


@pytest.fixture
def fake() -> Place:
    compute = FakeCompute()
    return Place(FakePool(compute), compute, lose=compute.end_instance, let_time_pass=lambda: None)


@pytest.fixture
def aws(moto: Moto, aws_session: AwsSession) -> Place:
    set_up_farm(moto)
    clock = Clock()
    farm = Renting(aws_session, aws=AwsConfig(describe_s=0), clock=clock)
    pool = Ec2Pool(aws_session, IDENTITY, pool=PoolConfig(mode="shared"), node=NodeTimes(), site=farm.site, clock=clock)

    def let_time_pass() -> None:
        clock.now_s += 61

    return Place(pool, farm.compute, lose=lambda id: moto.tell("lose", instance=id), let_time_pass=let_time_pass)


@pytest.fixture(params=["fake", "aws"])
def place(request: pytest.FixtureRequest) -> Place:
    found = request.getfixturevalue(request.param)
    assert isinstance(found, Place)
    return found


def test_a_pool_that_is_made_larger_has_more_instances(place: Place) -> None:
    place.resize(0)
    assert place.alive() == []
    place.resize(1)
    assert len(place.alive()) == 1
    place.resize(3)
    assert len(place.alive()) == 3


def test_resizing_to_what_there_is_changes_nothing(place: Place) -> None:
    place.resize(2)
    before = place.alive()
    place.let_time_pass()
    place.resize(2)
    assert place.alive() == before


def test_making_it_smaller_ends_no_instance(place: Place) -> None:
    place.resize(3)
    before = place.alive()
    place.resize(0)
    assert place.alive() == before


def test_instances_that_end_are_replaced(place: Place) -> None:
    place.resize(2)
    place.lose(place.alive()[0])
    place.let_time_pass()
    place.resize(2)
    assert len(place.alive()) == 2


def test_released_instances_end_and_are_not_replaced(place: Place) -> None:
    place.resize(3)
    gone, *kept = place.alive()
    for _ in range(2):
        place.pool.release([gone, "i-0123456789abcdef0"])
    place.resize(2)
    assert place.alive() == kept


def test_instances_that_are_let_go_stay_and_others_come_in_their_place(place: Place) -> None:
    place.resize(2)
    doomed, kept = place.alive()
    for _ in range(2):
        place.pool.let_go([doomed])
    assert len(place.alive()) == 3
    assert {doomed, kept} < set(place.alive())
    place.lose(doomed)
    place.let_time_pass()
    place.resize(2)
    assert len(place.alive()) == 2


def test_a_pool_that_has_all_that_it_wants_knows_of_no_problem(place: Place) -> None:
    place.resize(1)
    assert place.pool.problem() == ""


def test_a_removed_pool_has_no_instances_and_can_be_removed_again_and_made_anew(place: Place) -> None:
    place.resize(2)
    for _ in range(2):
        place.pool.remove()
    assert place.alive() == []
    place.resize(1)
    assert len(place.alive()) == 1
