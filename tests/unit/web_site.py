"""The farm's pages over fakes: what the tests of views have in common."""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Literal

from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from ami.ports import FarmImages
from app import create_app
from app.auth import limiter
from nodeimage.protocol import Output, log_key, output_key, preview_key
from supervisor.commands import accounts, jobs
from supervisor.config import Config
from supervisor.domain.job import JobStatus
from supervisor.domain.scene import Inspection
from supervisor.domain.settings import JobSettings
from supervisor.farm import Farm
from supervisor.queries import Problem
from supervisor.store import events, frames
from supervisor.store import jobs as job_store
from tests.fakes.account import FakeAccount
from tests.fakes.farm import FakeFarm

PASSWORD = "a long enough one"
LINK_KEY = "link key of the tests"

_S = JobStatus
#: The moves that bring a submitted job to a status.
_WAY = (_S.STAGING, _S.SNAPSHOTTING, _S.LAUNCHING, _S.RENDERING)


@dataclass(frozen=True, slots=True, kw_only=True)
class WebSite:
    """A farm with one user, ada, and a browser that is signed in as her."""

    app: Flask
    fake: FakeFarm
    browser: FlaskClient
    user: accounts.User

    @property
    def farm(self) -> Farm:
        return self.fake.farm

    def get(self, path: str, **headers: str) -> TestResponse:
        return self.browser.get(path, headers=headers, buffered=True)

    def post(self, path: str, form: dict[str, str] | None = None, *, htmx: bool = True) -> TestResponse:
        """Send a form as the page would: with the session's CSRF token."""
        token = csrf_token(self.browser.get("/account").text)
        return self.browser.post(path, data={"csrf_token": token, **(form or {})}, headers={"HX-Request": "true"} if htmx else {})

    def a_job(self, status: JobStatus, *, spec: str = "1-3", received: int = 0, failed: int = 0, rendering: int = 0) -> str:
        """A job in that status, its first frames received, the next ones failed, the next ones being rendered."""
        job = self.a_draft(name="Shot 040")
        if status is _S.DRAFT:
            return job
        jobs.submit_job(self.farm, job, JobSettings(frames=spec))
        self._move_along(job, status)
        with self.farm.db.read() as connection:
            numbers = [mark[0] for mark in frames.marks(connection, job)]
        for number in numbers[:received]:
            self.receive(job, number)
        with self.farm.db.write() as connection:
            for number in numbers[received : received + failed]:
                frames.fail(connection, job, number, node="node_1", reason="Blender ran out of memory")
            begun = numbers[received + failed : received + failed + rendering]
            frames.begin(connection, job, dict.fromkeys(begun, "node_1"), at=self.fake.clock())
        return job

    def a_draft(self, *, name: str = "", blend: str | None = "shot.blend", inspection: Inspection | None = None) -> str:
        """A draft of ada's."""
        return self.fake.a_draft(name=name, blend=blend, inspection=inspection, owner=self.user.id)

    def _move_along(self, job: str, status: JobStatus) -> None:
        way = _WAY[: _WAY.index(status) + 1] if status in _WAY else _WAY
        if status in {_S.PAUSED, _S.COMPLETED, _S.FAILED, _S.CANCELLED}:
            way = (*_WAY, _S.RELEASING, status)
        elif status is _S.RELEASING:
            way = (*_WAY, _S.RELEASING)
        for to in () if status is _S.SUBMITTED else way:
            with self.farm.db.write() as connection:
                seen = job_store.find_job(connection, job)
                assert seen is not None
                then = way[-1] if to is _S.RELEASING and way[-1] is not to else (_S.FAILED if to is _S.RELEASING else None)
                assert job_store.move(connection, seen, to, because=f"moved to {to}", at=self.fake.clock(), then=then)

    def end(self, job: str, status: JobStatus) -> None:
        """Bring a job that is being rendered to an end."""
        for to, then in ((_S.RELEASING, status), (status, None)):
            with self.farm.db.write() as connection:
                seen = job_store.find_job(connection, job)
                assert seen is not None
                assert job_store.move(connection, seen, to, because=f"moved to {to}", at=self.fake.clock(), then=then)

    def receive(self, job: str, number: int, *, name: str = "", body: bytes = b"picture") -> None:
        """Let a node have delivered a frame."""
        name = name or f"shot{number:04d}.png"
        objects = self.fake.cloud.objects
        objects.put(output_key(job, number, name), body)
        objects.put(preview_key(job, number), b"RIFFwebp")
        objects.put(log_key(job, number, 1), b"Fra:1 <b>done</b>\n")
        outputs = (Output(name=name, bytes=len(body), crc32=zlib.crc32(body)),)
        delivery = frames.Delivery(node="node_1", attempt=1, render_s=1.5, peak_memory_bytes=1, outputs=outputs, has_preview=True)
        with self.farm.db.write() as connection:
            frames.receive(connection, job, number, delivery, at=self.fake.clock())
            frames.note_log(connection, job, number, attempt=1)
            job_store.touch(connection, job)

    def begin(self, job: str, number: int) -> None:
        """Let a node have begun a frame."""
        with self.farm.db.write() as connection:
            frames.begin(connection, job, {number: "node_1"}, at=self.fake.clock())
            job_store.touch(connection, job)

    def a_problem(self, job: str, text: str, *, severity: Literal["info", "warning", "error"] = "error") -> None:
        problem = Problem(
            code="made_up",
            about=text,
            severity=severity,
            text=text,
            remedy="Do this.",
            since=self.fake.clock(),
        )
        with self.farm.db.write() as connection:
            events.put_problem(connection, job, problem)

    def signed_out(self) -> FlaskClient:
        return self.app.test_client()


