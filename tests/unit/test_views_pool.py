"""A draft on a farm whose jobs share a pool of instances: what is the pool's is shown, and not asked for."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from supervisor import queries
from supervisor.config import CloudConfig, Config, PoolConfig

from .web_site import WebSite, a_web_site

#: Fields of what a job rents for itself.
RENTED = ("instances", "market", "max_price_usd_per_h", "instance_types", "workspace_mode")


@pytest.fixture
def site(tmp_path: Path) -> Iterator[WebSite]:
    config = Config(cloud=CloudConfig(provider="aws"), pool=PoolConfig(mode="shared", market="spot", max_instances=6))
    with a_web_site(tmp_path, config=config) as site:
        site.fake.cloud.prices.types = ("c7i.4xlarge", "c7a.4xlarge")
        yield site


def test_what_the_pool_decides_is_told_and_not_asked_for(site: WebSite) -> None:
    page = site.get(f"/jobs/{site.a_draft()}").text
    assert [name for name in RENTED if f'name="{name}"' in page] == []
    assert "up to 6 instances as spot for all jobs, of c7i.4xlarge, c7a.4xlarge" in page
    assert 'name="max_cost_usd"' in page
    assert 'name="priority"' in page


def test_a_job_is_submitted_to_the_pool(site: WebSite) -> None:
    job = site.a_draft()
    assert "on the shared pool" in site.get(f"/jobs/{job}").text
    answer = site.post(f"/jobs/{job}/submit", {"frames": "1-3", "priority": "60", "persistent_data": "on"})
    assert answer.headers["HX-Redirect"] == f"/jobs/{job}"
    assert queries.job_summary(site.farm, job).reason == "frames 1-3 on the shared pool"
    assert "the shared pool’s" in site.get(f"/jobs/{job}").text
