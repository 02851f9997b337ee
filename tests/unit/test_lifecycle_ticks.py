"""What a tick asks of the cloud, where each request has its price, and how soon the next tick is wanted."""

from __future__ import annotations

from pathlib import Path

import pytest

from nodeimage.protocol import NODES_PREFIX, journal_prefix
from supervisor.cloud.ports import NoCapacity
from supervisor.commands import jobs as commands
from supervisor.config import AwsConfig, CloudConfig, Config, MoneyConfig, SupervisorConfig
from supervisor.domain.instance import Market
from supervisor.domain.job import JobStatus
from supervisor.domain.settings import JobSettings
from tests.fakes.farm import FakeFarm, a_farm_that_stops
from tests.fakes.node import FakeNodes

AWS = Config(
    cloud=CloudConfig(provider="aws"),
    money=MoneyConfig(max_usd_per_month=0),
    aws=AwsConfig(tick_s=2.0),
    supervisor=SupervisorConfig(tick_s=0.5),
)


@pytest.fixture
def bench(tmp_path: Path) -> FakeFarm:
    return a_farm_that_stops(tmp_path, config=AWS)


def _asked_in_a_tick(bench: FakeFarm) -> tuple[list[str], list[str], int]:
    """What one tick lists, reads, and how often it looks at workspaces."""
    objects, workspaces = bench.cloud.objects, bench.cloud.workspaces
    objects.lists.clear()
    objects.reads.clear()
    workspaces.looks = 0
    bench.tick()
    return list(objects.lists), list(objects.reads), workspaces.looks


def test_a_farm_that_rents_nothing_asks_nothing_of_the_bucket(bench: FakeFarm) -> None:
    bench.a_draft()

    assert _asked_in_a_tick(bench) == ([], [], 0)


def test_a_job_that_waits_for_capacity_asks_nothing_of_the_bucket(bench: FakeFarm) -> None:
    job = bench.a_submitted_job()
    bench.cloud.compute.fail_next(NoCapacity("none"), times=100, call="launch")
    for _ in range(4):
        bench.tick()
    assert bench.status(job) is JobStatus.LAUNCHING

    assert _asked_in_a_tick(bench) == ([], [], 0)


def test_a_paused_job_with_stopped_instances_asks_nothing_of_the_bucket(bench: FakeFarm) -> None:
    job = bench.a_rendering_job(instances=2, settings=JobSettings(market=Market.ON_DEMAND))
    commands.pause_job(bench.farm, job)
    bench.tick()
    bench.tick()
    assert bench.status(job) is JobStatus.PAUSED
    assert bench.cloud.compute.alive()

    assert _asked_in_a_tick(bench) == ([], [], 0)


def test_a_rendering_job_costs_two_listings_and_a_read_for_each_node_that_said_something(bench: FakeFarm, nodes: FakeNodes) -> None:
    job = bench.a_rendering_job(frames="1-100", instances=8)
    for node in nodes.alive():
        node.begin()
    bench.tick()
    for node in nodes.alive()[:3]:
        node.beat(frame=min(node.claims))

    lists, reads, looks = _asked_in_a_tick(bench)

    assert sorted(lists) == sorted([NODES_PREFIX, journal_prefix(job)])
    assert len(reads) == 3
    assert looks == 0


def test_late_reports_are_looked_for_every_few_minutes_though_nothing_is_rented(bench: FakeFarm, nodes: FakeNodes) -> None:
    job = bench.a_rendering_job(frames="1")
    node = nodes.only()
    node.begin()
    bench.tick()
    bench.cloud.compute.fail_next(NoCapacity("none"), times=1000, call="launch")
    bench.cloud.compute.end_instance(node.instance.id)
    for _ in range(3):
        bench.tick()

    node.deliver(1)  # it is gone for the cloud, and does not know it yet
    for _ in range(32):
        bench.tick(after_s=10)

    assert bench.status(job) is JobStatus.COMPLETED


@pytest.mark.parametrize(
    ("provider", "has_job", "wait_s"),
    [("aws", True, 2.0), ("local", True, 0.5), ("aws", False, 5.0), ("local", False, 5.0)],
)
def test_ticks_are_rarer_on_aws_and_rarest_where_no_job_wants_anything(tmp_path: Path, provider: str, has_job: bool, wait_s: float) -> None:
    bench = FakeFarm.open(tmp_path, config=AWS.model_copy(update={"cloud": CloudConfig.model_validate({"provider": provider})}))
    if has_job:
        bench.a_submitted_job()
        for _ in range(2):
            bench.tick()

    assert bench.tick() == wait_s
