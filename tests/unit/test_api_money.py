"""Money through the HTTP API: costs, caps, estimates, statistics."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from supervisor.commands import accounts
from supervisor.domain.cost import Run
from supervisor.domain.estimate import Pace
from supervisor.domain.instance import Market
from supervisor.domain.job import JobStatus
from supervisor.domain.settings import JobSettings
from supervisor.measuring import work_of
from supervisor.store import jobs, paces, runs
from tests.fakes.farm import renting, set_price
from tests.unit.api_site import Site, a_site


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with a_site(tmp_path, config=renting(max_usd_per_job=20.0, max_usd_per_month=100.0)) as made:
        set_price(made.cloud, "3.60")
        yield made


def shown(site: Site, job: str) -> Any:
    return site.ask("GET", f"/jobs/{job}").json


def spend(site: Site, job: str, usd: str) -> None:
    now = site.farm.now()
    began = now - timedelta(hours=float(Decimal(usd) / Decimal("3.60")))
    run = Run(instance=f"i-{job}", price_usd_per_h=Decimal("3.60"), began_at=began, ready_at=began + timedelta(seconds=100), ended_at=now)
    with site.farm.db.write() as connection:
        runs.add_run(connection, job, run)


def rendered_before(site: Site, job: str) -> None:
    """Let the farm have rendered the job's file: 36 s a frame, 40 s of boot."""
    with site.farm.db.write() as connection:
        seen = jobs.find_job(connection, job)
        assert seen is not None
        work = work_of(connection, seen, JobSettings())
        assert work is not None
        figures = {"instances": 1, "frames": 10, "render_s": 360.0, "paid_s": 480.0, "boots": 1, "boot_s": 40.0, "usd": Decimal("0.48")}
        kind = {"instance_type": "fake.large", "market": Market.SPOT, "at": site.farm.now()}
        paces.put_paces(connection, "job_before", [Pace(work=replace(work, job="job_before"), **kind, **figures)])  # type: ignore[arg-type]


def test_a_job_tells_its_cost_by_parts(site: Site) -> None:
    job = site.a_submitted_job()
    spend(site, job, "4.50")
    seen = shown(site, job)
    assert seen["cost"] == pytest.approx(4.5, abs=0.001)
    assert seen["costs"]["booting_usd"] == pytest.approx(0.1)
    assert seen["costs"]["idle_usd"] == pytest.approx(4.4, abs=0.001)
    assert sum(seen["costs"].values()) == pytest.approx(seen["cost"], abs=0.0002)
    assert (seen["cap_usd"], seen["scouting"]) == (20.0, None)
    assert (site.ask("GET", "/jobs").json or [{}])[0]["cost"] == seen["cost"]


def test_a_cap_is_given_at_submission_and_changed_later(site: Site) -> None:
    job = site.a_job()
    site.a_blend(job)
    assert site.ask("POST", f"/jobs/{job}/submit", json={"max_cost_usd": 5, "scout": True}).status_code == 202
    assert (shown(site, job)["cap_usd"], shown(site, job)["settings"]["scout"]) == (5.0, True)

    assert site.ask("POST", f"/jobs/{job}/cap", json={"max_cost_usd": 7.25}).json["cap_usd"] == 7.25  # type: ignore[index]
    assert site.ask("POST", f"/jobs/{job}/cap", json={"max_cost_usd": None}).json["cap_usd"] == 20.0  # type: ignore[index]


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({"max_cost_usd": 20.01}, "an administrator can give it a cap of $20.01"),
        ({"max_cost_usd": 0}, "greater than 0"),
        ({"max_cost_usd": "5"}, "valid number"),
        ({}, "is missing"),
    ],
)
def test_a_cap_that_can_not_be_is_named_by_its_field(site: Site, body: dict[str, Any], says: str) -> None:
    answer = site.ask("POST", f"/jobs/{site.a_job()}/cap", json=body)
    assert answer.status_code == 422
    (wrong,) = answer.json["errors"]  # type: ignore[index]
    assert wrong["field"] == "max_cost_usd"
    assert says in wrong["detail"]


def test_an_administrator_goes_beyond_the_farms_cap(site: Site) -> None:
    job = site.a_job()
    accounts.add_user(site.farm, name="root", password="a long enough one", role="admin")
    admin = {"Authorization": f"Bearer {accounts.create_token(site.farm, user_name='root')}"}
    assert site.ask("POST", f"/jobs/{job}/cap", json={"max_cost_usd": 50}, headers=admin).status_code == 200
    assert shown(site, job)["cap_usd"] == 50.0


