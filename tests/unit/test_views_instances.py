"""What a job's page shows of its instances: how they are paid for, and what becomes of those that the cloud takes back."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest

from supervisor.commands import jobs as commands
from supervisor.domain.instance import Market
from supervisor.domain.settings import JobSettings
from tests.fakes.farm import renting
from tests.fakes.node import FakeNodes
from tests.unit.web_site import WebSite, a_web_site, root


@pytest.fixture
def site(tmp_path: Path) -> Iterator[WebSite]:
    with a_web_site(tmp_path, config=renting()) as site:
        site.fake.cloud.compute.price_usd_per_h = Decimal("0.2345")
        site.fake.cloud.compute.can_stop = True
        yield site


def _rendering(site: WebSite, market: Market) -> str:
    settings = JobSettings(market=market, instance_types=("c7i.4xlarge",))
    return site.fake.a_rendering_job(frames="1-8", instances=2, settings=settings)


def _shown(site: WebSite, job: str) -> str:
    html = site.browser.get(f"/jobs/{job}/instances").text
    assert root(html).attributes["id"] == f"job-{job}-instances"
    return html


@pytest.mark.parametrize(("market", "words"), [(Market.SPOT, "spot"), (Market.ON_DEMAND, "on demand")])
def test_each_instance_shows_its_type_its_market_and_its_price(site: WebSite, market: Market, words: str) -> None:
    html = _shown(site, _rendering(site, market))

    assert html.count("<strong>c7i.4xlarge</strong>") == 2
    assert html.count(f"{words} · $0.2345/h") == 2
    assert "2 at work" in html


def test_an_instance_that_the_cloud_takes_back_says_when_and_counts_no_more(site: WebSite) -> None:
    job = _rendering(site, Market.SPOT)
    FakeNodes(site.fake).alive()[0].hear_notice(in_s=120)
    for _ in range(2):
        site.fake.tick()

    html = _shown(site, job)

    assert "The cloud takes it back at" in html
    assert "09:02 UTC</time>" in html
    assert "2 at work" in html, "its replacement is there already"
    assert html.count("<strong>c7i.4xlarge</strong>") == 3


def test_an_instance_that_was_taken_back_is_among_those_that_ended(site: WebSite) -> None:
    job = _rendering(site, Market.SPOT)
    site.fake.cloud.compute.take_back(FakeNodes(site.fake).alive()[0].instance.id)
    site.fake.tick()

    html = _shown(site, job)

    assert "1 instance ended" in html
    assert "taken back by the cloud at" in html


def test_the_region_changes_with_a_notice_and_not_without_one(site: WebSite) -> None:
    job = _rendering(site, Market.SPOT)
    version = root(_shown(site, job)).attributes["data-version"]
    assert site.browser.get(f"/jobs/{job}/instances?seen={version}").status_code == 204

    FakeNodes(site.fake).alive()[0].hear_notice()
    site.fake.tick()

    assert site.browser.get(f"/jobs/{job}/instances?seen={version}").status_code == 200


def test_stopped_instances_of_a_paused_job_are_shown_as_stopped(site: WebSite) -> None:
    job = _rendering(site, Market.ON_DEMAND)
    commands.pause_job(site.farm, job)
    for _ in range(2):
        site.fake.tick()

    html = _shown(site, job)

    assert html.count("stopped</span>") == 2
    assert "at work" not in html
