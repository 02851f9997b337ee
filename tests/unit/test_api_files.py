"""Uploads through the HTTP API: in parts, in one request, and where each part is to be sent."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from itsdangerous import TimestampSigner, URLSafeTimedSerializer
from werkzeug.test import TestResponse

from app.api.files import PART_URL_S
from supervisor.cloud.ports import Unreachable
from supervisor.config import Config
from tests.unit.api_site import LINK_KEY, Site, a_site

MIB = 1 << 20
PART = 5 * MIB
CONTENT = bytes(range(256)) * (11 * MIB // 256) + b"tail"
REMOTE = {"REMOTE_ADDR": "192.168.1.9"}


class EarlySigner(TimestampSigner):
    """Signs as it did before addresses of today ended."""

    def get_timestamp(self) -> int:
        return super().get_timestamp() - PART_URL_S - 5


class EarlySerializer(URLSafeTimedSerializer):
    default_signer = EarlySigner


def _config(**store: str) -> Config:
    return Config.model_validate({"uploads": {"part_mib": 5}, "store": store})


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with a_site(tmp_path, config=_config()) as made:
        yield made


def begin(site: Site, job: str, *, path: str = "cache.abc", length: int = len(CONTENT), query: str = "", **options: Any) -> Any:
    options.setdefault("environ_base", REMOTE)
    answer = site.ask("POST", f"/jobs/{job}/files{query}", json={"path": path, "bytes": length, "modified_ms": 5}, **options)
    assert answer.status_code == 201, answer.text
    return answer.json


def put(site: Site, url: str, body: bytes) -> TestResponse:
    """Put to a part's address as a client does that knows nothing else: no token, no cookie."""
    parts = urlsplit(url)
    return site.app.test_client().put(parts.path, data=body, content_type="application/octet-stream")


def piece(number: int) -> bytes:
    return CONTENT[(number - 1) * PART : number * PART]


def test_file_arrives_in_parts_through_the_app(site: Site) -> None:
    job = site.a_job()
    plan = begin(site, job)
    assert (plan["part_bytes"], plan["received"]) == (PART, [])
    assert [part["number"] for part in plan["parts"]] == [1, 2, 3]
    assert plan["parts"][0]["url"].startswith("http://localhost/api/v1/parts/")
    etags = [{"number": part["number"], "etag": put(site, part["url"], piece(part["number"])).headers["ETag"]} for part in plan["parts"]]
    whole: Any = site.ask("POST", f"/jobs/{job}/files/{plan['id']}/complete", json={"parts": etags}).json
    assert (whole["path"], whole["bytes"], whole["status"]) == ("cache.abc", len(CONTENT), "ready")
    stored = site.cloud.objects.get(f"projects/{job}/cache.abc")
    assert stored is not None
    assert stored.body == CONTENT


def test_interrupted_upload_goes_on_with_what_is_missing(site: Site) -> None:
    job = site.a_job()
    plan = begin(site, job)
    put(site, plan["parts"][1]["url"], piece(2))
    resumed: Any = site.ask("GET", f"/jobs/{job}/files/{plan['id']}/parts", environ_base=REMOTE).json
    assert [part["number"] for part in resumed["received"]] == [2]
    assert resumed["received"][0]["bytes"] == PART
    assert [part["number"] for part in resumed["parts"]] == [1, 3]
    assert begin(site, job)["id"] == plan["id"], "beginning it again goes on with it too"


def test_wrong_etag_is_refused_at_parts_and_the_upload_goes_on(site: Site) -> None:
    job = site.a_job()
    plan = begin(site, job)
    etags = [put(site, part["url"], piece(part["number"])).headers["ETag"] for part in plan["parts"]]
    wrong = [{"number": number, "etag": "0" * 32 if number == 2 else etag} for number, etag in enumerate(etags, start=1)]
    answer = site.ask("POST", f"/jobs/{job}/files/{plan['id']}/complete", json={"parts": wrong})
    assert answer.status_code == 422
    assert answer.get_json()["errors"][0]["field"] == "parts"
    right = [{"number": number, "etag": etag} for number, etag in enumerate(etags, start=1)]
    assert site.ask("POST", f"/jobs/{job}/files/{plan['id']}/complete", json={"parts": right}).status_code == 200


