"""Jobs through the HTTP API: who may ask, what is refused and how, and what becomes of a job."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from werkzeug.test import TestResponse

from supervisor.cloud.ports import BlenderFound
from supervisor.commands import accounts
from supervisor.config import Config
from tests.unit.api_site import Site, a_site


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with a_site(tmp_path) as made:
        yield made


def problem(answer: TestResponse) -> dict[str, Any]:
    assert answer.mimetype == "application/problem+json"
    document = answer.get_json()
    assert document["status"] == answer.status_code
    assert document["title"]
    assert document["detail"]
    return dict(document)


def fields(answer: TestResponse) -> dict[str, str]:
    return {each["field"]: each["detail"] for each in problem(answer)["errors"]}


# Who may ask.


def test_request_without_a_token_is_challenged(site: Site) -> None:
    for method, path in (("GET", "/api/v1/jobs"), ("POST", "/api/v1/jobs"), ("DELETE", "/api/v1/jobs/job_1")):
        answer = site.app.test_client().open(path, method=method)
        assert (answer.status_code, answer.headers["WWW-Authenticate"]) == (401, "Bearer")
        assert "kiln token create" in problem(answer)["detail"]


def test_token_that_is_none_is_refused_even_beside_a_session(site: Site) -> None:
    browser = a_browser(site)
    answer = browser.get("/api/v1/jobs", headers={"Authorization": "Bearer kiln_wrong"})
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"] == 'Bearer error="invalid_token"'


def test_revoked_token_is_refused(site: Site) -> None:
    accounts.revoke_token(site.farm, site.user.id, accounts.tokens(site.farm, site.user.id)[0].id)
    assert site.ask("GET", "/jobs").status_code == 401


def a_browser(site: Site) -> Any:
    client = site.app.test_client()
    with client.session_transaction() as session:
        session["_user_id"] = f"{site.user.id}:{site.user.session_epoch}"
        session["_fresh"] = True
    return client


def test_signed_in_browser_reads_without_more_ado(site: Site) -> None:
    assert a_browser(site).get("/api/v1/jobs").get_json() == []


def test_change_from_a_browser_without_its_csrf_token_is_refused(site: Site) -> None:
    answer = a_browser(site).post("/api/v1/jobs", json={"name": "forged"})
    assert answer.status_code == 400
    assert "X-CSRFToken" in problem(answer)["detail"]
    assert site.ask("GET", "/jobs").json == []


# What is refused, and how.


def test_unknown_address_and_wrong_method_are_problems_too(site: Site) -> None:
    assert "openapi.json" in problem(site.ask("GET", "/nothing/here"))["detail"]
    answer = site.ask("PUT", "/jobs")
    assert answer.status_code == 405
    assert "POST" in answer.headers["Allow"]
    assert "Allow" in problem(answer)["detail"]


def test_body_that_is_not_json_is_said_to_be_so(site: Site) -> None:
    answer = site.ask("POST", "/jobs", data=b'{"name": ', content_type="application/json")
    assert answer.status_code == 400
    assert "not JSON" in problem(answer)["detail"]


def test_body_of_another_type_is_refused(site: Site) -> None:
    assert site.ask("POST", "/jobs", data=b"name=x", content_type="text/plain").status_code == 415


def test_body_beyond_any_sense_is_refused(site: Site) -> None:
    answer = site.ask("POST", "/jobs", data=b" " * (5 << 20), content_type="application/json")
    assert answer.status_code == 413


def test_wrong_fields_are_named_each(site: Site) -> None:
    answer = site.ask("POST", f"/jobs/{site.a_job()}/submit", json={"instances": "two", "frmes": "1-2", "output": {"samples": 0}})
    assert answer.status_code == 422
    found = fields(answer)
    assert set(found) == {"instances", "frmes", "output.samples"}
    assert found["frmes"] == "there is no such field"


def test_query_beyond_its_bounds_is_named(site: Site) -> None:
    assert set(fields(site.ask("GET", "/jobs?limit=100000&page=2"))) == {"limit", "page"}


def test_missing_job_is_not_found_by_every_call(site: Site) -> None:
    for method, path in (("GET", ""), ("DELETE", ""), ("POST", "/submit"), ("POST", "/pause"), ("GET", "/frames"), ("GET", "/files")):
        answer = site.ask(method, f"/jobs/job_none{path}")
        assert answer.status_code == 404, (method, path)


@pytest.mark.parametrize("spec", ["10-1", "1--5", "a-b", "1-1000000000"])
def test_frames_that_make_no_sense_are_explained_at_their_field(site: Site, spec: str) -> None:
    job = site.a_job()
    site.a_blend(job)
    answer = site.ask("POST", f"/jobs/{job}/submit", json={"frames": spec})
    assert answer.status_code == 422
    assert set(fields(answer)) == {"frames"}
    assert site.ask("GET", f"/jobs/{job}").json["status"] == "draft"  # type: ignore[index]


def test_bug_is_answered_without_its_entrails(site: Site) -> None:
    job = site.a_submitted_job()
    site.receive(job, 1)
    site.cloud.objects.fail_next(ZeroDivisionError("secret"))
    answer = site.ask("GET", f"/jobs/{job}/frames/1/preview")
    assert answer.status_code == 500
    assert "secret" not in answer.text


# What becomes of a job.


def test_new_job_is_a_draft_that_says_what_it_lacks(site: Site) -> None:
    answer = site.ask("POST", "/jobs", json={"name": "Shot 1"})
    assert answer.status_code == 201
    job: Any = answer.json
    assert (job["name"], job["status"], job["owner"], job["cost"]) == ("Shot 1", "draft", "ada", 0)
    assert job["url"] == f"http://localhost/jobs/{job['id']}"
    assert job["blockers"]
    assert job["actions"] == ["delete"]


def test_job_may_be_made_without_a_body(site: Site) -> None:
    assert site.ask("POST", "/jobs").status_code == 201


def test_public_url_stands_in_the_addresses_that_are_given_out(tmp_path: Path) -> None:
    config = Config.model_validate({"server": {"public_url": "https://farm.example/"}})
    with a_site(tmp_path, config=config) as site:
        assert site.ask("POST", "/jobs").json["url"].startswith("https://farm.example/jobs/job_")  # type: ignore[index]


def test_jobs_are_listed_newest_first_in_pages(site: Site) -> None:
    made = [site.a_job(f"job {number}") for number in range(3)]
    first = site.ask("GET", "/jobs?limit=2")
    assert [job["id"] for job in first.json or []] == [made[2], made[1]]
    assert first.headers["Link"] == f'<http://localhost/api/v1/jobs?limit=2&after={made[1]}>; rel="next"'
    second = site.ask("GET", f"/jobs?limit=2&after={made[1]}")
    assert [job["id"] for job in second.json or []] == [made[0]]
    assert "Link" not in second.headers


def test_inspected_scene_prefills_the_job(site: Site) -> None:
    job = site.a_job("")
    site.a_blend(job)
    seen: Any = site.ask("GET", f"/jobs/{job}").json
    assert seen["main_file"] == "kiln.blend"
    assert seen["scene"]["frame_end"] >= 24
    assert seen["scene"]["engine"]
    assert seen["frames_spec"] == f"{seen['scene']['frame_start']}-{seen['scene']['frame_end']}"
    assert "submit" in seen["actions"]


def test_submitted_job_has_its_frames_and_settings(site: Site) -> None:
    job = site.a_job()
    site.a_blend(job)
    wish = {"frames": "1-10x3", "instances": 2, "output": {"format": "OPEN_EXR", "resolution_pct": 50}, "persistent_data": False}
    answer = site.ask("POST", f"/jobs/{job}/submit", json=wish)
    assert answer.status_code == 202
    seen: Any = answer.json
    assert (seen["status"], seen["frames"]["total"], seen["frames"]["queued"]) == ("submitted", 4, 4)
    assert seen["settings"]["instances"] == 2
    assert seen["settings"]["output"] == {"name": None, "format": "OPEN_EXR", "resolution_pct": 50, "samples": None}
    assert seen["settings"]["persistent_data"] is False


def test_settings_left_out_stay_and_null_sets_back(site: Site) -> None:
    job = site.a_job()
    site.a_blend(job)
    site.ask("PATCH", f"/jobs/{job}", json={"settings": {"frames": "1-2", "instances": 2, "output": {"samples": 8, "name": "a_"}}})
    seen: Any = site.ask("PATCH", f"/jobs/{job}", json={"settings": {"frames": None, "output": {"samples": 4}}}).json
    assert seen["settings"]["frames"] is None
    assert seen["settings"]["instances"] == 2
    assert seen["settings"]["output"]["samples"] == 4
    assert seen["settings"]["output"]["name"] == "a_"


def test_market_and_price_are_taken_where_there_is_a_market(tmp_path: Path) -> None:
    config = Config.model_validate({"cloud": {"provider": "aws"}})
    wish = {"settings": {"market": "spot", "max_price_usd_per_h": 0.1, "instance_types": ["g5.xlarge"]}}
    with a_site(tmp_path, config=config) as site:
        settings: Any = site.ask("PATCH", f"/jobs/{site.a_job()}", json=wish).get_json()["settings"]
    assert (settings["market"], settings["max_price_usd_per_h"], settings["instance_types"]) == ("spot", 0.1, ["g5.xlarge"])


def test_way_of_the_files_is_chosen_where_there_are_several_and_null_leaves_it_to_the_farm(tmp_path: Path) -> None:
    config = Config.model_validate({"cloud": {"provider": "aws"}})
    with a_site(tmp_path, config=config) as site:
        job = site.a_job()

        def wish(mode: str | None) -> Any:
            return site.ask("PATCH", f"/jobs/{job}", json={"settings": {"workspace_mode": mode}}).get_json()

        assert [wish(mode)["settings"]["workspace_mode"] for mode in ("snapshot", None)] == ["snapshot", None]
        assert wish("floppy")["status"] == 422


def test_way_of_the_files_is_refused_where_nothing_is_rented(site: Site) -> None:
    wish = {"settings": {"workspace_mode": "s3"}}
    assert set(fields(site.ask("PATCH", f"/jobs/{site.a_job()}", json=wish))) == {"workspace_mode"}


def test_blender_is_chosen_by_its_series_and_null_leaves_it_to_the_file(site: Site) -> None:
    site.cloud.premises.blenders_found = [BlenderFound(version=version, where="here") for version in ("4.5.15", "5.2.2")]
    job = site.a_job()
    site.a_blend(job)

    def wish(series: str | None) -> tuple[str | None, str, bool]:
        seen: Any = site.ask("PATCH", f"/jobs/{job}", json={"settings": {"blender": series}}).json
        return seen["settings"]["blender"], seen["blender_version"], seen["blender_words"].endswith("; rendered with 5.2.2.")

    assert [wish("5.2"), wish(None)] == [("5.2", "5.2.2", True), (None, "4.5.15", False)]
    assert "it has 4.5.15, 5.2.2" in fields(site.ask("PATCH", f"/jobs/{job}", json={"settings": {"blender": "4.4"}}))["blender"]
    assert set(fields(site.ask("POST", f"/jobs/{job}/submit", json={"blender": "newest"}))) == {"blender"}


def test_spot_on_a_farm_without_a_market_is_refused_at_its_field(site: Site) -> None:
    assert set(fields(site.ask("PATCH", f"/jobs/{site.a_job()}", json={"settings": {"market": "spot"}}))) == {"market"}


def test_name_is_changed_by_patch(site: Site) -> None:
    job = site.a_job("before")
    assert site.ask("PATCH", f"/jobs/{job}", json={"name": "after"}).json["name"] == "after"  # type: ignore[index]


def test_main_file_is_chosen_by_path(site: Site) -> None:
    job = site.a_job()
    site.a_blend(job, "a.blend")
    site.a_blend(job, "sub/b.blend")
    seen: Any = site.ask("GET", f"/jobs/{job}").json
    assert (seen["main_file"], seen["main_candidates"]) == (None, ["a.blend", "sub/b.blend"])
    assert site.ask("PATCH", f"/jobs/{job}", json={"main_file": "sub/b.blend"}).json["main_file"] == "sub/b.blend"  # type: ignore[index]
    assert site.ask("PATCH", f"/jobs/{job}", json={"main_file": "none.blend"}).status_code == 404


def test_two_blends_and_no_choice_are_a_problem_at_the_main_file(site: Site) -> None:
    job = site.a_job()
    site.a_blend(job, "a.blend")
    site.a_blend(job, "b.blend")
    assert set(fields(site.ask("POST", f"/jobs/{job}/submit"))) == {"main_file"}


def test_what_the_status_forbids_is_a_conflict_that_names_it(site: Site) -> None:
    job = site.a_job()
    for wish in ("pause", "resume", "cancel", "retry"):
        answer = site.ask("POST", f"/jobs/{job}/{wish}")
        assert answer.status_code == 409
        assert "draft" in problem(answer)["detail"]


def test_cancelled_job_can_be_retried_and_deleted(site: Site) -> None:
    job = site.a_submitted_job()
    assert site.ask("POST", f"/jobs/{job}/cancel").status_code == 202
    assert site.ask("GET", f"/jobs/{job}").json["actions"] == ["retry", "render_again", "delete"]  # type: ignore[index]
    assert site.ask("POST", f"/jobs/{job}/retry").json["status"] == "submitted"  # type: ignore[index]
    assert site.ask("DELETE", f"/jobs/{job}").status_code == 409
    site.ask("POST", f"/jobs/{job}/cancel")
    assert site.ask("DELETE", f"/jobs/{job}").status_code == 204
    assert site.ask("GET", f"/jobs/{job}").status_code == 404


def test_full_disk_is_507(site: Site) -> None:
    job = site.a_job()
    site.cloud.premises.free = 1 << 20
    answer = site.ask("POST", f"/jobs/{job}/files", json={"path": "a.blend", "bytes": 1 << 30})
    assert answer.status_code == 507
    assert problem(answer)["detail"]
