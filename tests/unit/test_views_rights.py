"""Who may do what: nothing without signing in, one's own jobs as an artist, every job as an admin. Every route is asked."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from supervisor import queries
from supervisor.commands import accounts
from supervisor.domain.job import JobStatus

from .web_site import WebSite, a_web_site, as_somebody_else, csrf_token

#: What anybody may ask for: the door, the health, and what a signed address stands in for.
PUBLIC = {
    "static",
    "accounts.login",
    "accounts.setup",
    "health.healthz",
    "downloads.file",
    "api.show_openapi",
    "api.put_part",
}
#: What is no GET and still everybody's for every job: a zip leaves it as it is.
ZIPS = {"jobs.pack", "api.begin_download"}
#: A GET that gives addresses to write to.
GIVES_ADDRESSES = "api.resume_file"


@pytest.fixture
def site(tmp_path: Path) -> Iterator[WebSite]:
    with a_web_site(tmp_path) as site:
        yield site


@pytest.fixture
def eve(site: WebSite) -> WebSite:
    """The site as another artist sees it."""
    return as_somebody_else(site, "eve", "artist")


@pytest.fixture
def root(site: WebSite) -> WebSite:
    """The site as an admin sees it."""
    return as_somebody_else(site, "root", "admin")


def calls(site: WebSite, job: str) -> Iterator[tuple[str, str, str]]:
    """Every method of every route, about that job. Returns: endpoint, method, address"""
    for rule in site.app.url_map.iter_rules():
        values = {name: "1" if name in {"number", "part"} else job for name in rule.arguments}
        for method in sorted((rule.methods or set()) - {"HEAD", "OPTIONS"}):
            with site.app.test_request_context():
                built = rule.build({name: int(value) if name in {"number", "part"} else value for name, value in values.items()})
            assert built, rule
            yield rule.endpoint, method, built[1]


def ask(browser: FlaskClient, method: str, address: str, token: str) -> TestResponse:
    return browser.open(address, method=method, headers={"X-CSRFToken": token}, buffered=True)


def test_every_route_but_the_public_ones_refuses_whoever_is_not_signed_in(site: WebSite) -> None:
    job, visitor = site.a_job(JobStatus.RENDERING), site.signed_out()
    token = csrf_token(visitor.get("/login").text)
    asked = set()
    for endpoint, method, address in calls(site, job):
        if endpoint in PUBLIC:
            continue
        answer = ask(visitor, method, address, token)
        refused = answer.status_code == 401 if endpoint.startswith("api.") else (answer.location or "").startswith("/login")
        assert refused, f"{method} {address}: {answer.status_code}"
        asked.add(endpoint)
    assert asked | PUBLIC == {rule.endpoint for rule in site.app.url_map.iter_rules()}
    assert site.fake.status(job) is JobStatus.RENDERING


def test_every_change_of_anothers_job_is_refused_with_its_owners_name(site: WebSite, eve: WebSite) -> None:
    job = site.a_job(JobStatus.RENDERING)
    token = csrf_token(eve.get("/account").text)
    before = queries.job_summary(site.farm, job)
    refused = set()
    for endpoint, method, address in calls(site, job):
        if f"/{job}" not in address or endpoint in PUBLIC or (method == "GET" and endpoint != GIVES_ADDRESSES):
            continue
        if endpoint in ZIPS or endpoint.startswith(("accounts.", "images.", "people.")):
            continue
        answer = ask(eve.browser, method, address, token)
        assert answer.status_code == 403, f"{method} {address}: {answer.status_code}"
        assert "ada" in answer.text, address
        assert not endpoint.startswith("api.") or answer.mimetype == "application/problem+json"
        refused.add(endpoint)
    assert {"jobs.pause", "jobs.delete", "jobs.submit", "jobs.remove_file", "api.cancel_job", "api.put_file", GIVES_ADDRESSES} <= refused
    assert queries.job_summary(site.farm, job) == before


def test_every_job_can_be_seen_by_every_artist(site: WebSite, eve: WebSite) -> None:
    job = site.a_job(JobStatus.RENDERING, received=1)
    for endpoint, method, address in calls(site, job):
        if f"/{job}" in address and method == "GET" and endpoint != GIVES_ADDRESSES and not endpoint.startswith("images."):
            assert eve.get(address).status_code in {200, 404}, address
    assert eve.post(f"/jobs/{job}/pack").status_code == 200


def test_a_refusal_is_a_toast_that_names_the_owner(site: WebSite, eve: WebSite) -> None:
    job = site.a_job(JobStatus.RENDERING)
    answer = eve.post(f"/jobs/{job}/pause")
    assert (answer.status_code, answer.headers["HX-Retarget"]) == (403, "#toasts")
    assert "Only ada or an admin" in answer.text.replace("only", "Only")


def test_an_admin_may_change_every_job(site: WebSite, root: WebSite) -> None:
    job = site.a_job(JobStatus.RENDERING)
    assert 'id="job-pause"' in root.get(f"/jobs/{job}").text
    assert root.post(f"/jobs/{job}/pause").status_code == 200
    assert site.fake.status(job) is JobStatus.RELEASING


def test_a_job_without_an_owner_is_for_admins(site: WebSite, root: WebSite) -> None:
    job = site.fake.a_draft(name="From the inbox")
    refused = site.post(f"/jobs/{job}/delete")
    assert (refused.status_code, "has no owner" in refused.text) == (403, True)
    assert root.post(f"/jobs/{job}/delete").status_code == 200


def test_buttons_show_only_to_those_who_may_press_them(site: WebSite, eve: WebSite) -> None:
    job = site.a_job(JobStatus.RENDERING)
    buttons = ('id="job-pause"', 'id="job-cancel"')
    assert all(button in site.get(f"/jobs/{job}").text for button in buttons)
    page = eve.get(f"/jobs/{job}").text
    assert not any(button in page for button in buttons)
    assert "ada&#39;s job" in page


def test_a_draft_of_another_is_shown_without_its_forms(site: WebSite, eve: WebSite) -> None:
    draft = site.a_draft(name="Later")
    page = eve.get(f"/jobs/{draft}").text
    assert "shot.blend" in page
    assert "ada has not submitted this job yet" in page
    for control in ('id="drop"', 'id="settings"', 'id="job-submit"', 'id="job-name"', "dropzone.js", "/remove"):
        assert control not in page, control
        assert control in site.get(f"/jobs/{draft}").text, control


def test_the_api_offers_only_what_whoever_asks_may_do(site: WebSite, eve: WebSite) -> None:
    job = site.a_job(JobStatus.RENDERING)
    assert (site.get(f"/api/v1/jobs/{job}").json or {})["actions"] == ["pause", "cancel", "render_again"]
    assert (eve.get(f"/api/v1/jobs/{job}").json or {})["actions"] == []


def test_an_artist_changes_their_own_job_in_both_faces(eve: WebSite) -> None:
    job = eve.a_job(JobStatus.RENDERING)
    token = accounts.create_token(eve.farm, user_name="eve")
    asked = eve.signed_out().post(f"/api/v1/jobs/{job}/pause", headers={"Authorization": f"Bearer {token}"})
    assert asked.status_code == 202
    assert eve.post(f"/jobs/{job}/cancel").status_code == 200


def test_tokens_of_others_can_not_be_revoked_even_by_an_admin(site: WebSite, root: WebSite) -> None:
    accounts.create_token(site.farm, user_name="ada", name="studio machine")
    held = accounts.tokens(site.farm, site.user.id)[0]
    assert "studio machine" not in root.get("/account").text
    assert root.post(f"/account/tokens/{held.id}/revoke").status_code == 404
    assert accounts.tokens(site.farm, site.user.id) == [held]
