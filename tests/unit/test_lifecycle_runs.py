"""What is paid for of instances: each start, to its stop or end, as the farm saw it."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from nodeimage.protocol import NodeState
from supervisor.cloud.ports import RentedInstance
from supervisor.commands import jobs as commands
from supervisor.domain.cost import Run
from supervisor.domain.instance import InstanceStatus, Market
from supervisor.domain.job import JobStatus
from supervisor.lifecycle.nodes import settle_nodes
from supervisor.lifecycle.runs import settle_runs
from supervisor.lifecycle.tick import Tick, Watch
from supervisor.store import runs
from tests.fakes.farm import BEGIN, FakeFarm, a_renting_farm
from tests.fakes.node import FakeNodes

_S = InstanceStatus


@pytest.fixture
def bench(tmp_path: Path) -> FakeFarm:
    return a_renting_farm(tmp_path)


def runs_of(bench: FakeFarm, job: str) -> list[Run]:
    with bench.farm.db.read() as connection:
        return runs.runs_of(connection, job)


class Cloud:
    """What a cloud shows of one instance, tick after tick; it can stop and start, unlike the fake's."""

    def __init__(self, bench: FakeFarm) -> None:
        self.bench = bench
        self.job = bench.a_submitted_job()
        self.watch = Watch()
        self.shown = RentedInstance(
            id="i-1",
            request_id="launch_1",
            job=self.job,
            node="node_1",
            status=_S.PENDING,
            instance_type="fake.large",
            market=Market.ON_DEMAND,
            price_usd_per_h=Decimal("3.60"),
            launched_at=bench.clock(),
        )

    def show(self, *, after_s: float = 1.0, **changes: object) -> None:
        """Let time pass, and a tick see the instance so."""
        self.bench.clock.pass_s(after_s)
        self.shown = replace(self.shown, **changes)  # type: ignore[arg-type]
        now = self.bench.clock()
        tick = Tick(now=now, rented=[self.shown], beats={}, watching_since=self.watch.saw(now))
        settle_nodes(self.bench.farm, tick, self.watch)
        settle_runs(self.bench.farm, tick)

    @property
    def runs(self) -> list[Run]:
        return runs_of(self.bench, self.job)


def test_a_run_begins_with_its_launch_and_ends_when_the_instance_is_gone(bench: FakeFarm) -> None:
    cloud = Cloud(bench)
    cloud.show(after_s=5)
    cloud.show(after_s=40, status=_S.RUNNING)
    cloud.show(after_s=600, status=_S.TERMINATING)
    cloud.show(after_s=10, status=_S.TERMINATED)
    cloud.show(after_s=500)

    assert [(run.began_at, run.ended_at) for run in cloud.runs] == [(BEGIN, BEGIN + timedelta(seconds=655))]
    assert cloud.runs[0].price_usd_per_h == Decimal("3.60")


def test_a_stopped_instance_costs_nothing_until_it_is_started_again(bench: FakeFarm) -> None:
    cloud = Cloud(bench)
    cloud.show(status=_S.RUNNING)
    cloud.show(after_s=100, status=_S.STOPPED)
    cloud.show(after_s=1000)
    cloud.show(after_s=10, status=_S.PENDING, launched_at=bench.clock() + timedelta(seconds=7))
    cloud.show(after_s=50, status=_S.RUNNING)

    first, second = cloud.runs
    assert (first.ended_at, second.began_at) == (BEGIN + timedelta(seconds=101), BEGIN + timedelta(seconds=1108))
    assert second.ended_at is None


def test_an_instance_that_came_and_went_between_two_ticks_is_paid_for(bench: FakeFarm) -> None:
    cloud = Cloud(bench)
    cloud.show(after_s=30, status=_S.TERMINATED)

    assert [(run.began_at, run.ended_at) for run in cloud.runs] == [(BEGIN, BEGIN + timedelta(seconds=30))]


def test_an_instance_that_ended_before_its_price_was_known_is_paid_for_when_it_is(bench: FakeFarm) -> None:
    cloud = Cloud(bench)
    cloud.show(after_s=3600, status=_S.TERMINATED, price_usd_per_h=Decimal(0))
    cloud.show(price_usd_per_h=Decimal("3.60"))

    assert [run.usd(now=bench.clock()) for run in cloud.runs] == [Decimal("3.60")]


def test_an_interruption_is_kept_with_its_run(bench: FakeFarm) -> None:
    cloud = Cloud(bench)
    cloud.show(status=_S.RUNNING)
    cloud.show(after_s=100, status=_S.TERMINATED)
    cloud.show(was_interrupted=True)  # the cloud says so a little later

    assert cloud.runs[0].was_interrupted
    assert cloud.runs[0].usd(now=bench.clock()) == 0


def test_the_price_is_that_at_the_start_or_the_first_that_is_known(bench: FakeFarm) -> None:
    cloud = Cloud(bench)
    cloud.show(price_usd_per_h=Decimal(0))
    cloud.show(price_usd_per_h=Decimal(2))
    cloud.show(price_usd_per_h=Decimal(9))

    assert [run.price_usd_per_h for run in cloud.runs] == [Decimal(2)]


def test_an_instance_that_the_cloud_shows_no_more_is_paid_until_it_is_given_up(bench: FakeFarm) -> None:
    job = bench.a_rendering_job()
    bench.cloud.compute.forget_instance("i-0001")
    for _ in range(70):
        bench.tick()

    gone = runs_of(bench, job)[0]
    assert gone.ended_at is not None
    assert 60 < (gone.ended_at - gone.began_at).total_seconds() < 70


def test_a_node_is_ready_with_its_first_word(bench: FakeFarm) -> None:
    job = bench.a_submitted_job()
    bench.tick()
    bench.tick(after_s=30)
    FakeNodes(bench).only().beat(NodeState.STARTING)
    bench.tick(after_s=15)
    FakeNodes(bench).only().beat(NodeState.OPENING)
    bench.tick(after_s=15)

    run = runs_of(bench, job)[0]
    assert run.ready_at is not None
    assert (run.ready_at - run.began_at).total_seconds() == 45


def test_what_ended_while_the_farm_was_off_is_paid_until_its_node_said_goodbye(bench: FakeFarm) -> None:
    job = bench.a_rendering_job(frames="1-9")
    node = FakeNodes(bench).only()
    node.begin()
    bench.tick()
    bench.clock.pass_s(600)
    node.leave()
    bench.clock.pass_s(10 * 3600)
    bench.restart()
    bench.tick()

    run = runs_of(bench, job)[0]
    assert run.ended_at is not None
    assert (run.ended_at - run.began_at).total_seconds() == 602 + 30


def test_what_left_while_the_farm_looked_is_paid_until_it_is_gone(bench: FakeFarm) -> None:
    job = bench.a_rendering_job(frames="1-9")
    bench.cloud.compute.goes_down = False
    node = FakeNodes(bench).only()
    node.begin()
    bench.tick()
    commands.cancel_job(bench.farm, job)
    bench.tick()
    node.beat(NodeState.GONE)
    for _ in range(9):
        bench.tick(after_s=10)
    bench.cloud.compute.go_down()
    bench.tick()
    bench.tick()

    run = runs_of(bench, job)[0]
    assert bench.status(job) is JobStatus.CANCELLED
    assert run.ended_at is not None
    assert (run.ended_at - run.began_at).total_seconds() > 90
