"""The contract of Compute where a cloud can stop instances and start them again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest

from supervisor.cloud.aws.session import AwsSession
from supervisor.cloud.ports import Compute, RentedInstance
from supervisor.domain.instance import InstanceStatus, Market
from tests.aws.farm import SPEC, Renting, set_up_farm
from tests.aws.moto_server import Moto
from tests.fakes import FakeCompute

_S = InstanceStatus
_ENDED = frozenset({_S.TERMINATING, _S.TERMINATED})


@dataclass
class Place:
    compute: Compute
    be_slow: Callable[[], object]  #: instances come up when something else happens

    def launched(self, market: Market = Market.ON_DEMAND) -> list[RentedInstance]:
        granted = self.compute.launch(replace(SPEC, market=market), request_id="launch_1")
        found = list(self.compute.instances())
        assert granted == len(found) == SPEC.count
        return found

    def statuses(self) -> list[InstanceStatus]:
        return [instance.status for instance in self.compute.instances()]


@pytest.fixture
def fake() -> Place:
    compute = FakeCompute()
    compute.can_stop = True
    return Place(compute, be_slow=lambda: setattr(compute, "comes_up", False))


@pytest.fixture
def aws(moto: Moto, aws_session: AwsSession) -> Place:
    set_up_farm(moto)
    return Place(Renting(aws_session).compute, be_slow=lambda: moto.change(is_slow=True))


@pytest.fixture(params=["fake", "aws"])
def place(request: pytest.FixtureRequest) -> Place:
    found = request.getfixturevalue(request.param)
    assert isinstance(found, Place)
    return found


def test_an_on_demand_instance_is_stopped_and_started_again_as_the_same_node(place: Place) -> None:
    before = place.launched()

    place.compute.stop([one.id for one in before])
    assert place.statuses() == [_S.STOPPED] * 2
    place.compute.start([one.id for one in before])

    assert place.statuses() == [_S.RUNNING] * 2
    assert {(one.id, one.node) for one in place.compute.instances()} == {(one.id, one.node) for one in before}


def test_stopping_and_starting_again_what_is_stopped_or_runs_is_no_error(place: Place) -> None:
    ids = [one.id for one in place.launched()]
    for _ in range(2):
        place.compute.stop(ids)
    for _ in range(2):
        place.compute.start([*ids, "i-0123456789abcdef0"])

    assert place.statuses() == [_S.RUNNING] * 2


def test_a_spot_instance_that_is_to_stop_ends(place: Place) -> None:
    place.compute.stop([one.id for one in place.launched(Market.SPOT)])

    assert set(place.statuses()) <= _ENDED


def test_an_instance_that_does_not_run_yet_and_is_to_stop_ends(place: Place) -> None:
    place.be_slow()

    place.compute.stop([one.id for one in place.launched()])

    assert set(place.statuses()) <= _ENDED


def test_a_stopped_instance_can_be_ended_and_not_started_after_that(place: Place) -> None:
    ids = [one.id for one in place.launched()]
    place.compute.stop(ids)

    place.compute.terminate(ids)
    place.compute.start(ids)

    assert set(place.statuses()) <= _ENDED
