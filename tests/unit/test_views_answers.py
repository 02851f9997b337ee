"""What every answer has: headers, errors for people, static files that may be kept, and the health check."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from flask import Flask, request

from app import create_app, filters
from app.security import content_policy, store_origins
from supervisor.cloud.ports import SignedOut, Unreachable
from supervisor.config import Config
from supervisor.domain.job import JobStatus
from tests.fakes.account import FakeAccount
from tests.fakes.farm import FakeFarm

from .web_site import WebSite, a_web_site, csrf_token, root, tags


@pytest.fixture
def site(tmp_path: Path) -> Iterator[WebSite]:
    with a_web_site(tmp_path) as site:
        yield site


@pytest.mark.parametrize("path", ["/jobs", "/login", "/healthz", "/nowhere", "/d/x/y.zip", "/api/v1/openapi.json"])
def test_every_answer_tells_the_browser_what_to_refuse(site: WebSite, path: str) -> None:
    headers = site.get(path).headers
    policy = headers["Content-Security-Policy"]
    assert "script-src 'self';" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "same-origin"


def test_uploads_may_go_to_the_store_and_nowhere_else(tmp_path: Path) -> None:
    fake = FakeFarm.open(tmp_path, config=Config.model_validate({"store": {"public_endpoint": "https://s3.eu-central-1.amazonaws.com/"}}))
    assert {"https://s3.eu-central-1.amazonaws.com", "https://kiln.s3.eu-central-1.amazonaws.com"} <= set(store_origins(fake.farm))
    assert "connect-src 'self' https://a;" in content_policy(["https://a"])
    fake.farm.db.close()


def test_uploads_to_amazon_go_where_their_addresses_are_signed_for(tmp_path: Path) -> None:
    fake = FakeFarm.open(tmp_path, account=FakeAccount())
    farm = replace(fake.farm, cloud=replace(fake.farm.cloud, internal_endpoint=""))
    browser = create_app(farm, secret_key="s", link_key="l").test_client()
    fake.cloud.uploads.fail_next(SignedOut("nobody is signed in"))
    assert "connect-src 'self';" in browser.get("/login").headers["Content-Security-Policy"]
    assert "connect-src 'self' https://kiln.store.invalid;" in browser.get("/login").headers["Content-Security-Policy"]
    fake.farm.db.close()


def test_a_failure_shows_a_number_that_the_log_explains(site: WebSite, caplog: pytest.LogCaptureFixture) -> None:
    site.farm.db.close()
    broken = create_app(site.farm, secret_key="s", link_key="l")
    add_failing_view(broken)
    with caplog.at_level(logging.ERROR, logger="app.errors"):
        answer = broken.test_client().get("/d/broken/it.zip", headers={"X-Break": "yes"})
    assert answer.status_code == 500
    record = next(record for record in caplog.records if record.name == "app.errors")
    assert record.failure in answer.text  # type: ignore[attr-defined]
    assert record.exc_info is not None
    assert "a secret detail" not in answer.text


def add_failing_view(app: Flask) -> None:
    def fail(**_: str) -> str:
        raise RuntimeError("a secret detail")

    app.view_functions["downloads.file"] = fail


def test_a_failure_of_a_poll_is_a_toast(site: WebSite) -> None:
    add_failing_view(site.app)
    answer = site.get("/d/x/y.zip", **{"HX-Request": "true"})
    assert (answer.status_code, root(answer.text).attributes["role"]) == (500, "alert")
    assert answer.headers["HX-Retarget"] == "#toasts"


def test_a_store_that_does_not_answer_is_no_failure_of_ours(site: WebSite) -> None:
    job = site.a_job(JobStatus.RENDERING, received=1)
    site.fake.cloud.objects.fail_next(Unreachable("no answer"))
    answer = site.get(f"/jobs/{job}/frames/1/preview", **{"HX-Request": "true"})
    assert answer.status_code == 503
    assert "Try again" in answer.text


class Flood(io.RawIOBase):
    """A body that never ends, as a form with a file in it."""

    def __init__(self) -> None:
        self.sent_bytes = 0

    def read(self, size: int = -1) -> bytes:
        head = b'--B\r\nContent-Disposition: form-data; name="f"; filename="x"\r\n\r\n' if not self.sent_bytes else b""
        self.sent_bytes += 1 << 16
        assert self.sent_bytes < 64 << 20, "the app reads on and on"
        return head + bytes((1 << 16) - len(head))


def flooding(flood: Flood) -> dict[str, object]:
    """What a request that sends it says of itself."""
    return {"wsgi.input": flood, "CONTENT_LENGTH": str(1 << 40), "CONTENT_TYPE": "multipart/form-data; boundary=B"}


@pytest.mark.parametrize("path", ["/login", "/setup"])
def test_a_stranger_can_not_fill_the_disk_with_a_form(site: WebSite, path: str) -> None:
    answer = site.signed_out().post(path, environ_overrides=flooding(Flood()))
    assert answer.status_code == 413
    assert "too large" in answer.text


def test_where_one_signs_in_first_a_strangers_form_is_not_even_read(site: WebSite) -> None:
    flood = Flood()
    assert site.signed_out().post("/jobs", environ_overrides=flooding(flood)).status_code == 303
    assert flood.sent_bytes == 0
    assert site.browser.post("/jobs", environ_overrides=flooding(flood)).status_code == 413


def test_a_file_may_be_larger_than_any_form(site: WebSite) -> None:
    job, body = site.a_draft(blend=None), bytes(3 << 20)
    token = csrf_token(site.get("/account").text)
    whole = site.browser.put(f"/api/v1/jobs/{job}/files/a.bin", data=body, headers={"X-CSRFToken": token})
    assert (whole.status_code, (whole.json or {}).get("bytes")) == (200, len(body))
    plan = site.browser.post(
        f"/api/v1/jobs/{job}/files?through=app", json={"path": "b.bin", "bytes": len(body)}, headers={"X-CSRFToken": token}
    )
    (part,) = (plan.json or {})["parts"]
    assert site.signed_out().put(part["url"], data=body).status_code == 200


def test_a_wrong_method_is_an_error_and_not_a_failure(site: WebSite) -> None:
    answer = site.get("/logout")
    assert answer.status_code == 405
    assert "POST" in answer.headers["Allow"]


def test_an_unknown_api_address_is_a_problem_document(site: WebSite) -> None:
    answer = site.get("/api/v1/nothing")
    assert (answer.status_code, answer.mimetype) == (404, "application/problem+json")


def test_static_files_may_be_kept_for_ever_under_their_digest(site: WebSite) -> None:
    page = tags(site.get("/jobs").text)
    files = [tag.attributes.get("src") or tag.attributes["href"] for tag in page if "/static/" in str(tag.attributes)]
    assert len(files) >= 6
    for file in files:
        assert "?v=" in file
        answer = site.get(file)
        assert answer.status_code == 200
        assert "max-age=31536000" in answer.headers["Cache-Control"]


def test_every_page_names_scripts_that_are_there(site: WebSite) -> None:
    job = site.a_draft()
    scripts = [tag.attributes["src"] for tag in tags(site.get(f"/jobs/{job}").text) if tag.name == "script"]
    assert any("uppy" in script for script in scripts)
    assert all(site.get(script).status_code == 200 for script in scripts)


def test_health_is_told_to_anybody(site: WebSite) -> None:
    answer = site.signed_out().get("/healthz")
    assert answer.json is not None
    assert set(answer.json) == {"status", "version", "provider", "last_tick_s"}
    assert (answer.status_code == 200) == (answer.json["status"] == "ok")


def test_the_proxy_in_front_is_believed_only_where_configured(tmp_path: Path) -> None:
    asked = {"X-Forwarded-Proto": "https", "X-Forwarded-Host": "kiln.example"}
    for proxies, base in ((0, "http://localhost/"), (1, "https://kiln.example/")):
        folder = tmp_path / str(proxies)
        folder.mkdir()
        with a_web_site(folder, config=Config.model_validate({"server": {"trusted_proxies": proxies}})) as site:
            assert seen_address(site.app, asked) == base


def seen_address(app: Flask, headers: dict[str, str]) -> str:
    app.view_functions["health.healthz"] = lambda: request.url_root
    return app.test_client().get("/healthz", headers=headers).text


@pytest.mark.parametrize(
    ("written", "read"),
    [
        (filters.size(0), "0 B"),
        (filters.size(1_500), "1.5 KB"),
        (filters.size(812_000_000), "812 MB"),
        (filters.duration(None), "–"),
        (filters.duration(9.26), "9.3 s"),
        (filters.duration(59.6), "1 min"),
        (filters.duration(3725), "1 h 2 min"),
        (filters.duration(90000), "1 d 1 h"),
        (filters.rough(20), "less than a minute"),
        (filters.rough(1260), "about 21 min"),
        (filters.rough(41000), "about 11.5 h"),
        (filters.rough(None), ""),
        (filters.percent(999, 1000), "99"),
        (filters.percent(0, 0), "0"),
        (filters.plural(1, "frame"), "1 frame"),
        (filters.plural(12345, "frame"), "12\u202f345 frames"),
        (filters.fps(23.976), "23.976"),
        (filters.fps(24.0), "24"),
        (filters.spec([1, 2, 3, 5]), "1-3x1,5"),
        (filters.engine("BLENDER_EEVEE_NEXT"), "EEVEE"),
        (filters.ago(None), "never"),
        (filters.ago(datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 1, 0, 5, tzinfo=UTC)), "5 min ago"),
        (filters.iso(datetime(2026, 1, 1, tzinfo=UTC)), "2026-01-01T00:00:00Z"),
    ],
)
def test_numbers_are_written_as_people_read_them(written: object, read: str) -> None:
    assert str(written) == read


@pytest.mark.parametrize(
    ("reason", "word", "read"),
    [
        ("paused by a person", "Paused", "by a person"),
        ("Rendering: frame 3", "Rendering", "frame 3"),
        ("pausing: instances finish", "Paused", "pausing: instances finish"),
        ("failedness is no word", "Failed", "failedness is no word"),
        ("paused", "Paused", "paused"),
    ],
)
def test_a_reason_does_not_repeat_the_word_that_stands_beside_it(reason: str, word: str, read: str) -> None:
    assert filters.beyond(reason, word) == read


def test_a_command_in_a_text_looks_like_one(site: WebSite) -> None:
    with site.app.test_request_context():
        assert filters.linked("run `kiln <x>`; then look") == "run <code>kiln &lt;x&gt;</code>; then look"


def test_a_job_that_renders_with_no_instance_says_that_one_is_awaited(site: WebSite) -> None:
    job = site.a_job(JobStatus.RENDERING)
    assert "None at present" in site.get(f"/jobs/{job}/instances").text


@pytest.mark.parametrize(
    ("status", "received", "title"),
    [
        (JobStatus.RENDERING, 1, "33 % · Shot 040 · Kiln"),
        (JobStatus.COMPLETED, 3, "✓ Shot 040 · Kiln"),
        (JobStatus.FAILED, 2, "✕ Shot 040 · Kiln"),
    ],
)
def test_the_tab_of_a_job_says_how_far_it_is(site: WebSite, status: JobStatus, received: int, title: str) -> None:
    page = site.get(f"/jobs/{site.a_job(status, received=received)}").text
    assert f"<title>{title}</title>" in page
    assert f'data-title="{title}"' in page


def test_a_job_that_ended_without_a_frame_promises_none(site: WebSite) -> None:
    page = site.get(f"/jobs/{site.a_job(JobStatus.FAILED)}").text
    assert "there is nothing to download" in page
    assert "as soon as a frame" not in page.lower()
