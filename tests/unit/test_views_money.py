"""Money on pages: what a job costs, its cap, its scout frames, the month, statistics; and nothing of it where nothing costs anything."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from supervisor import queries
from supervisor.cloud.ports import Holding
from supervisor.commands import jobs as commands
from supervisor.domain.cost import Run
from supervisor.domain.estimate import Pace
from supervisor.domain.job import ACTIVE, JobStatus
from supervisor.domain.settings import JobSettings
from supervisor.lifecycle.books import Books
from supervisor.measuring import work_of
from supervisor.store import jobs as job_store
from supervisor.store import paces, runs
from tests.fakes.farm import renting, set_price

from .web_site import WebSite, a_web_site, as_somebody_else, root, tags

REGIONS = ("cost", "cap", "scout")
UNDRAFTED = [status for status in JobStatus if status is not JobStatus.DRAFT]


@pytest.fixture
def site(tmp_path: Path) -> Iterator[WebSite]:
    with a_web_site(tmp_path, config=renting(max_usd_per_job=20.0, max_usd_per_month=100.0)) as site:
        set_price(site.fake.cloud, "3.60")
        yield site


@pytest.fixture
def own_machine(tmp_path: Path) -> Iterator[WebSite]:
    with a_web_site(tmp_path) as site:
        yield site


def words(html: str) -> str:
    return " ".join(re.sub(r"<[^>]+>", " ", html).split())


def spend(site: WebSite, job: str, usd: str) -> None:
    """Let an instance have run for the job, up to now, that cost so much."""
    now = site.fake.clock()
    began = now - timedelta(hours=float(Decimal(usd) / Decimal("3.60")))
    with site.farm.db.write() as connection:
        runs.add_run(
            connection, job, Run(instance=f"i-{job}-{usd}", price_usd_per_h=Decimal("3.60"), began_at=began, ready_at=began, ended_at=now)
        )


def a_pace(site: WebSite, job: str, *, frame_s: float = 36.0) -> None:
    """Let the farm have rendered the like of a job's file before."""
    with site.farm.db.write() as connection:
        seen = job_store.find_job(connection, job)
        assert seen is not None
        work = work_of(connection, seen, JobSettings())
        assert work is not None
        pace = Pace(
            work=replace(work, job="job_before"),
            instance_type="fake.large",
            market="on_demand",
            instances=2,
            frames=10,
            render_s=10 * frame_s,
            paid_s=10 * frame_s + 120,
            boots=2,
            boot_s=80.0,
            usd=Decimal("0.48"),
            at=site.fake.clock(),
        )
        paces.put_paces(connection, "job_before", [pace])


def a_scouted_job(site: WebSite) -> str:
    job = site.a_job(JobStatus.PAUSED, spec="1-100", received=0)
    with site.farm.db.write() as connection:
        job_store.change_job(connection, job, scout_frames=[1, 51, 100])
    for number in (1, 51, 100):
        site.receive(job, number)
    return job


@pytest.mark.parametrize("status", UNDRAFTED)
def test_every_region_is_one_element_that_polls_while_its_job_can_change(site: WebSite, status: JobStatus) -> None:
    job = site.a_job(status, received=3 if status is JobStatus.COMPLETED else 1)
    page = site.get(f"/jobs/{job}").text
    for part in REGIONS:
        text = site.get(f"/jobs/{job}/{part}").text
        assert root(text).attributes["id"] == f"job-{job}-{part}"
        assert part == "cap" or text in page  # the form has a token of its own
        if part != "cap":
            assert ("every" in root(text).attributes.get("hx-trigger", "")) == (status in ACTIVE or status is JobStatus.PAUSED)
        seen = root(text).attributes.get("hx-get", "")
        assert not seen or site.get(seen).status_code == 204


def test_a_jobs_page_shows_what_it_costs_by_its_parts_and_of_its_cap(site: WebSite) -> None:
    job = site.a_job(JobStatus.RENDERING, received=1)
    spend(site, job, "4.50")
    site.fake.cloud.premises.held = [
        Holding(id="vol-1", job=job, kind="volume", gib=Decimal(30), usd_per_month=Decimal(720), since=site.fake.clock())
    ]
    Books(site.farm).keep()
    site.fake.clock.pass_s(1800)

    text = words(site.get(f"/jobs/{job}/cost").text)

    assert text == "Cost $5.00 of $20.00 25 % Waiting and lost attempts $4.50 Volumes $0.50"
    assert "spent $5.00" in words(site.get(f"/jobs/{job}/status").text)


