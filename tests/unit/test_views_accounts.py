"""Who gets in: signing in, the first set-up, passwords, tokens, and what nobody gets without them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from flask.testing import FlaskClient

from app import create_app
from app.auth import SETUP_CODE_FILE, limiter, setup_code
from supervisor.commands import accounts
from supervisor.config import Config
from tests.fakes.farm import FakeFarm

from .web_site import PASSWORD, WebSite, a_web_site, csrf_token, sign_in


@pytest.fixture
def site(tmp_path: Path) -> Iterator[WebSite]:
    with a_web_site(tmp_path) as site:
        yield site


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[FakeFarm]:
    """A farm without any user."""
    fake = FakeFarm.open(tmp_path)
    yield fake
    fake.farm.db.close()


def browser_of(fake: FakeFarm) -> FlaskClient:
    limiter_reset_app = create_app(fake.farm, secret_key="s", link_key="l")
    limiter.reset()
    return limiter_reset_app.test_client()


FORM = {"name": "Ada", "password": PASSWORD, "again": PASSWORD}


def set_up(browser: FlaskClient, form: dict[str, str], *, path: str = "/setup", address: str = "127.0.0.1") -> int:
    page = browser.get(path, environ_base={"REMOTE_ADDR": address})
    data = {"csrf_token": csrf_token(page.text), **form}
    return browser.post(path, data=data, environ_base={"REMOTE_ADDR": address}).status_code


def test_a_page_without_signing_in_leads_to_the_door_and_back(site: WebSite) -> None:
    visitor = site.signed_out()
    answer = visitor.get("/jobs?after=job_1")
    assert (answer.status_code, answer.location) == (303, "/login?next=/jobs?after%3Djob_1")
    assert sign_in(visitor, path=answer.location).location == "/jobs?after=job_1"


def test_a_poll_without_a_session_sends_the_whole_page_to_the_door(site: WebSite) -> None:
    answer = site.signed_out().get("/jobs/list", headers={"HX-Request": "true"})
    assert (answer.status_code, answer.headers["HX-Redirect"]) == (401, "/login")


def test_who_was_signed_out_meanwhile_comes_back_to_the_page_that_asked(site: WebSite) -> None:
    page = {"HX-Request": "true", "HX-Current-URL": "http://localhost/jobs/job_1?first=240"}
    visitor = site.signed_out()
    for answer in (visitor.get("/jobs/job_1/status", headers=page), visitor.post("/jobs/job_1/pause", headers=page)):
        assert (answer.status_code, answer.headers["HX-Redirect"]) == (401, "/login?next=/jobs/job_1?first%3D240")


@pytest.mark.parametrize("rule", ["/jobs", "/jobs/x", "/jobs/x/status", "/jobs/x/frames/1/preview", "/jobs/x/frames/1/log", "/account"])
def test_nothing_of_a_farm_shows_without_signing_in(site: WebSite, rule: str) -> None:
    assert site.signed_out().get(rule).status_code == 303


def test_a_wrong_password_is_refused_at_the_form(site: WebSite) -> None:
    answer = sign_in(site.signed_out(), password="something else")
    assert answer.status_code == 422
    assert "don&#39;t go together" in answer.text
    assert 'value="ada"' in answer.text


def test_guessing_passwords_is_slowed_down(site: WebSite) -> None:
    visitor = site.signed_out()
    statuses = [sign_in(visitor, password=f"guess number {n}").status_code for n in range(12)]
    assert statuses[:9] == [422] * 9
    assert statuses[-1] == 429


def test_guessing_from_many_addresses_of_one_ipv6_network_is_slowed_down(site: WebSite) -> None:
    visitor = site.signed_out()
    token = csrf_token(visitor.get("/login").text)
    form = {"csrf_token": token, "name": "ada", "password": "a guess"}
    asked = [visitor.post("/login", data=form, environ_base={"REMOTE_ADDR": f"2001:db8::{n:x}"}).status_code for n in range(12)]
    assert asked[-1] == 429
    assert visitor.post("/login", data=form, environ_base={"REMOTE_ADDR": "2001:db8:0:1::1"}).status_code == 422


def test_guesses_through_ipv6_from_different_ipv4_addresses_are_counted_apart(site: WebSite) -> None:
    visitor = site.signed_out()
    form = {"csrf_token": csrf_token(visitor.get("/login").text), "name": "ada", "password": "a guess"}

    def guess_from(address: str) -> int:
        return visitor.post("/login", data=form, environ_base={"REMOTE_ADDR": address}).status_code

    assert [guess_from("::ffff:192.0.2.1") for _ in range(12)][-1] == 429
    assert guess_from("192.0.2.1") == 429, "the same client, without its detour"
    assert guess_from("::ffff:192.0.2.2") == 422


def test_a_whole_studio_signs_in_from_one_address(site: WebSite) -> None:
    assert [sign_in(site.signed_out()).status_code for _ in range(12)] == [303] * 12


@pytest.mark.parametrize("elsewhere", ["//evil.example", "https://evil.example", "/\\evil.example", "evil", "/jobs\n"])
def test_signing_in_never_leads_to_another_site(site: WebSite, elsewhere: str) -> None:
    visitor = site.signed_out()
    token = csrf_token(visitor.get("/login").text)
    form = {"csrf_token": token, "name": "ada", "password": PASSWORD}
    assert visitor.post("/login", query_string={"next": elsewhere}, data=form).location == "/jobs"


def test_a_change_without_its_csrf_token_changes_nothing(site: WebSite) -> None:
    answer = site.browser.post("/jobs", headers={"HX-Request": "true"})
    assert answer.status_code == 400
    assert "out of date" in answer.text
    assert "Untitled" not in site.get("/jobs").text


def test_signing_out_ends_the_session(site: WebSite) -> None:
    assert site.post("/logout", htmx=False).location == "/login"
    assert site.get("/jobs").status_code == 303


def test_session_cookies_keep_to_themselves(tmp_path: Path) -> None:
    with a_web_site(tmp_path, config=Config.model_validate({"server": {"secure_cookies": True}})) as site:
        cookie = site.signed_out().get("/login", base_url="https://kiln.example").headers["Set-Cookie"]
    assert {"HttpOnly", "Secure", "SameSite=Lax"} <= set(cookie.split("; "))


def test_the_first_visitor_of_a_new_farm_sets_it_up(fresh: FakeFarm) -> None:
    browser = browser_of(fresh)
    assert browser.get("/jobs").location == "/setup"
    assert set_up(browser, FORM) == 303
    assert browser.get("/jobs").status_code == 200
    assert [user.role for user in accounts.users(fresh.farm)] == ["admin"]
    assert not (fresh.farm.data / SETUP_CODE_FILE).exists()


def test_a_farm_is_set_up_only_once(site: WebSite) -> None:
    visitor = site.signed_out()
    assert visitor.get("/setup").location == "/login"
    token = csrf_token(visitor.get("/login").text)
    assert visitor.post("/setup", data={"csrf_token": token, **FORM}).location == "/login"
    assert len(accounts.users(site.farm)) == 1


@pytest.mark.parametrize(
    ("form", "words"),
    [
        ({**FORM, "again": "another one, longer"}, "differ"),
        ({**FORM, "password": "short", "again": "short"}, "password-error"),
        ({**FORM, "name": ""}, "name-error"),
    ],
)
def test_a_bad_set_up_is_refused_at_its_field(fresh: FakeFarm, form: dict[str, str], words: str) -> None:
    browser = browser_of(fresh)
    answer = browser.post("/setup", data={"csrf_token": csrf_token(browser.get("/setup").text), **form})
    assert answer.status_code == 422
    assert words in answer.text
    assert not accounts.has_users(fresh.farm)


def test_another_machine_needs_the_code_that_the_server_printed(fresh: FakeFarm) -> None:
    browser, there = browser_of(fresh), {"REMOTE_ADDR": "203.0.113.9"}
    assert browser.get("/setup", environ_base=there).status_code == 403
    assert browser.get("/setup?code=guess", environ_base=there).status_code == 403
    assert set_up(browser, FORM, path=f"/setup?code={setup_code(fresh.farm.data)}", address="203.0.113.9") == 303


def test_the_code_of_the_set_up_stays_the_same_and_private(fresh: FakeFarm) -> None:
    assert setup_code(fresh.farm.data) == setup_code(fresh.farm.data)
    assert (fresh.farm.data / SETUP_CODE_FILE).stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("headers", [{"X-Forwarded-For": "203.0.113.9"}, {"Forwarded": "for=203.0.113.9"}, {"Host": "rebound.example"}])
def test_looking_local_is_not_being_local(fresh: FakeFarm, headers: dict[str, str]) -> None:
    assert browser_of(fresh).get("/setup", headers=headers).status_code == 403


def test_a_new_password_signs_other_sessions_out_but_not_this_one(site: WebSite) -> None:
    elsewhere = site.signed_out()
    sign_in(elsewhere)
    answer = site.post("/account/password", {"old": PASSWORD, "new": "another long one", "again": "another long one"})
    assert "is changed" in answer.text
    assert site.get("/jobs").status_code == 200
    assert elsewhere.get("/jobs").status_code == 303


@pytest.mark.parametrize(
    ("form", "field"),
    [
        ({"old": "wrong", "new": "another long one", "again": "another long one"}, "old"),
        ({"old": PASSWORD, "new": "short", "again": "short"}, "new"),
        ({"old": PASSWORD, "new": "another long one", "again": "a different one"}, "again"),
    ],
)
def test_a_bad_new_password_is_refused_at_its_field(site: WebSite, form: dict[str, str], field: str) -> None:
    answer = site.post("/account/password", form)
    assert answer.status_code == 422
    assert f'id="{field}-error"' in answer.text


def test_guessing_the_present_password_in_somebodys_session_is_slowed_down(site: WebSite) -> None:
    form = {"new": "another long one", "again": "another long one"}
    statuses = [site.post("/account/password", {"old": f"guess number {n}", **form}).status_code for n in range(12)]
    assert statuses[:9] == [422] * 9
    assert statuses[-1] == 429


def test_a_token_is_shown_once_and_works_until_revoked(site: WebSite) -> None:
    made = site.post("/account/tokens", {"name": "laptop"}).text
    token = made.split('id="new-token">')[1].split("<")[0]
    assert token not in site.get("/account").text
    asked = site.signed_out().get("/api/v1/jobs", headers={"Authorization": f"Bearer {token}"})
    assert asked.status_code == 200
    held = accounts.tokens(site.farm, site.user.id)[0]
    assert "laptop" in site.get("/account/tokens").text
    site.post(f"/account/tokens/{held.id}/revoke")
    assert site.signed_out().get("/api/v1/jobs", headers={"Authorization": f"Bearer {token}"}).status_code == 401


def test_a_wrong_token_is_refused_even_with_a_good_session(site: WebSite) -> None:
    assert site.get("/api/v1/jobs", Authorization="Bearer nonsense").status_code == 401


def test_the_api_takes_the_session_only_with_its_csrf_token(site: WebSite) -> None:
    assert site.browser.post("/api/v1/jobs", json={}).status_code == 400
    token = csrf_token(site.get("/account").text)
    assert site.browser.post("/api/v1/jobs", json={}, headers={"X-CSRFToken": token}).status_code == 201


def test_plain_forms_work_without_scripts(site: WebSite) -> None:
    form = {"old": PASSWORD, "new": "another long one", "again": "another long one"}
    assert "<!doctype html>" in site.post("/account/password", form, htmx=False).text
    assert "<!doctype html>" in site.post("/account/tokens", {"name": "laptop"}, htmx=False).text
