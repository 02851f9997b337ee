"""Farms with a shared pool of instances, and what their tests do with them."""

from __future__ import annotations

from nodeimage.launch import PoolOrder
from nodeimage.protocol import POOL_KEY, Order, order_key
from supervisor.config import CloudConfig, Config, LaunchConfig, MoneyConfig, PoolConfig
from supervisor.domain.job import ENDED, JobStatus
from supervisor.domain.settings import JobSettings
from tests.fakes.farm import FakeFarm
from tests.fakes.node import FakeNodes


def shared_config(*, least: int = 0, most: int = 8) -> Config:
    return Config(
        cloud=CloudConfig(provider="aws"),
        money=MoneyConfig(max_usd_per_month=0),
        launch=LaunchConfig(max_instances=100),
        pool=PoolConfig(mode="shared", min_instances=least, max_instances=most),
    )


def ticks(bench: FakeFarm, number: int, *, after_s: float = 1.0) -> None:
    for _ in range(number):
        bench.tick(after_s=after_s)


def run_jobs(bench: FakeFarm, nodes: FakeNodes, *ids: str, turns: int = 80) -> list[JobStatus]:
    for _ in range(turns):
        bench.tick()
        nodes.work()
        if all(bench.status(job) in ENDED for job in ids):
            break
    return [bench.status(job) for job in ids]


def served(bench: FakeFarm) -> list[str]:
    stored = bench.cloud.objects.get(POOL_KEY)
    assert stored is not None
    return [each.job for each in PoolOrder.from_bytes(stored.body).jobs]


def order_of(bench: FakeFarm, job: str) -> Order:
    stored = bench.cloud.objects.get(order_key(job))
    assert stored is not None
    return Order.from_bytes(stored.body)


def a_job(bench: FakeFarm, *, frames: str = "1-4", priority: int = 50) -> str:
    job = bench.a_submitted_job(frames=frames, settings=JobSettings(priority=priority))
    bench.clock.pass_s(1)
    return job
