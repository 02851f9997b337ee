"""The form of a draft's settings, on farms that rent and on those that do not."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import update

from supervisor import queries
from supervisor.cloud.ports import BlenderFound
from supervisor.config import Config
from supervisor.domain.file import FileStatus
from supervisor.domain.job import JobStatus
from supervisor.domain.workspace import WorkspaceMode
from supervisor.store.schema import files
from tests.fakes.account import FakeAccount
from tests.fakes.farm import an_inspection
from tests.fakes.images import FakeImages

from .web_site import WebSite, a_web_site, as_somebody_else, root

RENTS = Config.model_validate({"cloud": {"provider": "aws"}})


def wish(site: WebSite, job: str, mode: str) -> str:
    """Choose how the files come. Returns: what the page answers"""
    return site.post(f"/jobs/{job}/keep-settings", {"instances": "1", "frames": "1-3", "workspace_mode": mode}).text


def test_way_of_the_files_is_offered_where_instances_are_rented_alone(tmp_path: Path) -> None:
    for name, config, is_offered in (("rents", RENTS, True), ("local", Config(), False)):
        (tmp_path / name).mkdir()
        with a_web_site(tmp_path / name, config=config) as site:
            assert ('name="workspace_mode"' in site.get(f"/jobs/{site.a_draft()}/form").text) is is_offered


def test_chosen_way_of_the_files_is_kept_and_shown_until_it_is_the_farms_choice_again(tmp_path: Path) -> None:
    with a_web_site(tmp_path, config=RENTS) as site:
        job = site.a_draft()
        wish(site, job, "snapshot")
        assert queries.job_detail(site.farm, job).settings.workspace_mode is WorkspaceMode.SNAPSHOT
        assert '<option value="snapshot" selected>' in site.get(f"/jobs/{job}/form").text
        wish(site, job, "")
        assert queries.job_detail(site.farm, job).settings.workspace_mode is None


def test_way_that_there_is_not_is_refused_at_its_field(tmp_path: Path) -> None:
    with a_web_site(tmp_path, config=RENTS) as site:
        assert "pick one of the list" in wish(site, site.a_draft(), "floppy")


# Which Blender


@pytest.fixture
def site(tmp_path: Path) -> Iterator[WebSite]:
    with a_web_site(tmp_path) as site:
        has(site, "4.2.23", "4.5.14", "5.2.2")
        yield site


def has(site: WebSite, *versions: str) -> None:
    """Let the farm have these Blenders."""
    site.fake.cloud.premises.blenders_found = [BlenderFound(version=version, where="somewhere") for version in versions]


def a_draft(site: WebSite, *, saved_by: tuple[int, int] = (4, 3)) -> str:
    return site.a_draft(inspection=an_inspection(version=saved_by))


def choose(site: WebSite, job: str, series: str, *, then: str = "keep-settings") -> str:
    """Choose a Blender. Returns: what the page answers"""
    return site.post(f"/jobs/{job}/{then}", {"instances": "1", "frames": "1-3", "blender": series}).text


def test_blenders_of_the_farm_are_offered_but_for_those_older_than_the_file(site: WebSite) -> None:
    form = site.get(f"/jobs/{a_draft(site)}/form").text
    assert '<option value="4.2" disabled>4.2.23 (older than the file)</option>' in form
    assert '<option value="4.5">4.5.14</option>' in form
    assert '<option value="5.2">5.2.2</option>' in form
    has(site, "4.5.14")
    assert 'name="blender"' not in site.get(f"/jobs/{a_draft(site)}/form").text, "there is nothing to choose"


def test_blender_of_another_series_than_the_files_is_told_before_the_job_is_submitted(site: WebSite) -> None:
    job = a_draft(site)
    assert "Saved by Blender 4.3; rendered with 4.5.14." in site.get(f"/jobs/{job}/check").text
    assert "Saved by Blender 4.3; rendered with 5.2.2." in choose(site, job, "5.2")
    assert '<option value="5.2" selected>' in site.get(f"/jobs/{job}/form").text
    assert "rendered with" not in site.get(f"/jobs/{a_draft(site, saved_by=(4, 5))}/check").text


def test_submitted_job_says_on_its_page_what_it_is_rendered_with(site: WebSite) -> None:
    job = a_draft(site)
    choose(site, job, "5.2", then="submit")
    assert site.fake.status(job) is JobStatus.SUBMITTED
    page = site.get(f"/jobs/{job}").text
    assert "Saved by Blender 4.3; rendered with 5.2.2." in page
    assert '<dd class="num">5.2.2' in page


def test_blender_that_can_not_be_had_is_refused_at_its_field(site: WebSite) -> None:
    job = a_draft(site)
    assert "this farm has no Blender 4.4; it has 4.2.23, 4.5.14, 5.2.2" in choose(site, job, "4.4").replace("This", "this")
    refused = choose(site, job, "4.2", then="submit")
    assert 'id="blender-error"' in refused
    assert "choose 4.5.14 or 5.2.2" in refused


def test_chosen_blender_that_has_gone_is_named_as_gone(site: WebSite) -> None:
    job = a_draft(site)
    choose(site, job, "5.2")
    has(site, "4.5.14")
    assert '<option value="5.2" selected>5.2 (not on this farm)</option>' in site.get(f"/jobs/{job}/form").text
    assert "no Blender 5.2; it has 4.5.14" in site.get(f"/jobs/{job}/check").text


def test_farm_without_an_image_leads_an_admin_to_the_page_that_builds_one(tmp_path: Path) -> None:
    with a_web_site(tmp_path, config=RENTS, account=FakeAccount(), images=FakeImages()) as artist:
        has(artist)
        job = artist.a_draft()
        said = "There is no image with a Blender that instances could start from; an administrator builds one on the "
        assert f"{said}page “Images”" in artist.get(f"/jobs/{job}/check").text
        admin = as_somebody_else(artist, "root", "admin")
        assert f'{said}<a href="/images">page “Images”</a>' in admin.get(f"/jobs/{job}/check").text


def test_a_draft_is_looked_at_until_its_files_are_checked_and_once_more_then(tmp_path: Path) -> None:
    with a_web_site(tmp_path) as site:
        job = site.a_draft(blend=None)
        site.fake.a_file(job, "film.zip", status=FileStatus.CHECKING)
        watched = root(site.get(f"/jobs/{job}/files").text).attributes
        for part in ("files", "scene", "form", "check"):
            assert "every 2s" in root(site.get(f"/jobs/{job}/{part}").text).attributes["hx-trigger"], part

        with site.farm.db.write() as connection:
            connection.execute(update(files).where(files.c.job_id == job).values(status=FileStatus.READY))
        answer = site.get(watched["hx-get"])

        assert answer.headers["HX-Trigger-After-Settle"] == "job-changed"
        quiet = root(answer.text).attributes
        assert "every" not in quiet["hx-trigger"]
        assert "HX-Trigger-After-Settle" not in site.get(quiet["hx-get"]).headers


# What was refused stays as it was typed while the page looks again


def test_a_refused_draft_keeps_what_was_typed_when_its_regions_look_again(site: WebSite) -> None:
    job = a_draft(site)
    refused = site.post(f"/jobs/{job}/submit", {"frames": "9-1", "instances": "1"})
    assert refused.status_code == 422
    assert 'value="9-1"' in refused.text
    assert site.get(root(refused.text).attributes["hx-get"]).status_code == 204


def test_a_check_keeps_its_refusal_when_it_looks_again(site: WebSite) -> None:
    job = a_draft(site)
    said = site.post(f"/jobs/{job}/keep-settings", {"frames": "9-1", "instances": "1"}).text
    assert 'id="check-frames-error"' in said
    assert site.get(root(said).attributes["hx-get"]).status_code == 204
