"""Frames, their files, and zips through the HTTP API."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import pytest

from supervisor.store import frames
from tests.unit.api_site import Site, a_site

BODY = bytes(range(256)) * 4096  # 1 MiB


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with a_site(tmp_path) as made:
        yield made


@pytest.fixture
def job(site: Site) -> str:
    """A job of three frames, of which the second is received."""
    made = site.a_submitted_job("-1-1")
    site.receive(made, 0, name="deep/kiln 0000.png", body=BODY, crc32=7)
    return made


def outputs(job: str) -> str:
    return f"/jobs/{job}/frames/0/outputs/deep/kiln%200000.png"


def test_frames_are_listed_by_number_in_pages(site: Site, job: str) -> None:
    first = site.ask("GET", f"/jobs/{job}/frames?limit=2")
    assert [frame["number"] for frame in first.json or []] == [-1, 0]
    assert 'after=0>; rel="next"' in first.headers["Link"]
    rest = site.ask("GET", f"/jobs/{job}/frames?limit=2&after=0")
    assert [(frame["number"], frame["status"]) for frame in rest.json or []] == [(1, "queued")]


def test_received_frame_names_its_outputs_and_where_they_are(site: Site, job: str) -> None:
    frame: Any = site.ask("GET", f"/jobs/{job}/frames/0").json
    assert (frame["status"], frame["render_s"], frame["node"]) == ("received", 1.5, "node_1")
    (output,) = frame["outputs"]
    assert (output["name"], output["bytes"], output["crc32"]) == ("deep/kiln 0000.png", len(BODY), 7)
    assert output["url"] == f"http://localhost/api/v1{outputs(job)}"
    assert site.ask("GET", urlsplit(output["url"]).path.removeprefix("/api/v1")).data == BODY
    assert frame["preview_url"].endswith("/frames/0/preview")


def test_negative_frame_is_found_and_unknown_one_is_not(site: Site, job: str) -> None:
    assert site.ask("GET", f"/jobs/{job}/frames/-1").json["number"] == -1  # type: ignore[index]
    assert site.ask("GET", f"/jobs/{job}/frames/99").status_code == 404
    assert site.ask("GET", f"/jobs/{job}/frames/1.5").status_code == 404


def test_output_is_sent_whole_and_runs_nothing_in_a_browser(site: Site, job: str) -> None:
    answer = site.ask("GET", outputs(job))
    assert (answer.status_code, answer.content_length, answer.mimetype) == (200, len(BODY), "image/png")
    assert answer.data == BODY
    assert "sandbox" in answer.headers["Content-Security-Policy"]
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Content-Disposition"] == 'inline; filename="kiln 0000.png"'


@pytest.mark.parametrize(
    ("asked", "first", "end"), [("bytes=0-9", 0, 10), ("bytes=1000-", 1000, len(BODY)), ("bytes=-5", len(BODY) - 5, len(BODY))]
)
def test_part_of_an_output_is_sent_on_demand(site: Site, job: str, asked: str, first: int, end: int) -> None:
    answer = site.ask("GET", outputs(job), headers={"Range": asked})
    assert answer.status_code == 206
    assert answer.headers["Content-Range"] == f"bytes {first}-{end - 1}/{len(BODY)}"
    assert answer.data == BODY[first:end]


def test_range_past_the_end_is_refused_with_the_size(site: Site, job: str) -> None:
    answer = site.ask("GET", outputs(job), headers={"Range": f"bytes={len(BODY)}-"})
    assert (answer.status_code, answer.headers["Content-Range"]) == (416, f"bytes */{len(BODY)}")


def test_range_of_another_state_of_the_output_gets_the_whole(site: Site, job: str) -> None:
    answer = site.ask("GET", outputs(job), headers={"Range": "bytes=5-", "If-Range": '"other"'})
    assert (answer.status_code, answer.data) == (200, BODY)
    etag = answer.headers["ETag"]
    assert site.ask("GET", outputs(job), headers={"Range": "bytes=5-", "If-Range": etag}).status_code == 206
    assert site.ask("GET", outputs(job), headers={"If-None-Match": etag}).status_code == 304


def test_several_ranges_are_answered_with_the_whole(site: Site, job: str) -> None:
    assert site.ask("GET", outputs(job), headers={"Range": "bytes=0-1,5-6"}).status_code == 200


def test_head_of_an_output_says_its_size_and_opens_nothing(site: Site, job: str) -> None:
    site.cloud.objects.fail_next(AssertionError("opened"))
    answer = site.app.test_client().head(f"/api/v1{outputs(job)}", headers={"Authorization": f"Bearer {site.token}"})
    assert (answer.status_code, answer.content_length, answer.data) == (200, len(BODY), b"")


@pytest.mark.parametrize("name", ["a\x01b.png", "a\x7f.png", "a\tb.png", "größe.png", 'a".png'])
def test_output_with_an_odd_name_is_sent_with_headers_that_a_server_can_send(site: Site, name: str) -> None:
    job = site.a_submitted_job("1")
    site.receive(job, 1, name=name)
    answer = site.ask("GET", f"/jobs/{job}/frames/1/outputs/{quote(name)}")
    assert answer.status_code == 200
    sent = answer.headers["Content-Disposition"]
    assert sent.isascii()
    assert sent.isprintable()


def test_output_that_is_not_there_is_not_found(site: Site, job: str) -> None:
    assert site.ask("GET", f"/jobs/{job}/frames/0/outputs/none.png").status_code == 404
    assert site.ask("GET", f"/jobs/{job}/frames/1/outputs/kiln0001.png").status_code == 404


def test_preview_is_a_picture_that_browsers_may_keep(site: Site, job: str) -> None:
    answer = site.ask("GET", f"/jobs/{job}/frames/0/preview")
    assert (answer.status_code, answer.mimetype, answer.data) == (200, "image/webp", b"RIFFwebp")
    again = site.ask("GET", f"/jobs/{job}/frames/0/preview", headers={"If-None-Match": answer.headers["ETag"]})
    assert (again.status_code, again.data) == (304, b"")
    assert site.ask("GET", f"/jobs/{job}/frames/1/preview").status_code == 404


def test_log_is_text_of_the_attempt_that_is_asked_for(site: Site, job: str) -> None:
    answer = site.ask("GET", f"/jobs/{job}/frames/0/log")
    assert (answer.status_code, answer.mimetype, answer.text) == (200, "text/plain", "Fra:1 Mem:2 häppy\n")
    assert site.ask("GET", f"/jobs/{job}/frames/0/log?attempt=2").status_code == 404
    assert site.ask("GET", f"/jobs/{job}/frames/0/log?attempt=x").status_code == 422


def test_zip_is_begun_and_followed_to_its_link(site: Site, job: str) -> None:
    begun = site.ask("POST", f"/jobs/{job}/downloads")
    assert begun.status_code == 202
    download: Any = begun.json
    assert download["status"] in {"packing", "ready"}
    assert site.ask("GET", f"/downloads/{download['id']}").json["job"] == job  # type: ignore[index]
    assert [each["id"] for each in site.ask("GET", f"/jobs/{job}/downloads").json or []] == [download["id"]]


def test_zip_of_nothing_is_a_conflict(site: Site) -> None:
    assert site.ask("POST", f"/jobs/{site.a_submitted_job()}/downloads").status_code == 409
    assert site.ask("GET", "/downloads/download_none").status_code == 404


def test_frames_are_asked_for_again_by_a_spec(site: Site, job: str) -> None:
    answer = site.ask("POST", f"/jobs/{job}/render-again", json={"frames": "0"})

    assert answer.status_code == 202
    frame: Any = site.ask("GET", f"/jobs/{job}/frames/0").json
    assert (frame["status"], frame["attempt"], frame["reason"], frame["damage"]) == ("queued", 2, "a person asked for it again", "")


def test_without_a_spec_the_damaged_frames_are_asked_for_again(site: Site, job: str) -> None:
    assert site.ask("POST", f"/jobs/{job}/render-again").status_code == 409
    with site.farm.db.write() as connection:
        frames.note_damage(connection, job, {0: "“kiln0001.png” of frame 0 is gone from the store"})
    damaged: Any = site.ask("GET", f"/jobs/{job}/frames/0").json
    assert damaged["damage"] == "“kiln0001.png” of frame 0 is gone from the store"

    assert site.ask("POST", f"/jobs/{job}/render-again").status_code == 202

    assert site.ask("GET", f"/jobs/{job}/frames/0").json["status"] == "queued"  # type: ignore[index]


@pytest.mark.parametrize("spec", ["77", "3-1", "", "0,1"])
def test_frames_that_can_not_be_asked_for_again_are_a_problem_at_their_field(site: Site, job: str, spec: str) -> None:
    answer = site.ask("POST", f"/jobs/{job}/render-again", json={"frames": spec})
    assert answer.status_code == 422
    assert answer.json
    assert [error["field"] for error in answer.json["errors"]] == ["frames"]
