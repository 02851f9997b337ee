"""A browser, and a farm for it to look at. What a page's scripts complain about fails the test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, expect, sync_playwright

from .live_farm import NAME, PASSWORD, LiveFarm, a_live_farm

CHROMIUM = "/usr/bin/chromium"
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-background-networking"]
PATIENCE_MS = 30_000

#: What Chromium writes about requests that a test makes fail, and htmx about those that a newer one took the place of.
_EXPECTED = ("Failed to load resource", "htmx:afterRequest", "htmx:sendAbort")


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    expect.set_options(timeout=PATIENCE_MS)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def farm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveFarm]:
    """A farm with a user, shared by the tests of the run: make jobs of your own."""
    with a_live_farm(tmp_path_factory.mktemp("farm")) as farm:
        farm.add_user()
        yield farm


@pytest.fixture
def fresh_farm(tmp_path: Path) -> Iterator[LiveFarm]:
    """A farm that nobody has set up yet."""
    with a_live_farm(tmp_path) as farm:
        yield farm


@pytest.fixture
def new_context(browser: Browser) -> Iterator[Callable[[], BrowserContext]]:
    """Opens browser contexts: each has cookies of its own, as another person's browser has."""
    contexts: list[BrowserContext] = []
    complaints: list[str] = []

    def hear(message: ConsoleMessage) -> None:
        if message.type == "error" and not message.text.startswith(_EXPECTED):
            complaints.append(message.text)

    def open_context() -> BrowserContext:
        context = browser.new_context(accept_downloads=True)
        context.set_default_timeout(PATIENCE_MS)
        context.on("console", hear)
        context.on("weberror", lambda error: complaints.append(str(error.error)))
        contexts.append(context)
        return context

    yield open_context
    for context in contexts:
        context.close()
    assert complaints == []


@pytest.fixture
def page(new_context: Callable[[], BrowserContext], farm: LiveFarm) -> Page:
    """A page of a browser that is signed in."""
    return signed_in(new_context(), farm)


def signed_in(context: BrowserContext, farm: LiveFarm) -> Page:
    page = context.new_page()
    page.goto(farm.url)
    page.fill("#name", NAME)
    page.fill("#password", PASSWORD)
    page.click("button:has-text('Sign in')")
    page.wait_for_url("**/jobs")
    return page


def new_draft(page: Page) -> str:
    """Make a job. Returns: the address of its page"""
    page.click("button:has-text('job')")
    page.wait_for_selector("#uploads[data-ready]", state="attached")
    return page.url
