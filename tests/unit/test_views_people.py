"""The page where an admin looks after people."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from supervisor import queries
from supervisor.commands import accounts
from supervisor.domain.job import JobStatus

from .web_site import PASSWORD, WebSite, a_web_site, as_somebody_else, root, sign_in

NEW = "quite another one"


@pytest.fixture
def site(tmp_path: Path) -> Iterator[WebSite]:
    with a_web_site(tmp_path) as site:
        yield site


@pytest.fixture
def admin(site: WebSite) -> WebSite:
    """The site as an admin sees it."""
    return as_somebody_else(site, "root", "admin")


def test_people_are_for_admins(site: WebSite, admin: WebSite) -> None:
    assert 'href="/people"' in admin.get("/jobs").text
    assert 'href="/people"' not in site.get("/jobs").text
    assert site.get("/people").status_code == 403
    for path in ("/people", f"/people/{admin.user.id}/password", f"/people/{admin.user.id}/remove"):
        assert site.post(path, {"name": "mallory", "password": NEW, "role": "admin"}).status_code == 403, path
    assert [each.name for each in accounts.users(site.farm)] == ["ada", "root"]
    assert accounts.authenticate(site.farm, name="root", password=PASSWORD)


def test_everybody_is_listed_with_their_role(admin: WebSite) -> None:
    page = admin.get("/people").text
    assert "ada" in page
    assert "Administrator" in page
    assert f"/people/{admin.user.id}/remove" not in page, "nobody removes themselves"


def test_somebody_added_can_sign_in(admin: WebSite) -> None:
    answer = admin.post("/people", {"name": "Bob", "password": NEW, "role": "artist"})
    assert root(answer.text).attributes["id"] == "people-list"
    assert "bob can sign in now" in answer.text
    assert sign_in(admin.signed_out(), name="bob", password=NEW).location == "/jobs"


@pytest.mark.parametrize(
    ("form", "field"),
    [
        ({"name": "ADA", "password": NEW, "role": "artist"}, "name"),
        ({"name": "bob", "password": "short", "role": "artist"}, "password"),
        ({"name": "bob", "password": NEW, "role": "emperor"}, "role"),
    ],
)
def test_somebody_who_can_not_be_added_is_refused_at_the_field(admin: WebSite, form: dict[str, str], field: str) -> None:
    answer = admin.post("/people", form)
    assert answer.status_code == 422
    assert f'id="{field}-error"' in answer.text
    assert len(accounts.users(admin.farm)) == 2


def test_a_new_password_replaces_the_forgotten_one_and_signs_out(site: WebSite, admin: WebSite) -> None:
    answer = admin.post(f"/people/{site.user.id}/password", {"password": NEW})
    assert "ada has a new password" in answer.text
    assert site.get("/jobs").status_code == 303
    assert sign_in(site.signed_out(), password=NEW).location == "/jobs"


def test_a_bad_new_password_is_refused_at_that_persons_field(site: WebSite, admin: WebSite) -> None:
    answer = admin.post(f"/people/{site.user.id}/password", {"password": "short"})
    assert answer.status_code == 422
    assert f'id="password-{site.user.id}-error"' in answer.text
    assert site.get("/jobs").status_code == 200


def test_ones_own_password_is_not_changed_without_the_old_one(admin: WebSite) -> None:
    assert admin.post(f"/people/{admin.user.id}/password", {"password": NEW}).status_code == 409
    assert accounts.authenticate(admin.farm, name="root", password=PASSWORD)


def test_somebody_removed_is_signed_out_and_their_jobs_stay(site: WebSite, admin: WebSite) -> None:
    job = site.a_job(JobStatus.RENDERING)
    token = accounts.create_token(site.farm, user_name="ada")
    assert "Their jobs stay" in admin.post(f"/people/{site.user.id}/remove").text
    assert site.get("/jobs").status_code == 303
    assert accounts.user_of_token(site.farm, token) is None
    assert queries.job_summary(site.farm, job).owner == ""
    assert "Nobody" not in admin.get(f"/jobs/{job}").text, "an admin gets its buttons"
    assert admin.post(f"/jobs/{job}/cancel").status_code == 200


def test_nobody_removes_themselves(admin: WebSite) -> None:
    assert admin.post(f"/people/{admin.user.id}/remove").status_code == 409
    assert admin.get("/people").status_code == 200


def test_people_can_be_looked_after_without_scripts(admin: WebSite) -> None:
    answer = admin.post("/people", {"name": "bob", "password": NEW, "role": "admin"}, htmx=False)
    assert "<!doctype html>" in answer.text
    assert [(each.name, each.role) for each in accounts.users(admin.farm)][1] == ("bob", "admin")
