"""A job from the drop zone to the zip, with real nodes and Blender."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Callable
from pathlib import Path

from playwright.sync_api import BrowserContext, Page, expect

from .conftest import new_draft
from .live_farm import CHECKOUT

FRAMES = 24


def done(page: Page) -> int:
    return page.locator(".cells .cell[data-s=d]").count()


def submit_sample(page: Page) -> str:
    """Submit small frames on one instance, so many that a pause comes before the last one. Returns: the address of the job's page"""
    address = new_draft(page)
    page.set_input_files("#pick-files", CHECKOUT / "samples" / "kiln.blend")
    expect(page.locator("#frames")).to_have_value(re.compile(r"^\d+-\d+$"))
    page.fill("#frames", "5-1")
    page.click("#job-submit")
    expect(page.locator("#frames-error")).to_contain_text("ends before it begins")
    page.fill("#frames", f"1-{FRAMES}")
    page.click("summary:has-text('More')")
    page.fill("#resolution_pct", "25")
    page.fill("#samples", "4")
    page.click("#job-submit")
    expect(page.locator(".cells .cell")).to_have_count(FRAMES)
    return address


def test_a_job_renders_in_place_pauses_resumes_and_is_downloaded_by_somebody_else(
    page: Page, new_context: Callable[[], BrowserContext], tmp_path: Path
) -> None:
    submit_sample(page)
    page.evaluate("window.neverReloaded = true")
    expect(page.locator(".cells .cell[data-s=d]").first).to_be_visible()
    expect(page.locator("#viewer-picture")).to_have_attribute("src", re.compile("/preview"))

    page.click("#job-pause")
    expect(page.locator(".job-state .pill")).to_have_text("Paused")
    assert 0 < done(page) < FRAMES
    page.click("#job-resume")
    expect(page.locator(".job-state .pill")).to_have_text("Completed")
    expect(page.locator(".cells .cell[data-s=d]")).to_have_count(FRAMES)
    expect(page.locator("[hx-trigger*=every]")).to_have_count(0)
    assert page.evaluate("window.neverReloaded")

    look_at_a_frame(page)
    page.click("#job-pack")
    link = page.locator(".link-box").input_value()
    check_zip(new_context().new_page(), link, tmp_path / "frames.zip")


def look_at_a_frame(page: Page) -> None:
    page.click("#f3")
    panel = page.locator("#frame-drawer .panel")
    expect(panel).to_contain_text("Frame 3")
    expect(panel.locator(".log")).not_to_be_empty()
    page.keyboard.press("ArrowRight")
    expect(panel).to_contain_text("Frame 4")
    page.keyboard.press("Escape")
    expect(page.locator("#f3")).to_be_focused()
    for key, cell in (("ArrowRight", "#f4"), ("Home", "#f1"), ("End", f"#f{FRAMES}"), ("ArrowRight", f"#f{FRAMES}")):
        page.keyboard.press(key)
        expect(page.locator(cell)).to_be_focused()
    expect(page.locator(".cells .cell[tabindex='0']")).to_have_count(1)


def check_zip(visitor: Page, link: str, target: Path) -> None:
    """Download it without an account."""
    with visitor.expect_download() as started:
        visitor.evaluate("link => { location.href = link }", link)
    started.value.save_as(target)
    with zipfile.ZipFile(target) as archive:
        assert archive.testzip() is None
        numbers = [int(re.findall(r"\d+", name)[-1]) for name in archive.namelist()]
    assert sorted(numbers) == list(range(1, FRAMES + 1))