def test_a_cost_that_looks_the_same_is_not_sent_again(site: WebSite) -> None:
    job = site.a_job(JobStatus.PAUSED)
    spend(site, job, "4.50")
    seen = root(site.get(f"/jobs/{job}/cost").text).attributes["hx-get"]
    assert site.get(seen).status_code == 204
    spend(site, job, "0.25")
    assert site.get(seen).status_code == 200


def test_an_owner_changes_the_cap_up_to_the_farms(site: WebSite) -> None:
    job = site.a_job(JobStatus.PAUSED)
    answer = site.post(f"/jobs/{job}/change-cap", {"max_cost_usd": "$ 12.50"})
    assert root(answer.text).attributes["id"] == f"job-{job}-cap"
    assert answer.headers["HX-Trigger-After-Settle"] == "job-changed"
    assert queries.job_detail(site.farm, job).cap_usd == Decimal("12.50")

    site.post(f"/jobs/{job}/change-cap", {"max_cost_usd": ""}, htmx=False)
    assert queries.job_detail(site.farm, job).cap_usd == Decimal("20")


@pytest.mark.parametrize(("typed", "says"), [("much", "Write dollars, such as 20"), ("-4", "more than 0"), ("50", "an administrator can")])
def test_a_cap_that_can_not_be_is_refused_beside_its_field(site: WebSite, typed: str, says: str) -> None:
    job = site.a_job(JobStatus.PAUSED)
    answer = site.post(f"/jobs/{job}/change-cap", {"max_cost_usd": typed})
    assert answer.status_code == 422
    assert says in words(answer.text)
    assert f'value="{typed}"' in answer.text
    assert " open" in answer.text


@pytest.mark.parametrize(("part", "field", "typed"), [("cap", "max_cost_usd", "much"), ("priority", "priority", "urgent")])
def test_a_refused_change_of_a_job_keeps_what_was_typed_until_somebody_else_changes_it(
    site: WebSite, part: str, field: str, typed: str
) -> None:
    job = site.a_job(JobStatus.PAUSED)
    refused = site.post(f"/jobs/{job}/change-{part}", {field: typed})
    assert refused.status_code == 422
    look = root(refused.text).attributes["hx-get"]
    assert site.get(look).status_code == 204
    site.post(f"/jobs/{job}/change-{part}", {field: "7"})
    assert 'value="7"' in site.get(look).text


def test_an_administrator_goes_beyond_the_farms_cap_and_nobody_else_changes_others_jobs(site: WebSite) -> None:
    job = site.a_job(JobStatus.PAUSED)
    as_somebody_else(site, "root", "admin").post(f"/jobs/{job}/change-cap", {"max_cost_usd": "50"})
    assert queries.job_detail(site.farm, job).cap_usd == Decimal(50)
    other = as_somebody_else(site, "eve", "artist")
    assert other.post(f"/jobs/{job}/change-cap", {"max_cost_usd": "1"}).status_code == 403
    assert "<form" not in other.get(f"/jobs/{job}/cap").text


def test_resuming_past_the_cap_is_a_toast_with_numbers(site: WebSite) -> None:
    job = site.a_job(JobStatus.PAUSED)
    spend(site, job, "20.25")
    answer = site.post(f"/jobs/{job}/resume")
    assert answer.status_code == 409
    assert "Its cost is $20.25; its cap of $20.00 is reached; raise its cap first" in words(answer.text)


def test_a_draft_shows_what_it_would_take_as_its_settings_change(site: WebSite) -> None:
    job = site.a_draft()
    assert "Time and price are unknown until a frame is rendered. Scout frames tell." in words(site.get(f"/jobs/{job}/check").text)

    a_pace(site, job)
    answer = site.post(f"/jobs/{job}/keep-settings", {"frames": "1-100", "instances": "10"})

    # 40 s of boot, ten rounds of 36 s; 10 × (40 + 30) s and 100 × 36 s at a tenth of a cent a second
    assert "About 7 min · about $4.30 An estimate, from 10 frames of this file, rendered before" in words(answer.text)


def test_a_draft_beyond_its_cap_says_that_it_will_pause(site: WebSite) -> None:
    job = site.a_draft()
    a_pace(site, job)
    answer = site.post(f"/jobs/{job}/keep-settings", {"frames": "1-100", "instances": "10", "max_cost_usd": "2"})
    assert "More than its cap of $2.00: it pauses there." in words(answer.text)


