"""Files on their way take three of four threads at most: pages answer however many people fetch and send."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from werkzeug.test import TestResponse

from nodeimage.protocol import output_key
from supervisor.config import Config
from supervisor.domain.job import JobStatus

from .web_site import WebSite, a_web_site

CONFIG = Config.model_validate({"server": {"threads": 4}})
LANES = 3


@pytest.fixture
def site(tmp_path: Path) -> Iterator[WebSite]:
    with a_web_site(tmp_path, config=CONFIG) as site:
        yield site


def begun(site: WebSite, job: str) -> TestResponse:
    """An output on its way: its bytes are not read yet."""
    return site.browser.get(f"/api/v1/jobs/{job}/frames/1/outputs/shot0001.png")


def test_beyond_its_lanes_the_farm_asks_to_come_again_and_its_pages_answer(site: WebSite) -> None:
    job = site.a_job(JobStatus.COMPLETED, received=3)
    held = [begun(site, job) for _ in range(LANES)]
    assert [each.status_code for each in held] == [200] * LANES

    refused = begun(site, job)

    assert (refused.status_code, refused.headers["Retry-After"]) == (503, "5")
    assert "ask again in a moment" in refused.get_json()["detail"]
    assert site.get("/jobs").status_code == 200
    held[0].close()
    assert begun(site, job).status_code == 200


def test_a_lane_is_given_back_whether_the_file_was_sent_or_could_not_be_read(site: WebSite) -> None:
    job = site.a_job(JobStatus.COMPLETED, received=3)
    for _ in range(LANES + 1):
        with begun(site, job) as sent:
            assert sent.data == b"picture"
    site.fake.cloud.objects.delete([output_key(job, 1, "shot0001.png")])
    for _ in range(LANES + 1):
        assert begun(site, job).status_code == 404


def test_an_upload_waits_for_a_lane_too(site: WebSite) -> None:
    job, draft = site.a_job(JobStatus.COMPLETED, received=3), site.a_draft()
    held = [begun(site, job) for _ in range(LANES)]
    assert put(site, draft).status_code == 503
    held[0].close()
    assert put(site, draft).status_code == 200


def put(site: WebSite, draft: str) -> TestResponse:
    token = site.get("/account").text.split('name="csrf-token" content="')[1].split('"')[0]
    return site.browser.put(f"/api/v1/jobs/{draft}/files/wood.png", data=b"wood", headers={"X-CSRFToken": token}, buffered=True)
