"""Frames on the page: the grid, light for very long jobs, a frame's panel, pictures, logs, outputs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from supervisor import queries
from supervisor.domain.frame import FrameStatus
from supervisor.domain.job import JobStatus
from supervisor.store import frames
from supervisor.store import jobs as job_store

from .web_site import WebSite, a_web_site, as_somebody_else, root, tags, without_tokens


@pytest.fixture
def site(tmp_path: Path) -> Iterator[WebSite]:
    with a_web_site(tmp_path) as site:
        yield site


def test_a_cell_says_its_frame_and_status_in_words(site: WebSite) -> None:
    job = site.a_job(JobStatus.RENDERING, spec="1-4", received=1, failed=1, rendering=1)
    text = site.get(f"/jobs/{job}/frames").text
    for number, word in ((1, "done"), (2, "failed"), (3, "rendering"), (4, "waiting")):
        assert f">{number}<i> {word}</i></a>" in text


def test_a_cell_makes_no_request_of_its_own(site: WebSite) -> None:
    job = site.a_job(JobStatus.RENDERING, spec="1-50")
    cells = [tag for tag in tags(site.get(f"/jobs/{job}/frames").text) if "data-frame" in tag.attributes]
    assert len(cells) == 50
    assert not [name for cell in cells for name in cell.attributes if name.startswith("hx-")]


@pytest.mark.parametrize(("spec", "most_bytes"), [("1-10000", 60_000), ("1-100000", 220_000)])
def test_the_grid_of_a_very_long_job_stays_light(site: WebSite, spec: str, most_bytes: int) -> None:
    job = site.a_job(JobStatus.RENDERING, spec=spec)
    answer = site.get(f"/jobs/{job}/frames")
    ranges = [tag for tag in tags(answer.text) if tag.attributes.get("class", "").startswith("range ")]
    assert 20 <= len(ranges) <= 120
    assert len(answer.data) < most_bytes


def test_the_grid_shows_the_range_where_something_happens(site: WebSite) -> None:
    job = site.a_job(JobStatus.RENDERING, spec="1-1000")
    site.begin(job, 700)
    current = next(tag for tag in tags(site.get(f"/jobs/{job}/frames").text) if "aria-current" in tag.attributes)
    assert current.attributes["id"] == "range-481"


def test_a_chosen_range_stays_chosen_in_its_polls(site: WebSite) -> None:
    job = site.a_job(JobStatus.RENDERING, spec="1-1000", rendering=1)
    shown = root(site.get(f"/jobs/{job}/frames?first=241").text)
    assert "first=241" in shown.attributes["hx-get"]
    assert site.get(shown.attributes["hx-get"]).status_code == 204
    site.begin(job, 300)
    assert 'id="f300"' in site.get(shown.attributes["hx-get"]).text


def test_a_change_that_does_not_show_in_the_grid_sends_nothing(site: WebSite) -> None:
    job = site.a_job(JobStatus.RENDERING, spec="1-10", rendering=1)
    polls = [root(site.get(f"/jobs/{job}/{part}").text).attributes["hx-get"] for part in ("frames", "previews")]
    site.a_problem(job, "Something else.")
    with site.farm.db.write() as connection:
        job_store.touch(connection, job)
    assert [site.get(poll).status_code for poll in polls] == [204, 204]


def test_negative_frames_have_cells_and_panels(site: WebSite) -> None:
    job = site.a_job(JobStatus.RENDERING, spec="-5-5", received=1)
    assert 'id="f-5"' in site.get(f"/jobs/{job}/frames").text
    assert root(site.get(f"/jobs/{job}/frames/-5/panel").text).attributes["id"] == "frame--5-panel"


@pytest.mark.parametrize("status", list(FrameStatus))
def test_a_panel_is_one_element_in_every_status_and_polls_while_it_can_change(site: WebSite, status: FrameStatus) -> None:
    job = site.a_job(JobStatus.RENDERING, spec="1-4", received=1, failed=1, rendering=1)
    number = {FrameStatus.RECEIVED: 1, FrameStatus.FAILED: 2, FrameStatus.RENDERING: 3, FrameStatus.QUEUED: 4}[status]
    panel = root(site.get(f"/jobs/{job}/frames/{number}/panel").text)
    assert panel.attributes["id"] == f"frame-{number}-panel"
    assert ("hx-trigger" in panel.attributes) == (status in {FrameStatus.QUEUED, FrameStatus.RENDERING})


def test_a_panel_shows_picture_outputs_log_and_neighbours(site: WebSite) -> None:
    job = site.a_job(JobStatus.RENDERING, spec="1-9x4", received=2)
    text = site.get(f"/jobs/{job}/frames/5/panel").text
    links = {tag.attributes.get("href") for tag in tags(text)}
    assert {f"/jobs/{job}/frames/1", f"/jobs/{job}/frames/9", f"/api/v1/jobs/{job}/frames/5/outputs/shot0005.png"} <= links
    assert f"/jobs/{job}/frames/5/preview?attempt=1" in text
    assert "Fra:1 &lt;b&gt;done&lt;/b&gt;" in text


def test_a_failed_frame_says_why(site: WebSite) -> None:
    job = site.a_job(JobStatus.RENDERING, failed=1)
    assert "Blender ran out of memory" in site.get(f"/jobs/{job}/frames/1/panel").text


def test_a_frame_has_a_page_of_its_own_without_scripts(site: WebSite) -> None:
    job = site.a_job(JobStatus.RENDERING, received=1)
    page = site.get(f"/jobs/{job}/frames/1")
    assert "<!doctype html>" in page.text
    assert without_tokens(site.get(f"/jobs/{job}/frames/1/panel").text) in without_tokens(page.text)
    assert site.get(f"/jobs/{job}/frames/99").status_code == 404


def test_a_picture_of_an_attempt_may_be_kept_for_ever(site: WebSite) -> None:
    job = site.a_job(JobStatus.RENDERING, received=1)
    kept = site.get(f"/jobs/{job}/frames/1/preview?attempt=1")
    assert (kept.mimetype, kept.data) == ("image/webp", b"RIFFwebp")
    assert "immutable" in kept.headers["Cache-Control"]
    assert site.get(f"/jobs/{job}/frames/1/preview").headers["Cache-Control"] == "private, no-cache"


def test_a_log_is_plain_text(site: WebSite) -> None:
    job = site.a_job(JobStatus.RENDERING, received=1)
    answer = site.get(f"/jobs/{job}/frames/1/log")
    assert (answer.content_type, answer.text) == ("text/plain; charset=utf-8", "Fra:1 <b>done</b>\n")


def test_an_output_is_saved_under_its_own_name(site: WebSite) -> None:
    job = site.a_job(JobStatus.RENDERING)
    site.receive(job, 1, name="depth/木 0001.exr", body=b"exr" * 1000)
    link = next(tag.attributes for tag in tags(site.get(f"/jobs/{job}/frames/1/panel").text) if "download" in tag.attributes)
    assert link["download"] == "木 0001.exr"
    answer = site.get(link["href"])
    assert answer.data == b"exr" * 1000
    answer.headers["Content-Disposition"].encode("latin-1")


def test_previews_name_the_frames_for_the_flip_book(site: WebSite) -> None:
    job = site.a_job(JobStatus.RENDERING, spec="1-40", received=30)
    shown = root(site.get(f"/jobs/{job}/previews").text)
    assert shown.attributes["data-runs"] == "1:1-30x1"
    assert shown.attributes["data-newest"] == "30"
    text = site.get(f"/jobs/{job}/previews").text
    assert text.count("<img") == 12


def test_a_received_frame_is_rendered_again_from_its_panel(site: WebSite) -> None:
    job = site.a_job(JobStatus.COMPLETED, received=3)
    panel = site.get(f"/jobs/{job}/frames/2/panel").text
    (form,) = [tag for tag in tags(panel) if tag.name == "form"]
    assert form.attributes["hx-post"] == f"/jobs/{job}/frames/2/render-again"
    assert "The job goes back to work" in form.attributes["hx-confirm"]

    answer = site.post(form.attributes["hx-post"])

    assert root(answer.text).attributes["id"] == "frame-2-panel"
    assert answer.headers["HX-Trigger-After-Settle"] == "job-changed"
    assert "<form" not in answer.text, "it waits for its turn already"
    assert queries.job_summary(site.farm, job).status is JobStatus.SUBMITTED
    assert site.post(f"/jobs/{job}/frames/2/render-again", htmx=False).status_code == 422


def test_who_may_not_change_a_job_has_no_button_to_render_its_frames_again(site: WebSite) -> None:
    job = site.a_job(JobStatus.COMPLETED, received=3)
    eve = as_somebody_else(site, "eve", "artist")
    assert "<form" not in eve.get(f"/jobs/{job}/frames/2/panel").text
    assert eve.post(f"/jobs/{job}/frames/2/render-again").status_code == 403


def test_a_damaged_frame_says_so_on_its_panel(site: WebSite) -> None:
    job = site.a_job(JobStatus.COMPLETED, received=3)
    with site.farm.db.write() as connection:
        frames.note_damage(connection, job, {2: "“shot0002.png” of frame 2 is gone from the store"})
    assert "“shot0002.png” of frame 2 is gone from the store" in site.get(f"/jobs/{job}/frames/2/panel").text