@contextmanager
def a_web_site(
    folder: Path, *, config: Config | None = None, account: FakeAccount | None = None, images: FarmImages | None = None
) -> Iterator[WebSite]:
    fake = FakeFarm.open(folder, config=config, account=account)
    app = create_app(fake.farm, secret_key="secret of the tests", link_key=LINK_KEY, images=images)
    limiter.reset()
    user = accounts.add_user(fake.farm, name="ada", password=PASSWORD, role="artist")
    browser = app.test_client()
    sign_in(browser)
    yield WebSite(app=app, fake=fake, browser=browser, user=user)
    fake.farm.db.close()


def as_somebody_else(site: WebSite, name: str, role: accounts.Role) -> WebSite:
    """The same site as another user sees it, who is made for it."""
    user = accounts.add_user(site.farm, name=name, password=PASSWORD, role=role)
    browser = site.app.test_client()
    sign_in(browser, name=name)
    return replace(site, user=user, browser=browser)


def sign_in(browser: FlaskClient, *, name: str = "ada", password: str = PASSWORD, path: str = "/login") -> TestResponse:
    token = csrf_token(browser.get(path).text)
    return browser.post(path, data={"csrf_token": token, "name": name, "password": password})


def csrf_token(page: str) -> str:
    found = re.search(r'name="csrf-token" content="([^"]+)"', page)
    assert found, page
    return found[1]


def without_tokens(page: str) -> str:
    """A page without the tokens of its forms, which change with every second."""
    return re.sub(r'name="csrf_token" value="[^"]*"', "", page)


@dataclass(frozen=True, slots=True)
class Tag:
    name: str
    depth: int
    attributes: dict[str, str]


class _Tags(HTMLParser):
    _VOID = frozenset({"area", "base", "br", "col", "hr", "img", "input", "link", "meta", "source", "wbr"})

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[Tag] = []
        self._open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(Tag(tag, len(self._open), {name: value or "" for name, value in attrs}))
        if tag not in self._VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(Tag(tag, len(self._open), {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self._open, f"</{tag}> closes nothing"
        assert self._open[-1] == tag, f"</{tag}> closes <{self._open[-1]}>"
        self._open.pop()


def tags(html: str) -> list[Tag]:
    """The tags of well-formed HTML. Fails where one is closed that is not open."""
    parser = _Tags()
    parser.feed(html)
    return parser.tags


def root(html: str) -> Tag:
    """The one element that a partial is."""
    roots = [tag for tag in tags(html) if tag.depth == 0]
    assert len(roots) == 1, [tag.name for tag in roots]
    return roots[0]