def test_resuming_past_the_cap_is_a_conflict_with_numbers(site: Site) -> None:
    job = site.a_submitted_job()
    spend(site, job, "20.50")
    for to in (JobStatus.STAGING, JobStatus.RELEASING, JobStatus.PAUSED):
        with site.farm.db.write() as connection:
            seen = jobs.find_job(connection, job)
            assert seen is not None
            then = JobStatus.PAUSED if to is JobStatus.RELEASING else None
            jobs.move(connection, seen, to, because="it is so", at=site.farm.now(), then=then)
    answer = site.ask("POST", f"/jobs/{job}/resume")
    assert answer.status_code == 409
    assert "its cost is $20.50; its cap of $20.00 is reached" in answer.json["detail"]  # type: ignore[index]


def test_an_estimate_says_that_it_knows_nothing(site: Site) -> None:
    job = site.a_job()
    empty: Any = site.ask("GET", f"/jobs/{job}/estimate").json
    assert (empty["frames"], empty["basis"]) == (0, "")
    assert "upload a .blend" in empty["text"]
    site.a_blend(job)
    unknown: Any = site.ask("GET", f"/jobs/{job}/estimate?frames=1-10").json
    assert (unknown["frames"], unknown["basis"], unknown["wall_s"], unknown["cost_usd"]) == (10, "", None, None)
    assert unknown["text"] == "time and price are unknown until a frame is rendered"


def test_an_estimate_takes_other_settings_and_keeps_those_of_the_job(site: Site) -> None:
    job = site.a_job()
    site.a_blend(job)
    rendered_before(site, job)

    seen: Any = site.ask("GET", f"/jobs/{job}/estimate?frames=1-100&instances=10").json

    assert (seen["basis"], seen["measured"], seen["instances"]) == ("file", 10, 10)
    assert seen["wall_s"] == {"low": 400.0, "high": 400.0}
    assert seen["cost_usd"] == {"low": 4.3, "high": 4.3}
    assert seen["types"][0]["usd_per_h"] == 3.6
    assert seen["text"] == "about 7 min, about $4.30, from 10 frames of this file, rendered before"
    half: Any = site.ask("GET", f"/jobs/{job}/estimate?frames=1-100&instances=10&resolution_pct=50").json
    assert half["frame_s"]["low"] < 36
    bid: Any = site.ask("GET", f"/jobs/{job}/estimate?frames=1-100&instances=10&market=spot&max_price_usd_per_h=1.8").json
    assert bid["cost_usd"]["low"] == 2.15
    assert shown(site, job)["settings"]["instances"] == 1


@pytest.mark.parametrize(("query", "field"), [("frames=10-1", "frames"), ("instances=99999", "instances"), ("scene=None+such", "scene")])
def test_an_estimate_of_what_can_not_be_rendered_names_the_field(site: Site, query: str, field: str) -> None:
    job = site.a_job()
    site.a_blend(job)
    answer = site.ask("GET", f"/jobs/{job}/estimate?{query}")
    assert answer.status_code == 422
    assert [each["field"] for each in answer.json["errors"]] == [field]  # type: ignore[index]


def test_statistics_tell_frames_by_hour_and_dollar_and_the_month(site: Site) -> None:
    job = site.a_submitted_job()
    rendered_before(site, job)
    spend(site, job, "4.50")

    seen: Any = site.ask("GET", "/statistics").json

    (figures,) = seen["types"]
    assert (figures["instance_type"], figures["market"], figures["frames_per_h"]) == ("fake.large", "spot", 75.0)
    assert figures["frames_per_usd"] == pytest.approx(10 / 0.48)
    assert seen["month"]["cap_usd"] == 100.0
    assert [(each["job"], round(each["cost_usd"], 2)) for each in seen["month"]["jobs"]] == [(job, 4.5)]


def test_a_farm_that_renders_itself_has_no_month(tmp_path: Path) -> None:
    with a_site(tmp_path) as own:
        assert own.ask("GET", "/statistics").json == {"types": [], "month": None}
        job = own.a_submitted_job()
        assert (shown(own, job)["cost"], shown(own, job)["cap_usd"]) == (0.0, None)
        assert own.ask("POST", f"/jobs/{job}/cap", json={"max_cost_usd": 5}).status_code == 422