def test_part_of_another_length_is_refused(site: Site) -> None:
    plan = begin(site, site.a_job())
    assert put(site, plan["parts"][0]["url"], b"short").status_code == 422


def test_part_without_a_length_is_refused(site: Site) -> None:
    plan = begin(site, site.a_job())
    answer = site.app.test_client().put(
        urlsplit(plan["parts"][0]["url"]).path,
        input_stream=io.BytesIO(piece(1)),
        environ_overrides={"wsgi.input_terminated": True, "HTTP_TRANSFER_ENCODING": "chunked"},
    )
    assert answer.status_code == 411
    assert "Content-Length" in answer.get_json()["detail"]


def test_address_of_a_part_ends_after_six_hours(site: Site) -> None:
    job = site.a_job()
    file = begin(site, job)["id"]
    token = EarlySerializer(LINK_KEY, salt="kiln.part").dumps([job, file])
    answer = put(site, f"/api/v1/parts/{token}/1", piece(1))
    assert answer.status_code == 403
    assert "expired" in answer.get_json()["detail"]


def test_forged_address_of_a_part_is_refused(site: Site) -> None:
    job = site.a_job()
    file = begin(site, job)["id"]
    for token in ("x", URLSafeTimedSerializer("another key", salt="kiln.part").dumps([job, file])):
        assert put(site, f"/api/v1/parts/{token}/1", piece(1)).status_code == 403


def test_address_of_a_part_is_no_download_link_and_no_login(site: Site) -> None:
    plan = begin(site, site.a_job())
    token = urlsplit(plan["parts"][0]["url"]).path.split("/")[4]
    assert site.app.test_client().get("/api/v1/jobs", headers={"Authorization": f"Bearer {token}"}).status_code == 401


# Where parts go.


def is_direct(plan: Any) -> bool:
    return bool(plan["parts"][0]["url"].startswith("http://store.invalid/"))


def test_client_on_this_machine_gets_addresses_of_the_store_itself(site: Site) -> None:
    assert is_direct(begin(site, site.a_job(), environ_base={"REMOTE_ADDR": "127.0.0.1"}, base_url="http://localhost:8000"))
    assert is_direct(begin(site, site.a_job(), environ_base={"REMOTE_ADDR": "::1"}, base_url="http://[::1]:8000"))
    assert is_direct(begin(site, site.a_job(), environ_base={"REMOTE_ADDR": "::ffff:127.0.0.1"}, base_url="http://127.0.0.1:8000"))


@pytest.mark.parametrize(
    ("remote", "host", "headers"),
    [
        ("192.168.1.9", "localhost", {}),
        ("127.0.0.1", "farm.example", {}),
        ("127.0.0.1", "localhost", {"X-Forwarded-For": "192.168.1.9"}),
        ("127.0.0.1", "localhost", {"Forwarded": "for=192.168.1.9"}),
        ("127.0.0.1", "localhost.example", {}),
    ],
)
def test_client_that_may_be_elsewhere_goes_through_the_app(site: Site, remote: str, host: str, headers: dict[str, str]) -> None:
    plan = begin(site, site.a_job(), environ_base={"REMOTE_ADDR": remote}, base_url=f"http://{host}", headers=headers)
    assert not is_direct(plan)


def test_client_that_could_go_direct_may_ask_for_the_way_through_the_app(site: Site) -> None:
    job, here = site.a_job(), {"REMOTE_ADDR": "127.0.0.1"}
    plan = begin(site, job, environ_base=here, query="?through=app")
    assert not is_direct(plan)
    resumed: Any = site.ask("GET", f"/jobs/{job}/files/{plan['id']}/parts?through=app", environ_base=here).json
    assert not is_direct(resumed)


def test_stores_public_endpoint_is_given_to_everybody(tmp_path: Path) -> None:
    with a_site(tmp_path, config=_config(public_endpoint="http://store.invalid")) as site:
        assert is_direct(begin(site, site.a_job(), environ_base=REMOTE))


def test_store_of_the_studio_without_a_public_endpoint_is_reached_through_the_app(tmp_path: Path) -> None:
    with a_site(tmp_path, config=_config(endpoint="http://10.0.0.2:9000")) as site:
        assert not is_direct(begin(site, site.a_job(), environ_base={"REMOTE_ADDR": "127.0.0.1"}))


