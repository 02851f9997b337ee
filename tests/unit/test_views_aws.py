"""The page of the farm's AWS account: who it is there, what it needs there, and that only admins get at it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from supervisor.cloud.ports import Refused, Unreachable
from supervisor.config import Config
from tests.fakes.account import KEYS, FakeAccount
from tests.waiting import wait_until

from .web_site import WebSite, a_web_site, as_somebody_else, root

TYPED = {"access_key": KEYS[0], "secret_key": KEYS[1]}
ORIGIN = "http://localhost"


@pytest.fixture
def account() -> FakeAccount:
    return FakeAccount()


@pytest.fixture
def artist(tmp_path: Path, account: FakeAccount) -> Iterator[WebSite]:
    with a_web_site(tmp_path, account=account, config=Config.model_validate({"cloud": {"provider": "aws"}})) as site:
        yield site


@pytest.fixture
def site(artist: WebSite) -> WebSite:
    """The site as an admin sees it."""
    return as_somebody_else(artist, "root", "admin")


def plan_when(site: WebSite, said: str) -> str:
    """The plan's region, once it says so."""

    def shown() -> str:
        text = site.get("/aws/plan").text
        return text if said in text else ""

    return wait_until(shown, what=said)


def test_the_account_is_for_admins(artist: WebSite, site: WebSite) -> None:
    assert 'href="/aws"' in site.get("/jobs").text
    assert 'href="/aws"' not in artist.get("/jobs").text
    for path in ("/aws", "/aws/credentials", "/aws/plan"):
        assert artist.get(path).status_code == 403, path
    for path in ("/aws/keys", "/aws/keys/forget", "/aws/set-up"):
        assert artist.post(path, TYPED).status_code == 403, path


def test_a_farm_that_rents_nothing_has_no_account_page(tmp_path: Path) -> None:
    with a_web_site(tmp_path) as site:
        admin = as_somebody_else(site, "root", "admin")
        assert 'href="/aws"' not in admin.get("/jobs").text
        answer = admin.get("/aws")
        assert answer.status_code == 404
        assert "renders on its own machine" in answer.text


def test_a_farm_without_credentials_says_how_to_give_some(site: WebSite) -> None:
    text = site.get("/aws/credentials").text
    assert "not signed in to AWS yet" in text
    assert "AWS_ACCESS_KEY_ID" in text
    assert root(text).attributes["id"] == "aws-credentials"
    assert "signs in first" in site.get("/aws/plan").text


def test_the_page_loads_before_aws_answers_and_asks_it_afterwards(site: WebSite, account: FakeAccount) -> None:
    account.fail_next(AssertionError("the page itself asks nobody"), times=2)
    page = site.get("/aws").text
    assert 'hx-get="/aws/credentials" hx-trigger="load"' in page
    assert re.search(r'hx-get="/aws/plan\?seen=[^"]+" hx-trigger="load"', page)
    assert "ec2:DescribeInstances" in page, "the policy needs no answer of anybody's"


def test_a_browser_without_scripts_gets_everything_in_one_page(site: WebSite, account: FakeAccount) -> None:
    account.has_role = True
    page = site.get("/aws?look=1").text
    assert "123456789012" in page
    assert "the role of the EC2 instance" in page
    assert page.count("will be made") == 3
    assert 'action="/aws/set-up"' in page


def test_keys_that_aws_knows_are_used_from_then_on_and_never_shown(site: WebSite, account: FakeAccount) -> None:
    answer = site.post("/aws/keys", {name: f" {value}\n" for name, value in TYPED.items()})
    assert answer.status_code == 200
    assert "signs in with these keys" in answer.text
    assert answer.headers["HX-Trigger-After-Settle"] == "aws-changed"
    assert account.keys == KEYS
    assert site.fake.woken.is_set()
    for path in ("/aws?look=1", "/aws/credentials"):
        assert KEYS[1] not in site.get(path).text
        assert KEYS[0] not in site.get(path).text


@pytest.mark.parametrize(
    ("form", "field"),
    [
        ({"access_key": "AKIAOTHER", "secret_key": "wrong"}, "secret_key"),
        ({"access_key": "", "secret_key": KEYS[1]}, "access_key"),
        ({"access_key": KEYS[0], "secret_key": ""}, "secret_key"),
    ],
)
def test_keys_that_are_wrong_are_refused_beside_their_field(site: WebSite, account: FakeAccount, form: dict[str, str], field: str) -> None:
    answer = site.post("/aws/keys", form)
    assert answer.status_code == 422
    assert f'id="{field}-error"' in answer.text
    assert "wrong" not in re.sub(r"<[^>]*>", "", answer.text.replace("token is invalid", "")), "the secret is not shown again"
    assert account.keys is None


