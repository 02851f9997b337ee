"""Renting on a cloud: capacity that comes and goes, launches in doubt, spot and what takes its place."""

from __future__ import annotations

from decimal import Decimal
from itertools import pairwise
from pathlib import Path

import pytest

from nodeimage.protocol import NodeState
from supervisor import queries
from supervisor.cloud.ports import NoCapacity, Throttled, Unreachable
from supervisor.config import CloudConfig, Config, LaunchConfig, MoneyConfig
from supervisor.domain.instance import Market
from supervisor.domain.job import JobStatus
from supervisor.domain.settings import JobSettings
from supervisor.store import instances
from tests.fakes.farm import BEGIN, FakeFarm
from tests.fakes.node import FakeNodes

SPOT = JobSettings(market=Market.SPOT)


def _config(*, fallback_minutes: float) -> Config:
    return Config(
        cloud=CloudConfig(provider="aws"), money=MoneyConfig(max_usd_per_month=0), launch=LaunchConfig(fallback_minutes=fallback_minutes)
    )


@pytest.fixture
def bench(tmp_path: Path) -> FakeFarm:
    return FakeFarm.open(tmp_path, config=_config(fallback_minutes=10))


def _tick_for(bench: FakeFarm, *, minutes: float, every_s: float = 5) -> None:
    for _ in range(round(minutes * 60 / every_s)):
        bench.tick(after_s=every_s)


def _asked(bench: FakeFarm, job: str) -> list[tuple[float, Market]]:
    """Each asking: seconds since the beginning, and the market."""
    with bench.farm.db.read() as connection:
        return [((launch.at - BEGIN).total_seconds(), launch.market) for launch in instances.launches_of(connection, job)]


def _events(bench: FakeFarm, job: str) -> list[str]:
    return [event.text for event in queries.job_events(bench.farm, job)]


# What there is to rent


def test_a_launch_granted_in_part_is_filled_up_while_there_is_work(bench: FakeFarm) -> None:
    bench.cloud.compute.slots = 2
    job = bench.a_rendering_job(frames="1-20", instances=5)
    assert len(bench.cloud.compute.alive()) == 2

    bench.cloud.compute.slots = 4
    bench.tick()
    bench.cloud.compute.slots = None
    bench.tick()

    assert len(bench.cloud.compute.alive()) == 5
    assert queries.job_summary(bench.farm, job).frames.total == 20


def test_askings_without_capacity_come_less_and_less_often_up_to_every_two_minutes(bench: FakeFarm) -> None:
    job = bench.a_submitted_job()
    bench.cloud.compute.fail_next(NoCapacity("none in any zone"), times=100, call="launch")

    _tick_for(bench, minutes=20)

    asked = [at for at, _ in _asked(bench, job)]
    assert [after - before for before, after in pairwise(asked)][:7] == [5, 10, 20, 40, 80, 120, 120]


def test_a_job_says_what_it_waits_for_as_long_as_it_waits(bench: FakeFarm) -> None:
    job = bench.a_submitted_job()
    bench.cloud.compute.fail_next(NoCapacity("no c7i.4xlarge in any zone"), times=100, call="launch")

    for _ in range(30):
        bench.tick(after_s=3)

        assert "no c7i.4xlarge in any zone; the farm asks again" in queries.job_summary(bench.farm, job).reason


@pytest.mark.parametrize("error", [Throttled("slow down"), Unreachable("no answer")], ids=["throttled", "unreachable"])
def test_a_launch_in_doubt_is_asked_again_as_it_was_and_the_job_goes_on(bench: FakeFarm, error: Exception) -> None:
    job = bench.a_submitted_job(frames="1-8", instances=3)
    bench.cloud.compute.fail_next(error, times=3, call="launch")

    for _ in range(12):
        bench.tick()

    assert bench.status(job) is JobStatus.RENDERING
    assert queries.job_detail(bench.farm, job).problems == ()
    assert len(_asked(bench, job)) == 1
    assert len({launch.request_id for launch in bench.cloud.compute.alive()}) == 1
    assert [spec.count for spec in bench.cloud.compute.launches] == [3]


def test_a_launch_answered_late_is_not_launched_again_while_its_instances_are_not_shown(bench: FakeFarm) -> None:
    bench.a_submitted_job(frames="1-8", instances=3)
    bench.cloud.compute.fail_next(Throttled("slow down"), times=14, call="launch")
    bench.cloud.compute.hide_new_instances()

    _tick_for(bench, minutes=20)

    assert len(bench.cloud.compute.alive()) == 3


def test_a_launch_in_doubt_is_not_asked_again_for_a_workspace_that_is_gone(bench: FakeFarm) -> None:
    job = bench.a_submitted_job(frames="1-8", instances=3)
    bench.cloud.compute.fail_next(Unreachable("no answer"), call="launch")
    bench.tick()
    bench.cloud.workspaces.lose(job)

    for _ in range(6):
        bench.tick()

    assert bench.status(job) is JobStatus.RENDERING
    assert len(_asked(bench, job)) == 2


def test_hands_that_are_on_their_way_count_when_frames_are_few(bench: FakeFarm, nodes: FakeNodes) -> None:
    job = bench.a_rendering_job(frames="1-6", instances=6)
    for node in nodes.alive()[:4]:
        node.begin()
    bench.tick()
    bench.cloud.compute.end_instance(nodes.alive()[0].instance.id)

    bench.tick(after_s=120)
    bench.tick()

    assert len(bench.cloud.compute.alive()) == 6, "one is asked for in place of the one that is gone"
    assert queries.job_summary(bench.farm, job).frames.queued == 3