# In one request, and afterwards.


def test_file_is_put_in_one_request_with_slashes_and_unicode_in_its_path(site: Site) -> None:
    job = site.a_job()
    made: Any = site.ask("PUT", f"/jobs/{job}/files/tex/dunkles%20Holz%20“ä”.png", data=b"wood").json
    assert (made["path"], made["bytes"], made["status"]) == ("tex/dunkles Holz “ä”.png", 4, "ready")


def test_file_without_a_length_is_refused(site: Site) -> None:
    answer = site.ask(
        "PUT",
        f"/jobs/{site.a_job()}/files/a.png",
        input_stream=io.BytesIO(b"x"),
        environ_overrides={"wsgi.input_terminated": True, "HTTP_TRANSFER_ENCODING": "chunked"},
    )
    assert answer.status_code == 411


@pytest.mark.parametrize("path", ["../up.png", "a/../../up.png", "C:/up.png", "n" * 256, "a\x07.png"])
def test_path_that_can_not_be_is_explained_at_its_field(site: Site, path: str) -> None:
    answer = site.ask("POST", f"/jobs/{site.a_job()}/files", json={"path": path, "bytes": 1})
    assert answer.status_code == 422
    assert answer.get_json()["errors"][0]["field"] == "path"


def test_names_that_differ_in_case_alone_are_refused(site: Site) -> None:
    job = site.a_job()
    site.ask("PUT", f"/jobs/{job}/files/Wood.png", data=b"x")
    answer = site.ask("PUT", f"/jobs/{job}/files/wood.png", data=b"x")
    assert answer.status_code == 422
    assert "Wood.png" in answer.get_json()["detail"]


def test_empty_file_is_refused(site: Site) -> None:
    answer = site.ask("PUT", f"/jobs/{site.a_job()}/files/a.png", environ_overrides={"CONTENT_LENGTH": "0"})
    assert answer.status_code == 422
    assert answer.get_json()["errors"][0]["field"] == "bytes"


def test_files_are_listed_by_path_in_pages(site: Site) -> None:
    job = site.a_job()
    for name in ("b b.png", "a.png", "c.png"):
        site.ask("PUT", f"/jobs/{job}/files/{name}", data=b"x")
    first = site.ask("GET", f"/jobs/{job}/files?limit=2")
    assert [file["path"] for file in first.json or []] == ["a.png", "b b.png"]
    assert first.headers["Link"] == f'<http://localhost/api/v1/jobs/{job}/files?limit=2&after=b+b.png>; rel="next"'
    rest = site.ask("GET", f"/jobs/{job}/files?limit=2&after=b+b.png")
    assert [file["path"] for file in rest.json or []] == ["c.png"]


def test_file_is_shown_and_removed_by_its_id_and_by_its_path(site: Site) -> None:
    job = site.a_job()
    made: Any = site.ask("PUT", f"/jobs/{job}/files/tex/a.png", data=b"x").json
    assert site.ask("GET", f"/jobs/{job}/files/tex/a.png").json == site.ask("GET", f"/jobs/{job}/files/{made['id']}").json == made
    assert site.ask("DELETE", f"/jobs/{job}/files/tex/a.png").status_code == 204
    assert site.ask("GET", f"/jobs/{job}/files/tex/a.png").status_code == 404
    again: Any = site.ask("PUT", f"/jobs/{job}/files/tex/a.png", data=b"x").json
    assert site.ask("DELETE", f"/jobs/{job}/files/{again['id']}").status_code == 204


def test_file_that_is_no_blend_is_bad_and_says_what_to_do(site: Site) -> None:
    made: Any = site.ask("PUT", f"/jobs/{site.a_job()}/files/scene.blend", data=b"no blend at all").json
    assert made["status"] == "bad"
    assert made["problem"]


def test_store_that_does_not_answer_is_a_problem_that_passes(site: Site) -> None:
    site.cloud.uploads.fail_next(Unreachable("no answer"), times=20)
    answer = site.ask("POST", f"/jobs/{site.a_job()}/files", json={"path": "a.png", "bytes": 1})
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "2")
