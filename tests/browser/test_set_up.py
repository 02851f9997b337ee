"""The first minutes of a farm: the set-up of the admin account, and the door afterwards."""

from __future__ import annotations

from collections.abc import Callable

from playwright.sync_api import BrowserContext, expect

from .conftest import CHROMIUM
from .live_farm import LiveFarm

assert CHROMIUM, "Debian's Chromium; make test installs it"


def test_the_first_visitor_makes_the_admin_account_and_sees_an_empty_farm(
    fresh_farm: LiveFarm, new_context: Callable[[], BrowserContext]
) -> None:
    page = new_context().new_page()
    page.goto(fresh_farm.url)
    expect(page).to_have_url(f"{fresh_farm.url}/setup")
    page.fill("#name", "Grace")
    page.fill("#password", "a long enough one")
    page.fill("#again", "a long enough two")
    page.click("button:has-text('Make the account')")
    expect(page.locator("#again-error")).to_contain_text("differ")
    page.fill("#password", "a long enough one")
    page.fill("#again", "a long enough one")
    page.click("button:has-text('Make the account')")
    expect(page.locator("h2")).to_have_text("The kiln is cold")

    visitor = new_context().new_page()
    visitor.goto(f"{fresh_farm.url}/setup")
    expect(visitor).to_have_url(f"{fresh_farm.url}/login")


def test_the_theme_that_a_person_chooses_is_remembered(farm: LiveFarm, new_context: Callable[[], BrowserContext]) -> None:
    page = new_context().new_page()
    page.emulate_media(color_scheme="light")
    page.goto(f"{farm.url}/login")
    light = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.click("#theme-toggle")
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert dark != light
    page.reload()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == dark
