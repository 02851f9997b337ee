"""Forms under a person's hands: sent once, marked where they are wrong, and come back to after signing in anew."""

from __future__ import annotations

import re

from playwright.sync_api import Page, expect

from .conftest import CHROMIUM, new_draft
from .live_farm import CHECKOUT, NAME, PASSWORD, LiveFarm

assert CHROMIUM, "Debian's Chromium; make test installs it"


def jobs(page: Page, farm: LiveFarm) -> int:
    page.goto(f"{farm.url}/jobs")
    return page.locator(".job-row").count()


def test_a_double_click_makes_one_job(page: Page, farm: LiveFarm) -> None:
    before = jobs(page, farm)
    page.dblclick("button:has-text('job')")
    page.wait_for_url("**/jobs/job_*")
    assert jobs(page, farm) == before + 1


def test_a_double_click_on_render_submits_the_job_without_a_refusal(page: Page) -> None:
    new_draft(page)
    page.set_input_files("#pick-files", CHECKOUT / "samples" / "kiln.blend")
    expect(page.locator(".check .ready")).to_be_visible()
    refusals: list[str] = []
    page.on("response", lambda answer: refusals.append(answer.url) if answer.status == 409 else None)
    page.dblclick("#job-submit")
    page.wait_for_selector("#job-cancel, .job-state .tone-good")
    assert refusals == []


def test_a_field_is_marked_while_it_is_wrong_and_no_longer(page: Page) -> None:
    new_draft(page)
    page.set_input_files("#pick-files", CHECKOUT / "samples" / "kiln.blend")
    expect(page.locator(".check .ready")).to_be_visible()
    frames = page.locator("#frames")
    frames.fill("9-1")
    page.click("#job-submit")
    expect(page.locator("#frames-error")).to_contain_text("ends before it begins")
    expect(frames).to_be_focused()

    frames.fill("9-2")
    frames.press("Tab")
    expect(page.locator("#check-frames-error")).to_contain_text("write 2-9")
    expect(frames).to_have_attribute("aria-invalid", "true")
    frames.fill("1-2")
    frames.press("Tab")
    expect(page.locator(".check .ready")).to_contain_text("2 frames")
    expect(frames).not_to_have_attribute("aria-invalid", "true")
    expect(page.locator("#frames-error")).to_have_count(0)


def test_what_has_the_focus_keeps_it_when_its_region_is_written_anew(page: Page, farm: LiveFarm) -> None:
    new_draft(page)
    page.goto(f"{farm.url}/jobs")
    link = page.locator(".job-row a").first
    link.focus()
    page.evaluate("document.getElementById('jobs-list').setAttribute('data-old', '')")
    page.evaluate("htmx.ajax('GET', '/jobs/list', { target: '#jobs-list', swap: 'outerHTML' })")
    expect(page.locator("#jobs-list:not([data-old])")).to_be_visible()
    expect(link).to_be_focused()


def test_who_is_signed_out_while_a_page_polls_comes_back_to_it(page: Page) -> None:
    draft = new_draft(page)
    page.context.clear_cookies()
    page.evaluate("htmx.trigger(document.body, 'job-changed')")
    expect(page).to_have_url(re.compile(r"/login\?next="))  # each region that polls leads there: the last one wins
    page.fill("#name", NAME)
    page.fill("#password", PASSWORD)
    page.click("button:has-text('Sign in')")
    page.wait_for_url(draft)