def test_no_instance_is_asked_for_where_free_hands_are_enough_for_the_frames_that_wait(bench: FakeFarm, nodes: FakeNodes) -> None:
    bench.a_rendering_job(frames="1-5", instances=5)
    first, second, third, fourth, fifth = nodes.alive()
    for node in (first, second, first, second):  # one renders, one is being delivered
        node.begin()
        bench.tick()
    for gone in (third, fourth):
        bench.cloud.compute.end_instance(gone.instance.id)

    _tick_for(bench, minutes=0.5)

    assert {node.name for node in nodes.alive()} == {first.name, second.name, fifth.name}


def test_a_launch_whose_node_could_not_begin_is_lost_with_the_nodes_own_words(bench: FakeFarm, nodes: FakeNodes) -> None:
    job = bench.a_rendering_job()
    node = nodes.only()
    node.beat(NodeState.STARTING, problem="Its files can't be fetched: tree.blend is not in the bucket.")
    bench.cloud.compute.end_instance(node.instance.id, note="it shut itself down")

    bench.tick()

    (problem,) = queries.job_detail(bench.farm, job).problems
    assert problem.code == "node_lost"
    assert "it shut itself down; its node said: Its files can't be fetched: tree.blend is not in the bucket." in problem.text


# Spot, and what takes its place


def test_spot_that_is_missing_for_long_is_replaced_by_on_demand_with_an_event(bench: FakeFarm) -> None:
    bench.cloud.compute.spot_is_out = True
    job = bench.a_submitted_job(frames="1-8", instances=2, settings=SPOT)

    _tick_for(bench, minutes=9.5)
    assert bench.cloud.compute.alive() == []
    _tick_for(bench, minutes=1)

    assert [one.market for one in bench.cloud.compute.alive()] == [Market.ON_DEMAND] * 2
    assert [one.market for one in queries.job_instances(bench.farm, job)] == [Market.ON_DEMAND] * 2
    assert "2 on-demand instances were launched, because no spot instance could be had for 10 minutes" in _events(bench, job)


def test_spot_is_asked_for_first_again_after_a_fall_back(bench: FakeFarm) -> None:
    bench.cloud.compute.spot_is_out = True
    job = bench.a_submitted_job(frames="1-8", instances=2, settings=SPOT)
    _tick_for(bench, minutes=10.5)
    gone = bench.cloud.compute.alive()[0]
    bench.cloud.compute.spot_is_out = False

    bench.cloud.compute.end_instance(gone.id)
    _tick_for(bench, minutes=1)

    assert [one.market for one in bench.cloud.compute.alive()] == [Market.ON_DEMAND, Market.SPOT]
    assert bench.status(job) is JobStatus.RENDERING


def test_patience_with_spot_begins_anew_when_an_instance_was_granted(bench: FakeFarm, nodes: FakeNodes) -> None:
    bench.cloud.compute.spot_is_out = True
    job = bench.a_submitted_job(frames="1-30", settings=SPOT)
    _tick_for(bench, minutes=8)
    bench.cloud.compute.spot_is_out = False
    _tick_for(bench, minutes=1.5)
    assert [one.market for one in bench.cloud.compute.alive()] == [Market.SPOT]
    bench.cloud.compute.spot_is_out = True

    bench.cloud.compute.take_back(bench.cloud.compute.alive()[0].id)
    _tick_for(bench, minutes=9)
    assert bench.cloud.compute.alive() == []
    _tick_for(bench, minutes=2)

    assert [one.market for one in bench.cloud.compute.alive()] == [Market.ON_DEMAND]
    assert bench.status(job) is JobStatus.RENDERING


def test_spot_is_waited_for_however_long_where_the_farm_has_no_fall_back(tmp_path: Path) -> None:
    bench = FakeFarm.open(tmp_path, config=_config(fallback_minutes=0))
    bench.cloud.compute.spot_is_out = True
    job = bench.a_submitted_job(settings=SPOT)

    _tick_for(bench, minutes=120, every_s=60)

    assert {market for _, market in _asked(bench, job)} == {Market.SPOT}


@pytest.mark.parametrize(
    ("price", "granted"),
    [("0.30", ("cheap.large",)), ("0.10", ())],
    ids=["one type is cheap enough", "every type is too dear"],
)
def test_a_highest_price_holds_for_what_takes_the_place_of_spot(bench: FakeFarm, price: str, granted: tuple[str, ...]) -> None:
    bench.cloud.prices.by_type = {
        ("cheap.large", Market.ON_DEMAND): Decimal("0.20"),
        ("dear.large", Market.ON_DEMAND): Decimal("0.40"),
    }
    bench.cloud.compute.spot_is_out = True
    settings = JobSettings(market=Market.SPOT, max_price_usd_per_h=Decimal(price), instance_types=("dear.large", "cheap.large"))
    job = bench.a_submitted_job(frames="1-8", settings=settings)

    _tick_for(bench, minutes=13)

    assert tuple(one.instance_type for one in bench.cloud.compute.alive()) == granted
    assert granted or "costs more than its highest price of $0.10 an hour" in queries.job_summary(bench.farm, job).reason