def test_keys_can_be_forgotten(site: WebSite, account: FakeAccount) -> None:
    account.keys = KEYS
    assert "/aws/keys/forget" in site.get("/aws/credentials").text
    answer = site.post("/aws/keys/forget")
    assert "are forgotten" in answer.text
    assert account.keys is None


def test_credentials_of_the_machine_are_named_and_can_not_be_forgotten_here(site: WebSite, account: FakeAccount) -> None:
    account.has_role = True
    text = site.get("/aws/credentials").text
    assert "the role of the EC2 instance" in text
    assert "/aws/keys/forget" not in text


def test_credentials_that_aws_refuses_are_shown_as_it_says(site: WebSite, account: FakeAccount) -> None:
    account.fail_next(Refused("can't ask AWS who the farm is: the security token has expired"), times=3)
    assert "security token has expired" in site.get("/aws/credentials").text


def test_a_profile_that_is_configured_leaves_nothing_to_type(tmp_path: Path, account: FakeAccount) -> None:
    account.has_role = True
    config = Config.model_validate({"cloud": {"provider": "aws"}, "aws": {"profile": "studio"}})
    with a_web_site(tmp_path, account=account, config=config) as site:
        text = as_somebody_else(site, "root", "admin").get("/aws/credentials").text
    assert "“studio”" in text
    assert "<form" not in text


def test_setting_up_is_watched_step_by_step_to_its_end(site: WebSite, account: FakeAccount) -> None:
    account.has_role = True
    account.goes_on.clear()
    answer = site.post("/aws/set-up")
    assert root(answer.text).attributes["hx-trigger"] == "every 1s"
    text = plan_when(site, "1 thing is done")
    assert "Bucket projects" in text
    site.post("/aws/set-up")  # a second click begins nothing
    account.goes_on.set()
    done = plan_when(site, "Everything is there")
    assert "every 1s" not in done
    assert "kiln ami build" in done
    assert account.made == ["bucket projects", "role", "launch template"]
    assert set(account.origins) == {ORIGIN}


def test_what_has_not_changed_is_not_sent_again(site: WebSite, account: FakeAccount) -> None:
    account.has_role = True
    version = root(site.get("/aws/plan").text).attributes["data-version"]
    assert site.get(f"/aws/plan?seen={version}").status_code == 204


def test_setting_up_that_fails_says_why_and_can_be_repeated(site: WebSite, account: FakeAccount) -> None:
    account.has_role = True
    account.fail_next(Refused("can't make role kiln-1: not allowed (AccessDenied)"), call="set_up")
    site.post("/aws/set-up")
    text = plan_when(site, "ended early")
    assert "AccessDenied" in text
    assert text.count("will be made") == 3
    site.post("/aws/set-up")
    assert "ended early" not in plan_when(site, "Everything is there")


def test_a_thing_that_needs_a_person_is_marked(site: WebSite, account: FakeAccount) -> None:
    account.has_role = True
    account.blocked = "role"
    site.post("/aws/set-up")
    text = plan_when(site, "needs you")
    assert account.made == ["bucket projects"]
    assert 'action="/aws/set-up"' in text


def test_an_account_that_does_not_answer_is_said_so(site: WebSite, account: FakeAccount) -> None:
    account.has_role = True
    account.fail_next(Unreachable("can't look at bucket kiln-1: no answer"), times=2, call="plan")
    assert "look at bucket kiln-1: no answer" in site.get("/aws/plan").text


def test_a_plain_form_leads_back_to_the_page(site: WebSite, account: FakeAccount) -> None:
    assert site.post("/aws/set-up", htmx=False).location == "/aws?look=1"
    answer = site.post("/aws/keys", TYPED, htmx=False)
    assert answer.status_code == 200
    assert "<h1>AWS</h1>" in answer.text
    refused = site.post("/aws/keys", {"access_key": "AKIAOTHER", "secret_key": "x"}, htmx=False)
    assert refused.status_code == 422
    assert "<h1>AWS</h1>" in refused.text
