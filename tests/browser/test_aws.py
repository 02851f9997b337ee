"""The first minutes of a farm on AWS, in a browser: sign in to the account, set it up, upload to S3 itself, ask for a job."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext, Page, expect

from tests.aws.moto_server import Moto
from tests.aws.signed_out import signed_out
from tests.unit.api_site import SAMPLE

from .conftest import CHROMIUM, new_draft, signed_in
from .live_farm import LiveFarm, a_live_farm

assert CHROMIUM, "Debian's Chromium; make test installs it"


@pytest.fixture
def aws_farm(tmp_path: Path, moto: Moto) -> Iterator[LiveFarm]:
    """A farm on AWS that nobody has signed in to it yet."""
    environment = {**signed_out(moto.environment), "KILN_CLOUD__PROVIDER": "aws", "KILN_AWS__FARM": "studio"}
    with a_live_farm(tmp_path, environment=environment) as farm:
        farm.add_user(role="admin")
        yield farm


def test_an_administrator_signs_the_farm_in_sets_it_up_and_uploads_to_s3_itself(
    aws_farm: LiveFarm, new_context: Callable[[], BrowserContext], moto: Moto
) -> None:
    page = signed_in(new_context(), aws_farm)
    expect(page.locator("#farm-trouble")).to_contain_text("not signed in to AWS")
    page.click("text=AWS account")
    _sign_in_to_aws(page)
    page.click("button:has-text('Set it up')")
    expect(page.locator("#aws-plan")).to_contain_text("Everything is there")
    assert page.locator("#aws-plan .is-good").count() == 7

    page.click(".top-nav >> text=Doctor")
    expect(page.locator("#doctor-findings h2")).to_have_text("2 things are wrong")
    expect(page.locator("#doctor-findings")).to_contain_text("quotas/L-1216C47A")

    page.goto(aws_farm.url)
    draft = new_draft(page)
    sent: list[str] = []
    page.on("request", lambda request: sent.append(request.url) if request.method == "PUT" else None)
    page.set_input_files("#pick-files", [str(SAMPLE)])
    expect(page.locator("#uploads-text")).to_contain_text("1 file")
    page.wait_for_selector("text=Saved by")
    assert sent
    assert all(url.startswith(f"{moto.url}/kiln-studio-projects/projects/") for url in sent)

    expect(page.locator("#max_price_usd_per_h")).to_be_hidden()
    page.check("input[name=market][value=spot]")
    expect(page.locator("#max_price_usd_per_h")).to_be_visible()
    page.click("button:has-text('Render')")
    expect(page.locator("[role=alert]")).to_contain_text("none of the job's instance types can start as spot", ignore_case=True)
    assert page.url == draft


def _sign_in_to_aws(page: Page) -> None:
    page.fill("#access_key", "AKIAEXAMPLE")
    page.fill("#secret_key", "a secret")
    page.click("button:has-text('Use these keys')")
    expect(page.locator("#aws-credentials")).to_contain_text("123456789012")
    expect(page.locator("#aws-plan")).to_contain_text("will be made")
