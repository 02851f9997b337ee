"""A job's page: every region in every status, what a person may do, and how refusals look."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from supervisor import queries
from supervisor.domain.job import ACTIVE, ENDED, JobStatus
from supervisor.domain.scene import Dependency, DependencyKind
from supervisor.store import jobs as job_store
from tests.fakes.farm import a_scene, an_image, an_inspection

from .web_site import WebSite, a_web_site, root, tags, without_tokens

REGIONS = ("status", "problems", "previews", "frames", "instances", "downloads", "events")
DRAFT_REGIONS = ("status", "files", "scene", "form", "check")
UNDRAFTED = [status for status in JobStatus if status is not JobStatus.DRAFT]


@pytest.fixture
def site(tmp_path: Path) -> Iterator[WebSite]:
    with a_web_site(tmp_path) as site:
        yield site


def some_job(site: WebSite, status: JobStatus) -> str:
    received = {JobStatus.COMPLETED: 3, JobStatus.SUBMITTED: 0}.get(status, 1)
    return site.a_job(status, received=received, failed=1 if status is JobStatus.FAILED else 0)


@pytest.mark.parametrize("status", UNDRAFTED)
def test_every_region_is_one_element_in_every_status(site: WebSite, status: JobStatus) -> None:
    job = some_job(site, status)
    for part in REGIONS:
        answer = site.get(f"/jobs/{job}/{part}")
        assert answer.status_code == 200
        assert root(answer.text).attributes["id"] == f"job-{job}-{part}"


@pytest.mark.parametrize("status", UNDRAFTED)
def test_a_page_paints_what_a_poll_brings(site: WebSite, status: JobStatus) -> None:
    job = some_job(site, status)
    page = without_tokens(site.get(f"/jobs/{job}").text)
    for part in set(REGIONS) - {"downloads"}:  # whose links are signed anew
        assert without_tokens(site.get(f"/jobs/{job}/{part}").text) in page


@pytest.mark.parametrize("status", UNDRAFTED)
def test_regions_poll_only_while_their_job_can_change(site: WebSite, status: JobStatus) -> None:
    job = some_job(site, status)
    for part in REGIONS:
        trigger = root(site.get(f"/jobs/{job}/{part}").text).attributes.get("hx-trigger", "")
        assert ("every" in trigger) == (status in ACTIVE or status is JobStatus.PAUSED), (part, trigger)
        assert "job-changed from:body" in trigger, (part, trigger)


@pytest.mark.parametrize("part", REGIONS)
def test_a_region_learns_from_its_last_poll_that_the_job_has_ended(site: WebSite, part: str) -> None:
    job = site.a_job(JobStatus.RENDERING, received=3)
    shown = root(site.get(f"/jobs/{job}/{part}").text)
    site.end(job, JobStatus.COMPLETED)
    last = site.get(shown.attributes["hx-get"])
    assert last.status_code == 200
    assert root(last.text).attributes["hx-trigger"] == "job-changed from:body", "only a person changes it now"


@pytest.mark.parametrize("part", REGIONS)
def test_a_region_that_was_seen_is_not_sent_again(site: WebSite, part: str) -> None:
    job = site.a_job(JobStatus.RENDERING, received=1, rendering=1)
    shown = root(site.get(f"/jobs/{job}/{part}").text)
    assert f"seen={shown.attributes['data-version']}" in shown.attributes["hx-get"]
    again = site.get(shown.attributes["hx-get"])
    assert (again.status_code, again.data) == (204, b"")


def test_a_frame_that_arrives_shows_in_the_regions_that_tell_of_it(site: WebSite) -> None:
    job = site.a_job(JobStatus.RENDERING, received=1)
    polls = {part: root(site.get(f"/jobs/{job}/{part}").text).attributes["hx-get"] for part in REGIONS}
    site.receive(job, 2)
    changed = {part for part, url in polls.items() if site.get(url).status_code == 200}
    assert changed == {"status", "previews", "frames", "downloads"}


def test_a_job_says_its_status_counts_and_reason_in_words(site: WebSite) -> None:
    job = site.a_job(JobStatus.RENDERING, spec="1-10", received=4, failed=1, rendering=2)
    page = site.get(f"/jobs/{job}/status").text
    words = " ".join(re.sub(r"<[^>]+>", " ", page).split())
    assert "Rendering Moved to rendering" in words
    assert re.search(r"received 4 of 10 .*rendering 2 .*failed 1 .*waiting 3", words)


@pytest.mark.parametrize(
    ("status", "offered"),
    [
        (JobStatus.DRAFT, {"rename", "delete"}),
        (JobStatus.RENDERING, {"pause", "cancel"}),
        (JobStatus.PAUSED, {"resume", "cancel"}),
        (JobStatus.FAILED, {"retry", "delete"}),
        (JobStatus.COMPLETED, {"delete"}),
        (JobStatus.CANCELLED, {"retry", "delete"}),
    ],
)
def test_a_job_offers_what_its_status_allows(site: WebSite, status: JobStatus, offered: set[str]) -> None:
    job = some_job(site, status)
    forms = [tag for tag in tags(site.get(f"/jobs/{job}/status").text) if tag.name == "form"]
    assert {form.attributes["action"].rpartition("/")[2] for form in forms} == offered
    assert all(form.attributes["hx-post"] == form.attributes["action"] for form in forms)


@pytest.mark.parametrize("action", ["cancel", "delete"])
def test_what_is_lost_for_good_is_asked_for_with_what_is_kept_and_lost(site: WebSite, action: str) -> None:
    job = site.a_job(JobStatus.RENDERING if action == "cancel" else JobStatus.COMPLETED, received=2)
    form = next(tag for tag in tags(site.get(f"/jobs/{job}/status").text) if tag.attributes.get("action", "").endswith(action))
    question = form.attributes["hx-confirm"]
    assert re.search("stay", question)
    assert re.search("lost|deleted", question)


def test_an_action_answers_with_the_status_and_wakes_the_other_regions(site: WebSite) -> None:
    job = site.a_job(JobStatus.RENDERING)
    answer = site.post(f"/jobs/{job}/pause")
    assert root(answer.text).attributes["id"] == f"job-{job}-status"
    assert answer.headers["HX-Trigger-After-Settle"] == "job-changed"
    assert queries.job_summary(site.farm, job).status is JobStatus.RELEASING


def test_an_action_as_a_plain_form_leads_back_to_the_page(site: WebSite) -> None:
    job = site.a_job(JobStatus.RENDERING)
    assert site.post(f"/jobs/{job}/cancel", htmx=False).location == f"/jobs/{job}"
    assert queries.job_summary(site.farm, job).status is not JobStatus.RENDERING


def test_what_the_status_forbids_is_a_toast_that_names_the_status(site: WebSite) -> None:
    job = site.a_job(JobStatus.COMPLETED, received=3)
    answer = site.post(f"/jobs/{job}/pause")
    assert answer.status_code == 409
    assert answer.headers["HX-Retarget"] == "#toasts"
    assert "completed" in root(answer.text).attributes["class"] or "completed" in answer.text


def test_a_job_that_is_not_there_is_a_page_for_people_and_a_toast_for_polls(site: WebSite) -> None:
    page = site.get("/jobs/job_none")
    assert page.status_code == 404
    assert "<!doctype html>" in page.text
    poll = site.get("/jobs/job_none/status", **{"HX-Request": "true"})
    assert (poll.status_code, root(poll.text).attributes["role"]) == (404, "alert")


def test_a_deleted_job_leads_to_the_list_which_says_so(site: WebSite) -> None:
    job = site.a_job(JobStatus.COMPLETED, received=3)
    assert site.post(f"/jobs/{job}/delete").headers["HX-Redirect"] == "/jobs"
    assert "“Shot 040” is deleted" in site.get("/jobs").text


def test_names_and_reasons_are_text_and_never_markup(site: WebSite) -> None:
    evil = "<img src=x onerror=alert(1)>"
    job = site.a_job(JobStatus.RENDERING)
    with site.farm.db.write() as connection:
        job_store.change_job(connection, job, name=evil, reason=evil)
    site.a_problem(job, evil)
    for path in ("/jobs", f"/jobs/{job}"):
        assert "<img src=x" not in site.get(path).text
        assert "&lt;img src=x" in site.get(path).text


def test_problems_say_what_to_do(site: WebSite) -> None:
    job = site.a_job(JobStatus.RENDERING)
    for n in range(9):
        site.a_problem(job, f"Trouble {n}.")
    text = site.get(f"/jobs/{job}/problems").text
    assert text.count("Do this.") == 9
    assert "3 more problems" in text


def test_the_list_shows_jobs_with_words_and_pictures(site: WebSite) -> None:
    job = site.a_job(JobStatus.RENDERING, received=2)
    draft = site.a_draft(name="Later")
    page = site.get("/jobs").text
    assert f"/jobs/{job}/frames/2/preview" in page
    assert "Rendering" in page
    assert page.index(draft) < page.index(job) or site.fake.clock() is not None


def test_the_list_polls_fast_only_while_something_is_rendered(site: WebSite) -> None:
    site.a_draft(name="Later")
    assert root(site.get("/jobs/list").text).attributes["hx-trigger"] == "every 10s"
    site.a_job(JobStatus.RENDERING)
    shown = root(site.get("/jobs/list").text)
    assert shown.attributes["hx-trigger"] == "every 2s"
    assert site.get(shown.attributes["hx-get"]).status_code == 204


def test_an_empty_farm_invites_the_first_job(site: WebSite) -> None:
    assert "The kiln is cold" in site.get("/jobs").text


def test_old_jobs_are_pages_away(site: WebSite) -> None:
    for n in range(53):
        site.fake.clock.pass_s(1)
        site.a_draft(name=f"Job {n}", blend=None)
    first = site.get("/jobs").text
    assert "Job 52" in first
    assert "Job 2<" not in first
    older = next(tag.attributes["href"] for tag in tags(first) if tag.attributes.get("href", "").startswith("/jobs?after="))
    assert "Job 2<" in site.get(older).text


def test_a_new_job_is_a_draft_on_its_page(site: WebSite) -> None:
    page = site.post("/jobs", htmx=False).location
    text = site.get(page).text
    assert "Drop a .blend here" in text
    assert [root(site.get(f"{page}/{part}").text).attributes["id"] for part in DRAFT_REGIONS]


def test_a_form_is_prefilled_from_the_scene(site: WebSite) -> None:
    scene = a_scene("Shot", cameras=("Wide", "Close"), frames=(5, 90, 5))
    job = site.a_draft(inspection=an_inspection(scenes=(scene, a_scene("Other"))))
    fields = {tag.attributes.get("name"): tag.attributes for tag in tags(site.get(f"/jobs/{job}/form").text)}
    assert fields["frames"]["value"] == "5-90x5"
    assert {"scene", "camera", "instances", "output_format", "persistent_data"} <= fields.keys()
    assert "checked" in fields["persistent_data"]


def test_choosing_another_scene_brings_its_frames(site: WebSite) -> None:
    job = site.a_draft(inspection=an_inspection(scenes=(a_scene("A", frames=(1, 10, 1)), a_scene("B", frames=(20, 40, 1)))))
    form = {"scene": "B", "frames": "1-10", "frames_default": "1-10", "instances": "1", "persistent_data": "on"}
    answer = site.post(f"/jobs/{job}/choose-scene", form)
    fields = {tag.attributes.get("name"): tag.attributes for tag in tags(answer.text)}
    assert fields["frames"]["value"] == "20-40"


def test_several_blends_are_a_choice_of_the_person(site: WebSite) -> None:
    job = site.a_draft(blend="a.blend")
    other = site.fake.a_file(job, "b.blend")
    assert "Which .blend is rendered?" in site.get(f"/jobs/{job}/form").text
    site.post(f"/jobs/{job}/choose-main-file", {"main_file": other})
    detail = queries.job_detail(site.farm, job)
    assert detail.main_file is not None
    assert detail.main_file.path == "b.blend"


def test_what_is_missing_shows_before_anything_is_rendered(site: WebSite) -> None:
    absolute = Dependency(path="C:\\sky.hdr", kind=DependencyKind.IMAGE, is_absolute=True, relative=None)
    job = site.a_draft(inspection=an_inspection(dependencies=(an_image("wood.png"), an_image("clay.png"), absolute)))
    site.fake.a_file(job, "clay.png")
    text = site.get(f"/jobs/{job}/scene").text
    assert "1 file is missing" in text
    assert "//wood.png" in text
    assert "absolute path" in text
    assert "<strong>1 file is named by an absolute path" in text


@pytest.mark.parametrize(
    ("field", "typed", "words"),
    [
        ("frames", "10-1", "ends before it begins"),
        ("frames", "a-b", "not a frame"),
        ("frames", "1-1000000000", "100000"),
        ("instances", "0", "whole number"),
        ("instances", "many", "whole number"),
        ("resolution_pct", "2000", "whole number"),
        ("samples", "-5", "whole number"),
        ("output_format", "EXE", "pick one"),
    ],
)
def test_a_bad_setting_is_refused_at_its_field_and_nothing_typed_is_lost(site: WebSite, field: str, typed: str, words: str) -> None:
    job = site.a_draft()
    form = {"frames": "1-3", "instances": "2", "output_name": "my shot ", "persistent_data": "on", field: typed}
    answer = site.post(f"/jobs/{job}/submit", form)
    assert answer.status_code == 422
    assert root(answer.text).attributes["id"] == f"job-{job}-form"
    assert words in answer.text.split(f'id="{field}-error"')[1].split("</p>")[0]
    assert 'value="my shot"' in answer.text
    assert queries.job_summary(site.farm, job).status is JobStatus.DRAFT


def test_a_refused_plain_form_is_the_whole_page_again(site: WebSite) -> None:
    job = site.a_draft()
    answer = site.post(f"/jobs/{job}/submit", {"frames": "a-b", "instances": "1"}, htmx=False)
    assert answer.status_code == 422
    assert 'id="frames-error"' in answer.text
    assert "<!doctype html>" in answer.text


def test_submitting_keeps_every_setting_and_leads_to_the_job(site: WebSite) -> None:
    job = site.a_draft()
    form = {
        "frames": "1-9x2",
        "frames_default": "1-3",
        "instances": "2",
        "output_name": "kiln_",
        "output_format": "OPEN_EXR",
        "resolution_pct": "50",
        "samples": "16",
    }
    assert site.post(f"/jobs/{job}/submit", form).headers["HX-Redirect"] == f"/jobs/{job}"
    detail = queries.job_detail(site.farm, job)
    assert detail.summary.status is JobStatus.SUBMITTED
    assert (detail.frames_spec, detail.settings.instances, detail.settings.persistent_data) == ("1-9x2", 2, False)
    output = detail.settings.output
    assert (output.name, output.format, output.resolution_pct, output.samples) == ("kiln_", "OPEN_EXR", 50, 16)


def test_settings_are_kept_while_they_are_typed(site: WebSite) -> None:
    job = site.a_draft()
    answer = site.post(f"/jobs/{job}/keep-settings", {"frames": "1-7", "frames_default": "1-3", "instances": "2", "persistent_data": "on"})
    assert root(answer.text).attributes["id"] == f"job-{job}-check"
    assert "7 frames" in answer.text
    refused = site.post(f"/jobs/{job}/keep-settings", {"frames": "7-1", "instances": "2"})
    assert "ends before it begins" in refused.text
    assert queries.job_detail(site.farm, job).settings.frames == "1-7"


def test_a_draft_without_a_blend_says_what_it_waits_for(site: WebSite) -> None:
    job = site.a_draft(blend=None)
    text = site.get(f"/jobs/{job}/check").text
    button = next(tag for tag in tags(text) if tag.attributes.get("id") == "job-submit")
    assert "disabled" in button.attributes
    assert ".blend" in text


def test_a_file_can_be_taken_out(site: WebSite) -> None:
    job = site.a_draft()
    file = site.fake.a_file(job, 'textures/wood "x".png')
    assert "wood &#34;x&#34;.png" in site.get(f"/jobs/{job}/files").text
    answer = site.post(f"/jobs/{job}/files/{file}/remove")
    assert "wood" not in answer.text


def test_a_draft_is_named_on_its_page(site: WebSite) -> None:
    job = site.a_draft()
    site.post(f"/jobs/{job}/rename", {"name": "Shot <1>"})
    assert queries.job_summary(site.farm, job).name == "Shot <1>"
    assert "Shot &lt;1&gt;" in site.get(f"/jobs/{job}").text


@pytest.mark.parametrize("status", sorted(ENDED))
def test_packing_is_offered_and_shown_for_an_ended_job(site: WebSite, status: JobStatus) -> None:
    job = some_job(site, status)
    assert 'id="job-pack"' in site.get(f"/jobs/{job}/downloads").text
    shown = site.post(f"/jobs/{job}/pack").text
    assert "Packing" in shown
    assert "every 500ms" in root(shown).attributes["hx-trigger"]
