"""What the farm writes down of each job's workspace, and what it makes of it after a restart."""

from __future__ import annotations

from dataclasses import replace

import pytest

from supervisor.cloud.aws.workspace_records import Record, Records, record_key
from supervisor.domain.workspace import WorkspaceMode
from tests.fakes import FakeObjectStore
from tests.fakes.farm import BEGIN, Clock

RECORD = Record(
    job="job_a",
    content="c0ffee",
    mode=WorkspaceMode.SNAPSHOT,
    bytes=7,
    gib=1,
    attempt=2,
    token="stage-1",
    instance="i-1",
    asked_at=BEGIN,
    freeze_asked_at=BEGIN,
)


@pytest.fixture
def objects() -> FakeObjectStore:
    return FakeObjectStore()


def test_record_is_the_same_after_a_restart(objects: FakeObjectStore) -> None:
    Records(objects, clock=Clock()).save(RECORD)
    assert Records(objects, clock=Clock()).all() == {"job_a": RECORD}


def test_record_of_a_volume_that_the_farm_fills_itself_is_the_same_after_a_restart(objects: FakeObjectStore) -> None:
    filled_here = replace(RECORD, instance="", host="i-here", volume="vol-1")
    Records(objects, clock=Clock()).save(filled_here)
    assert Records(objects, clock=Clock()).find("job_a") == filled_here


def test_job_without_a_record_has_none(objects: FakeObjectStore) -> None:
    records = Records(objects, clock=Clock())
    records.save(RECORD)
    records.forget("job_a")
    assert records.find("job_a") is None
    assert objects.keys() == []


def test_what_another_process_changed_is_seen_in_time_and_at_once_when_asked_for(objects: FakeObjectStore) -> None:
    clock = Clock()
    mine, other = Records(objects, clock=clock), Records(objects, clock=clock)
    mine.save(RECORD)
    assert mine.find("job_a") == RECORD
    other.save(replace(RECORD, attempt=3))
    assert mine.find("job_a") == RECORD
    clock.pass_s(31)
    assert mine.find("job_a") == replace(RECORD, attempt=3)
    other.forget("job_a")
    mine.refresh()
    assert mine.find("job_a") is None


@pytest.mark.parametrize("body", [b"", b"[]", b'{"job": "job_a"}', b'{"mode": "floppy"}'])
def test_record_that_can_not_be_read_is_none_at_all(objects: FakeObjectStore, body: bytes) -> None:
    objects.put(record_key("job_a"), body)
    assert Records(objects, clock=Clock()).all() == {}


def test_what_a_newer_farm_adds_is_passed_over(objects: FakeObjectStore) -> None:
    Records(objects, clock=Clock()).save(RECORD)
    there = objects.get(record_key("job_a"))
    assert there is not None
    objects.put(record_key("job_a"), there.body.replace(b"{", b'{"added": 1, ', 1))
    assert Records(objects, clock=Clock()).find("job_a") == RECORD
