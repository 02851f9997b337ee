"""Download links: no login, resumable, and clear about why one no longer works."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from itsdangerous import TimestampSigner, URLSafeTimedSerializer

from app.links import LinkExpired, LinkWrong, read_download, sign_download
from supervisor.commands import downloads
from supervisor.config import Config
from supervisor.domain.job import JobStatus
from supervisor.lifecycle.pack import pack
from supervisor.store import downloads as store

from .web_site import LINK_KEY, WebSite, a_web_site, tags


@pytest.fixture
def site(tmp_path: Path) -> Iterator[WebSite]:
    with a_web_site(tmp_path) as site:
        site.farm.downloads_folder.mkdir()
        yield site


class OldSigner(TimestampSigner):
    """Signs as if it were long ago."""

    def get_timestamp(self) -> int:
        return 1_000_000_000


class OldSerializer(URLSafeTimedSerializer):
    default_signer = OldSigner


def a_packed_job(site: WebSite) -> str:
    job = site.a_job(JobStatus.COMPLETED, received=3)
    download = downloads.begin_download(site.farm, job)
    with site.farm.db.read() as connection:
        found = store.find(connection, download)
    assert found is not None
    pack(site.farm, found)
    return job


def link_of(site: WebSite, job: str) -> str:
    shown = tags(site.get(f"/jobs/{job}/downloads").text)
    link = next(tag.attributes["href"] for tag in shown if tag.attributes.get("class") == "download-link")
    assert link.startswith("http://localhost/d/")
    return link.removeprefix("http://localhost")


def test_a_link_needs_no_login_and_gives_the_whole_zip(site: WebSite) -> None:
    link = link_of(site, a_packed_job(site))
    answer = site.signed_out().get(link, buffered=True)
    assert answer.status_code == 200
    assert answer.headers["Content-Disposition"].startswith("attachment; filename=")
    with zipfile.ZipFile(io.BytesIO(answer.data)) as archive:
        assert archive.testzip() is None
        assert sorted(archive.namelist()) == ["shot0001.png", "shot0002.png", "shot0003.png"]


def test_an_interrupted_download_goes_on_where_it_stopped(site: WebSite) -> None:
    link, visitor = link_of(site, a_packed_job(site)), site.signed_out()
    whole = visitor.get(link, buffered=True)
    rest = visitor.get(link, buffered=True, headers={"Range": "bytes=100-", "If-Range": whole.headers["ETag"]})
    assert (rest.status_code, rest.data) == (206, whole.data[100:])
    assert rest.headers["Content-Range"] == f"bytes 100-{len(whole.data) - 1}/{len(whole.data)}"


def test_a_download_that_is_another_one_meanwhile_begins_anew(site: WebSite) -> None:
    link, visitor = link_of(site, a_packed_job(site)), site.signed_out()
    answer = visitor.get(link, buffered=True, headers={"Range": "bytes=100-", "If-Range": '"of another zip"'})
    assert (answer.status_code, answer.data) == (200, visitor.get(link, buffered=True).data)


def test_a_downloader_may_ask_for_the_size_first(site: WebSite) -> None:
    link, visitor = link_of(site, a_packed_job(site)), site.signed_out()
    answer = visitor.head(link, buffered=True)
    assert (answer.status_code, answer.data) == (200, b"")
    assert int(answer.headers["Content-Length"]) == len(visitor.get(link, buffered=True).data)
    assert answer.headers["Accept-Ranges"] == "bytes"


@pytest.mark.parametrize("lost", [1, 3, 30])
def test_an_incomplete_link_says_so(site: WebSite, lost: int) -> None:
    token, _, name = link_of(site, a_packed_job(site)).removeprefix("/d/").partition("/")
    answer = site.signed_out().get(f"/d/{token[:-lost]}/{name}")
    assert answer.status_code == 404
    assert "not complete" in answer.text


def test_a_link_of_a_deleted_job_says_that_the_zip_is_gone(site: WebSite) -> None:
    job = a_packed_job(site)
    link = link_of(site, job)
    site.post(f"/jobs/{job}/delete")
    answer = site.signed_out().get(link, buffered=True)
    assert answer.status_code == 404
    assert "This zip is gone" in answer.text


def test_a_link_works_for_its_days_and_no_longer() -> None:
    token = sign_download("download_1", link_key=LINK_KEY)
    assert read_download(token, link_key=LINK_KEY, good_for=timedelta(days=7)) == "download_1"
    with pytest.raises(LinkExpired):
        read_download(token, link_key=LINK_KEY, good_for=timedelta(days=-1))


def test_an_expired_link_says_who_can_make_a_fresh_one(tmp_path: Path) -> None:
    with a_web_site(tmp_path, config=Config.model_validate({"downloads": {"link_days": 1e-9}})) as site:
        token = OldSerializer(LINK_KEY, salt="kiln.download").dumps("download_1")
        answer = site.signed_out().get(f"/d/{token}/shot.zip")
    assert answer.status_code == 410
    assert "expired" in answer.text
    assert "fresh one" in answer.text


def test_a_token_signed_for_something_else_is_no_link() -> None:
    foreign = URLSafeTimedSerializer(LINK_KEY, salt="part").dumps("download_1")
    with pytest.raises(LinkWrong):
        read_download(str(foreign), link_key=LINK_KEY, good_for=timedelta(days=1))


def test_a_zip_is_saved_by_its_own_name_whatever_the_link_was_made_to_say(site: WebSite) -> None:
    link = link_of(site, a_packed_job(site))
    for name in ("invoice.exe", "a%00b", "a%1bb.zip"):
        answer = site.signed_out().get(f"{link.rpartition('/')[0]}/{name}", buffered=True)
        assert answer.status_code == 200
        assert answer.headers["Content-Disposition"] == 'attachment; filename="Shot 040.zip"'