def test_the_form_keeps_cap_and_scouting(site: WebSite) -> None:
    job = site.a_draft()
    site.post(f"/jobs/{job}/submit", {"frames": "1-100", "instances": "1", "max_cost_usd": "7.5", "scout": "on"})
    settings = queries.job_detail(site.farm, job).settings
    assert (settings.max_cost_usd, settings.scout) == (Decimal("7.5"), True)


def test_a_cap_beyond_the_farms_is_refused_in_the_form(site: WebSite) -> None:
    job = site.a_draft()
    answer = site.post(f"/jobs/{job}/submit", {"frames": "1-3", "instances": "1", "max_cost_usd": "21"})
    assert answer.status_code == 422
    assert "max_cost_usd-error" in answer.text


def test_the_scout_frames_are_shown_with_what_the_rest_takes_and_one_yes(site: WebSite) -> None:
    job = a_scouted_job(site)
    a_pace(site, job)
    spend(site, job, "0.75")

    text = site.get(f"/jobs/{job}/scout").text

    assert [tag.attributes["alt"] for tag in tags(text) if tag.name == "img"] == ["Frame 1", "Frame 51", "Frame 100"]
    assert "The other 97 frames on 1 instance, after $0.75 so far: About 59 min · about $3.56" in words(text)
    assert "Render the rest" in site.get(f"/jobs/{job}/status").text
    assert site.post(f"/jobs/{job}/resume").status_code == 200
    assert queries.job_summary(site.farm, job).status is JobStatus.LAUNCHING
    assert words(site.get(f"/jobs/{job}/scout").text) == ""


def test_scouting_says_how_far_it_is(site: WebSite) -> None:
    job = site.a_job(JobStatus.RENDERING, spec="1-100", received=1)
    with site.farm.db.write() as connection:
        job_store.change_job(connection, job, scout_frames=[1, 51, 100])
    assert words(site.get(f"/jobs/{job}/scout").text).startswith("1 of 3 scout frames (1, 51, 100) is rendered.")


@pytest.mark.parametrize(
    ("spent", "says", "kind"),
    [
        ("12.34", "This month : $12.34 of $100.00", None),
        ("80.00", "$80.00 of this month's cap of $100.00 is spent.", "notice-warn"),
        ("100.00", "This month's cap of $100.00 is reached: $100.00 spent.", "notice-bad"),
    ],
)
def test_the_list_says_how_the_month_stands(site: WebSite, spent: str, says: str, kind: str | None) -> None:
    job = site.a_job(JobStatus.PAUSED)
    spend(site, job, spent)
    page = site.get("/jobs").text
    text = site.get("/jobs/month").text
    assert text in page
    assert root(text).attributes["id"] == "jobs-month"
    assert says in words(text)
    assert kind is None or kind in text
    assert site.get(root(text).attributes["hx-get"]).status_code == 204


def test_the_list_shows_what_each_job_costs(site: WebSite) -> None:
    job = site.a_job(JobStatus.PAUSED)
    spend(site, job, "4.50")
    assert "$4.50" in site.get("/jobs/list").text


def test_statistics_show_each_kind_of_instance_and_where_the_month_went(site: WebSite) -> None:
    job = site.a_job(JobStatus.COMPLETED, received=3)
    a_pace(site, job)
    spend(site, job, "4.50")
    Books(site.farm).keep()
    commands.delete_job(site.farm, job)

    page = words(site.get("/statistics").text)

    assert "fake.large On demand 10 of 1 job 36 s 75 20.8 40 s 75 % 2 $0.48" in page
    assert "This month $4.50 of $100.00" in page
    assert "Shot 040 deleted $4.50" in page


def test_a_farm_that_rented_nothing_yet_has_statistics_all_the_same(site: WebSite) -> None:
    assert "the figures come with the first frame" in site.get("/statistics").text


def test_a_farm_that_renders_itself_speaks_of_no_money(own_machine: WebSite) -> None:
    site = own_machine
    site.fake.cloud.prices.types = ()
    job = site.a_job(JobStatus.RENDERING, received=1)
    draft = site.a_draft()
    a_pace(site, draft)
    Books(site.farm).keep()
    for path in ("/jobs", f"/jobs/{job}", f"/jobs/{draft}", "/statistics"):
        text = words(site.get(path).text)
        assert not re.search(r"\$|cost|spent|price|\bcap\b|month", text, re.IGNORECASE), (path, re.findall(r".{30}\$.{10}", text))
    assert words(site.get("/jobs/month").text) == ""
    assert "About 3 min An estimate" in words(site.get(f"/jobs/{draft}/check").text)
