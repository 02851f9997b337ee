"""What a shared pool of instances costs, and whom; and that its instances belong to no job."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from nodeimage.protocol import NodeState
from supervisor import queries
from supervisor.commands import jobs as commands
from supervisor.domain.instance import Market
from supervisor.domain.job import JobStatus
from supervisor.domain.settings import JobSettings
from supervisor.lifecycle.books import Books
from supervisor.spending import month_spent, usd_per_h
from supervisor.store import instances
from tests.fakes.farm import FakeFarm
from tests.fakes.node import FakeNode, FakeNodes

from .shared_pool import a_job, run_jobs, shared_config, ticks


@pytest.fixture
def bench(tmp_path: Path) -> FakeFarm:
    return FakeFarm.open(tmp_path, config=shared_config())


def _cost_of(bench: FakeFarm, job: str) -> Decimal:
    return queries.job_detail(bench.farm, job).cost.total_usd


def _at(node: FakeNode, job: str) -> None:
    node.at_job = job
    node.beat()


def test_a_job_pays_for_the_time_that_nodes_were_at_it_and_the_month_for_all(bench: FakeFarm, nodes: FakeNodes) -> None:
    bench.cloud.compute.price_usd_per_h = Decimal("3.60")
    first, second = a_job(bench, frames="1-5"), a_job(bench, frames="1-5")
    ticks(bench, 2)
    (node,) = nodes.alive()
    began = bench.clock()

    def spend(job: str, seconds: int) -> None:
        for _ in range(seconds // 10):
            _at(node, job)
            bench.tick(after_s=10)

    spend("", 30)
    spend(first, 600)
    spend("", 60)
    spend(second, 300)
    _at(node, "")
    bench.tick(after_s=10)

    assert (_cost_of(bench, first), _cost_of(bench, second)) == (Decimal("0.6000"), Decimal("0.3000"))
    Books(bench.farm).keep()
    with bench.farm.db.read() as connection:
        spent = month_spent(connection, now=bench.clock())
    alive_s = Decimal((bench.clock() - began).total_seconds())
    in_all = sum(entry.cost.total_usd for entry in spent)
    assert alive_s / 1000 <= in_all <= (alive_s + 5) / 1000
    assert {entry.job for entry in spent} == {first, second, ""}


def test_a_deleted_job_takes_no_instance_of_the_pool_along(bench: FakeFarm, nodes: FakeNodes) -> None:
    job = a_job(bench, frames="1")
    run_jobs(bench, nodes, job)
    commands.delete_job(bench.farm, job)

    nodes.alive()[0].beat(NodeState.IDLE)  # it is at the job yet, for all that it knows
    ticks(bench, 2)

    with bench.farm.db.read() as connection:
        assert [one.works_for for one in instances.pool_instances(connection)] == [""]


def test_what_a_job_would_rent_by_itself_is_neither_checked_nor_counted(bench: FakeFarm) -> None:
    bench.cloud.prices.default = Decimal("0.714")
    wish = JobSettings(frames="1-3", market=Market.SPOT, max_price_usd_per_h=Decimal("0.01"), instance_types=("g5.xlarge",), instances=40)
    job = bench.a_submitted_job(settings=wish)
    [needs] = bench.cloud.premises.asked_for
    assert (needs.market, needs.max_price_usd_per_h, needs.instance_types, needs.instances) == (Market.ON_DEMAND, None, (), 8)
    assert usd_per_h(bench.farm, "c7i.4xlarge", queries.job_detail(bench.farm, job).settings) == Decimal("0.714")


def test_a_clouds_clock_that_is_ahead_of_the_farms_stops_nothing(bench: FakeFarm, nodes: FakeNodes) -> None:
    job = a_job(bench)
    ticks(bench, 2)
    bench.clock.pass_s(-30)
    for _ in range(2):
        nodes.only().take_job()
        bench.tick()
    assert bench.status(job) is JobStatus.RENDERING
    assert run_jobs(bench, nodes, job) == [JobStatus.COMPLETED]
