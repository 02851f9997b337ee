"""Of jobs that wait for instances, the one of higher priority goes first; among equals, the earlier."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from supervisor import queries
from supervisor.commands import jobs as commands
from supervisor.domain.errors import Conflict, Rejected
from supervisor.domain.job import JobStatus
from supervisor.domain.settings import JobSettings
from supervisor.store.encoding import settings_from_json, settings_to_json
from tests.fakes.farm import FakeFarm
from tests.fakes.node import FakeNodes
from tests.unit.api_site import Site, a_site
from tests.unit.web_site import WebSite, a_web_site, root


@pytest.fixture
def site(tmp_path: Path) -> Iterator[WebSite]:
    with a_web_site(tmp_path) as site:
        yield site


@pytest.fixture
def api(tmp_path: Path) -> Iterator[Site]:
    with a_site(tmp_path) as site:
        yield site


@pytest.mark.parametrize(("priorities", "first"), [((50, 50), 0), ((50, 51), 1), ((100, 0), 0), ((0, 50), 1)])
def test_the_free_slot_goes_to_the_job_of_higher_priority_and_then_to_the_earlier(
    tmp_path: Path, priorities: tuple[int, int], first: int
) -> None:
    bench = FakeFarm.open(tmp_path, slots=1)
    jobs = []
    for priority in priorities:
        jobs.append(bench.a_submitted_job(settings=JobSettings(priority=priority)))
        bench.clock.pass_s(1)

    bench.tick()
    bench.tick()

    assert bench.status(jobs[first]) is JobStatus.RENDERING
    assert bench.status(jobs[1 - first]) is JobStatus.LAUNCHING


def test_settings_of_before_there_were_priorities_have_the_one_in_the_middle() -> None:
    old = settings_to_json(JobSettings(instances=3))
    del old["priority"]

    assert settings_from_json(old) == JobSettings(instances=3, priority=50)


@pytest.mark.parametrize("priority", [-1, 101])
def test_a_priority_that_is_none_is_refused_by_its_field(tmp_path: Path, priority: int) -> None:
    with pytest.raises(Rejected, match="from 0 to 100") as refusal:
        FakeFarm.open(tmp_path).a_submitted_job(settings=JobSettings(priority=priority))
    assert refusal.value.field == "priority"


@pytest.mark.parametrize(("typed", "kept"), [("80", 80), ("0", 0), ("", 50)])
def test_the_form_keeps_the_priority_that_was_typed(site: WebSite, typed: str, kept: int) -> None:
    job = site.a_draft()
    form = {"frames": "1-3", "frames_default": "1-3", "instances": "1", "persistent_data": "on", "priority": typed}

    site.post(f"/jobs/{job}/keep-settings", form)

    assert queries.job_detail(site.farm, job).settings.priority == kept


def test_the_form_says_what_a_priority_is_where_none_was_typed(site: WebSite) -> None:
    job = site.a_draft()
    form = {"frames": "1-3", "frames_default": "1-3", "instances": "1", "persistent_data": "on", "priority": "high"}

    answer = site.post(f"/jobs/{job}/submit", form)

    assert answer.status_code == 422
    assert "Priority: write a whole number from 0 to 100." in answer.text


def test_the_api_takes_a_priority_and_tells_it(api: Site) -> None:
    job = api.a_job()

    api.ask("PATCH", f"/jobs/{job}", json={"settings": {"priority": 75}})

    seen = api.ask("GET", f"/jobs/{job}").json
    assert seen
    assert seen["settings"]["priority"] == 75


def test_a_job_that_waits_goes_first_once_its_priority_is_raised(tmp_path: Path) -> None:
    bench = FakeFarm.open(tmp_path, slots=1)
    nodes = FakeNodes(bench)
    jobs = []
    for _ in range(3):
        jobs.append(bench.a_submitted_job(frames="1"))
        bench.clock.pass_s(1)
    bench.tick()
    bench.tick()
    assert [bench.status(job) for job in jobs] == [JobStatus.RENDERING, JobStatus.LAUNCHING, JobStatus.LAUNCHING]
    bench.woken.clear()

    commands.change_priority(bench.farm, jobs[2], 80)

    assert bench.woken.is_set()
    assert queries.job_events(bench.farm, jobs[2])[0].text == "a person gave it priority 80 instead of 50"
    for _ in range(4):
        nodes.work()
        bench.tick()
    assert bench.status(jobs[0]) is JobStatus.COMPLETED
    assert bench.status(jobs[2]) in {JobStatus.RENDERING, JobStatus.COMPLETED}
    assert bench.status(jobs[1]) is JobStatus.LAUNCHING


def test_an_ended_job_and_a_priority_that_is_none_are_refused(site: WebSite) -> None:
    job = site.a_job(JobStatus.COMPLETED, received=3)
    with pytest.raises(Conflict, match="not ended"):
        commands.change_priority(site.farm, job, 80)
    with pytest.raises(Rejected, match="0 to 100"):
        commands.change_priority(site.farm, site.a_job(JobStatus.RENDERING), 101)


def test_the_pages_form_changes_the_priority_in_place(site: WebSite) -> None:
    job = site.a_job(JobStatus.RENDERING)
    page = site.get(f"/jobs/{job}").text
    assert f'id="job-{job}-priority"' in page

    answer = site.post(f"/jobs/{job}/change-priority", {"priority": "75"})

    assert root(answer.text).attributes["id"] == f"job-{job}-priority"
    assert answer.headers["HX-Trigger-After-Settle"] == "job-changed"
    assert queries.job_detail(site.farm, job).settings.priority == 75
    assert site.get(root(answer.text).attributes["hx-get"]).status_code == 204
    refused = site.post(f"/jobs/{job}/change-priority", {"priority": "urgent"})
    assert refused.status_code == 422
    assert 'value="urgent"' in refused.text
    site.end(job, JobStatus.FAILED)
    assert "<form" not in site.get(f"/jobs/{job}/priority").text


def test_the_api_changes_the_priority_of_a_submitted_job(api: Site) -> None:
    job = api.a_submitted_job()

    answer = api.ask("PATCH", f"/jobs/{job}", json={"priority": 90})

    assert answer.status_code == 200
    assert answer.json
    assert answer.json["settings"]["priority"] == 90
    assert api.ask("PATCH", f"/jobs/{job}", json={"priority": 101}).status_code == 422
