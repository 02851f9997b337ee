"""The form of a draft's settings, on farms that rent and on those that do not."""

from __future__ import annotations

from pathlib import Path

from supervisor import queries
from supervisor.config import Config
from supervisor.domain.workspace import WorkspaceMode

from .web_site import WebSite, a_web_site

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
