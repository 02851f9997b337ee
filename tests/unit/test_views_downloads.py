"""Download links: no login, resumable, cut where a zip would be wrong, and clear about why one no longer works."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from itsdangerous import TimestampSigner, URLSafeTimedSerializer

from app.links import LinkExpired, LinkWrong, read_download, sign_download
from nodeimage.protocol import output_key
from supervisor import queries
from supervisor.cloud.ports import Refused
from supervisor.commands import downloads
from supervisor.config import Config
from supervisor.domain.job import JobStatus
from supervisor.lifecycle.pack import pack
from supervisor.store import downloads as store
from tests.waiting import wait_for

from .web_site import LINK_KEY, WebSite, a_web_site, as_somebody_else, root, tags


@pytest.fixture
def site(tmp_path: Path) -> Iterator[WebSite]:
    with a_web_site(tmp_path) as site:
        yield site


class OldSigner(TimestampSigner):
    """Signs as if it were long ago."""

    def get_timestamp(self) -> int:
        return 1_000_000_000


class OldSerializer(URLSafeTimedSerializer):
    default_signer = OldSigner


def a_packed_job(site: WebSite) -> str:
    job = site.a_job(JobStatus.COMPLETED, received=3)
    pack_now(site, job)
    return job


def pack_now(site: WebSite, job: str) -> None:
    download = downloads.begin_download(site.farm, job)
    with site.farm.db.read() as connection:
        found = store.find(connection, download)
    assert found is not None
    pack(site.farm, found)


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
    assert rest.headers["ETag"] == whole.headers["ETag"]


@pytest.mark.parametrize(
    ("asked", "first", "end"),
    [("bytes=0-9", 0, 10), ("bytes=0-", 0, None), ("bytes=-20", -20, None), ("bytes=10-99999999", 10, None), ("bytes=-99999999", 0, None)],
)
def test_part_of_a_zip_is_that_part_of_the_whole(site: WebSite, asked: str, first: int, end: int | None) -> None:
    link, visitor = link_of(site, a_packed_job(site)), site.signed_out()
    whole = visitor.get(link, buffered=True).data
    part = visitor.get(link, buffered=True, headers={"Range": asked})
    assert (part.status_code, part.data) == (206, whole[first:end])
    assert int(part.headers["Content-Length"]) == len(part.data)


def test_range_behind_the_end_is_refused_with_the_size(site: WebSite) -> None:
    link, visitor = link_of(site, a_packed_job(site)), site.signed_out()
    size = len(visitor.get(link, buffered=True).data)
    answer = visitor.get(link, buffered=True, headers={"Range": f"bytes={size}-"})
    assert (answer.status_code, answer.headers["Content-Range"]) == (416, f"bytes */{size}")


@pytest.mark.parametrize("asked", ["bytes=0-1,5-6", "bytes=9-1", "frames=1-2", "nonsense"])
def test_range_that_can_not_be_answered_as_one_part_gets_the_whole(site: WebSite, asked: str) -> None:
    link, visitor = link_of(site, a_packed_job(site)), site.signed_out()
    answer = visitor.get(link, buffered=True, headers={"Range": asked})
    assert (answer.status_code, answer.data) == (200, visitor.get(link, buffered=True).data)


@pytest.mark.parametrize("weak", [False, True])
def test_a_download_that_is_another_one_meanwhile_begins_anew(site: WebSite, weak: bool) -> None:
    link, visitor = link_of(site, a_packed_job(site)), site.signed_out()
    whole = visitor.get(link, buffered=True)
    condition = f"W/{whole.headers['ETag']}" if weak else '"of another zip"'
    answer = visitor.get(link, buffered=True, headers={"Range": "bytes=100-", "If-Range": condition})
    assert (answer.status_code, answer.data) == (200, whole.data)


def test_zips_of_other_frames_have_other_etags(site: WebSite) -> None:
    first, second = (site.signed_out().get(link_of(site, a_packed_job(site)), buffered=True) for _ in range(2))
    assert first.headers["ETag"] != second.headers["ETag"]
    assert not first.headers["ETag"].startswith("W/")


def test_a_download_that_the_visitor_has_already_is_not_sent_again(site: WebSite) -> None:
    link, visitor = link_of(site, a_packed_job(site)), site.signed_out()
    etag = visitor.get(link, buffered=True).headers["ETag"]
    answer = visitor.get(link, buffered=True, headers={"If-None-Match": etag})
    assert (answer.status_code, answer.data) == (304, b"")


def test_a_downloader_may_ask_for_the_size_first(site: WebSite) -> None:
    link, visitor = link_of(site, a_packed_job(site)), site.signed_out()
    answer = visitor.head(link, buffered=True, headers={"Range": "bytes=5-"})
    assert (answer.status_code, answer.data) == (200, b"")
    assert site.fake.cloud.objects.opened == []
    assert int(answer.headers["Content-Length"]) == len(visitor.get(link, buffered=True).data)
    assert answer.headers["Accept-Ranges"] == "bytes"


def test_a_zip_that_can_not_be_begun_says_why_on_a_page(site: WebSite) -> None:
    job = a_packed_job(site)
    link, objects = link_of(site, job), site.fake.cloud.objects
    objects.fail_next(Refused("wrong keys"), call="open")
    answer = site.signed_out().get(link, buffered=True)
    assert answer.status_code == 503
    assert "object store could not be read" in answer.text
    assert "object store could not be read" in site.get(f"/jobs/{job}/downloads").text


def test_a_zip_whose_frame_is_gone_says_so_on_a_page_and_on_the_jobs(site: WebSite) -> None:
    job = a_packed_job(site)
    link, objects = link_of(site, job), site.fake.cloud.objects
    objects.delete([output_key(job, 1, "shot0001.png")])
    answer = site.signed_out().get(link, buffered=True)
    assert answer.status_code == 404
    assert "“shot0001.png” of frame 1 is gone from the store" in answer.text
    shown = site.get(f"/jobs/{job}/downloads").text
    assert "“shot0001.png” of frame 1 is gone from the store" in shown
    assert "Zip all 3 frames" in shown


def test_a_zip_that_breaks_on_the_way_cuts_the_connection(site: WebSite) -> None:
    job = site.a_job(JobStatus.COMPLETED, received=0)
    for number in (1, 2, 3):
        site.receive(job, number, body=b"picture" * 100_000)
    pack_now(site, job)
    link, objects = link_of(site, job), site.fake.cloud.objects
    objects.place(output_key(job, 3, "shot0003.png"), b"pixture" * 100_000, etag="y")
    answer = site.signed_out().get(link)
    assert answer.status_code == 200
    received: list[bytes] = []
    with pytest.raises(ConnectionResetError):
        received.extend(answer.iter_encoded())
    assert 1_400_000 < sum(map(len, received)) < int(answer.headers["Content-Length"])
    assert "not what its node delivered" in site.get(f"/jobs/{job}/downloads").text


def test_a_visitor_who_leaves_ends_the_reading(site: WebSite) -> None:
    job = site.a_job(JobStatus.COMPLETED, received=0)
    for number in range(1, 4):
        site.receive(job, number, body=b"picture" * 300_000)
    pack_now(site, job)
    link, objects = link_of(site, job), site.fake.cloud.objects
    answer = site.signed_out().get(link)
    assert next(iter(answer.iter_encoded()))
    answer.close()
    wait_for(lambda: all(stream.closed for _, _, stream in objects.opened), "every stream to be closed")
    assert "broke off" not in site.get(f"/jobs/{job}/downloads").text


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


def test_a_zip_that_lacks_frames_offers_to_render_just_these_again(site: WebSite) -> None:
    job = site.a_job(JobStatus.COMPLETED, received=3)
    assert "render-again" not in site.get(f"/jobs/{job}/downloads").text
    for number in (1, 3):
        site.fake.cloud.objects.delete([output_key(job, number, f"shot{number:04d}.png")])
    pack_now(site, job)

    region = site.get(f"/jobs/{job}/downloads").text
    assert "Frames 1,3 are not in the store as delivered." in region
    (form,) = [tag for tag in tags(region) if tag.attributes.get("hx-post", "").endswith("/render-again")]
    eve = as_somebody_else(site, "eve", "artist")
    assert "render-again" not in eve.get(f"/jobs/{job}/downloads").text
    answer = site.post(form.attributes["hx-post"])

    assert root(answer.text).attributes["id"] == f"job-{job}-downloads"
    assert "render-again" not in answer.text
    summary = queries.job_summary(site.farm, job)
    assert (summary.status, summary.frames.queued, summary.frames.received) == (JobStatus.SUBMITTED, 2, 1)
    assert summary.reason == "a person asked for frames 1,3 again"
