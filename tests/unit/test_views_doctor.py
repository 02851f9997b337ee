"""The doctor's page, and what every page says while the farm waits for its cloud."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from supervisor.cloud.ports import SIGNED_OUT, Check, SignedOut, Unreachable
from tests.fakes.account import FakeAccount

from .web_site import WebSite, a_web_site, as_somebody_else, root


@pytest.fixture
def artist(tmp_path: Path) -> Iterator[WebSite]:
    with a_web_site(tmp_path, account=FakeAccount()) as site:
        yield site


@pytest.fixture
def site(artist: WebSite) -> WebSite:
    """The site as an admin sees it."""
    artist.fake.tick()
    return as_somebody_else(artist, "root", "admin")


def test_the_doctor_is_for_admins(artist: WebSite, site: WebSite) -> None:
    assert 'href="/doctor"' in site.get("/jobs").text
    assert 'href="/doctor"' not in artist.get("/jobs").text
    assert artist.get("/doctor").status_code == 403
    assert artist.get("/doctor/findings").status_code == 403


def test_findings_are_shown_the_wrong_first_with_what_to_do(site: WebSite) -> None:
    site.fake.cloud.premises.checks_made = [
        Check(name="buckets", is_ok=True, text="both answer"),
        Check(
            name="spot quota",
            is_ok=False,
            is_warning=True,
            text="few vCPUs",
            remedy="ask for more: https://aws.example/quota; it takes days",
        ),
        Check(name="image", is_ok=False, text="there is <none>", remedy="run `kiln ami build`"),
    ]
    text = site.get("/doctor/findings").text
    assert root(text).attributes["id"] == "doctor-findings"
    assert text.index("Image") < text.index("Spot quota") < text.index("Server") < text.index("Buckets")
    assert "1 thing is wrong" in text
    assert "There is &lt;none&gt;" in text
    assert '<a href="https://aws.example/quota" rel="noreferrer" target="_blank">https://aws.example/quota</a>; it takes days' in text


def test_a_farm_without_a_fault_is_well(site: WebSite) -> None:
    text = site.get("/doctor/findings").text
    assert "All is well" in text
    assert "is-bad" not in text


def test_the_page_loads_at_once_and_looks_afterwards(site: WebSite) -> None:
    site.fake.cloud.premises.fail_next(AssertionError("the page itself looks at nothing"))
    page = site.get("/doctor").text
    assert 'hx-get="/doctor/findings" hx-trigger="load"' in page
    site.fake.cloud.premises.heal()
    assert "All is well" in site.get("/doctor?look=1").text


def test_a_cloud_that_fails_the_doctor_is_a_finding(site: WebSite) -> None:
    site.fake.cloud.premises.fail_next(Unreachable("can't ask AWS who the farm is: no answer"))
    text = site.get("/doctor/findings").text
    assert "ask AWS who the farm is: no answer" in text
    assert "1 thing is wrong" in text


def test_every_page_says_while_the_farm_waits_for_its_cloud_and_why(artist: WebSite, site: WebSite) -> None:
    assert "The farm waits" not in site.get("/jobs").text
    site.fake.cloud.compute.fail_next(SignedOut(SIGNED_OUT), call="instances")
    site.fake.tick()

    told = site.get("/jobs").text
    assert "The farm waits" in told
    assert "The farm is not signed in to AWS" in told
    assert 'href="/doctor">See what is wrong' in told
    seen_by_artist = artist.get("/account").text
    assert "The farm waits" in seen_by_artist
    assert "See what is wrong" not in seen_by_artist
    assert "decides nothing at present: the farm is not signed in" in site.get("/doctor/findings").text
    assert site.signed_out().get("/healthz").status_code == 200, "a restart would not sign it in"

    region = root(site.get("/farm/trouble").text)
    assert region.attributes["hx-trigger"] == "every 5s"
    site.fake.tick()
    healed = site.get("/farm/trouble").text
    assert "The farm waits" not in healed
    assert "hx-trigger" not in root(healed).attributes
