"""The contract of Workspaces: in memory, and in folders on this machine."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from supervisor.cloud.local.workspaces import LocalWorkspaces
from supervisor.cloud.ports import StagedFile, Workspaces, WorkspaceState
from tests.fakes import FakeObjectStore, FakeWorkspaces
from tests.waiting import wait_until

JOB = "job_a"
CONTENT = {"scene.blend": b"BLENDER", "tex/wood & 'oak'.png": b"PNG" * 1000, "tex/empty": b""}


@dataclass
class Place:
    workspaces: Workspaces
    objects: FakeObjectStore

    def upload(self, path: str, body: bytes) -> StagedFile:
        key = f"projects/{JOB}/{path}"
        self.objects.put(key, body)
        return StagedFile(path=path, key=key, bytes=len(body), checksum=f"crc32:{zlib.crc32(body):08x}")

    def settled(self) -> WorkspaceState:
        def ask() -> WorkspaceState | None:
            state = self.workspaces.state(JOB)
            return state if state and (state.is_staged or state.problem) else None

        state = wait_until(ask)
        assert state is not None
        return state

    def frozen(self) -> WorkspaceState:
        def ask() -> WorkspaceState | None:
            state = self.workspaces.state(JOB)
            return state if state and state.snapshot else None

        state = wait_until(ask)
        assert state is not None
        return state


@pytest.fixture(params=["fake", "local"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    objects = FakeObjectStore()
    if request.param == "fake":
        yield Place(FakeWorkspaces(objects), objects)
        return
    local = LocalWorkspaces(tmp_path / "workspaces", objects)
    yield Place(local, objects)
    local.close()


def test_job_without_a_workspace_has_no_state(place: Place) -> None:
    assert place.workspaces.state(JOB) is None
    assert list(place.workspaces.jobs()) == []


def test_staged_workspace_has_every_byte(place: Place) -> None:
    files = [place.upload(path, body) for path, body in CONTENT.items()]
    place.workspaces.stage(JOB, files, request_id="r1")
    state = place.settled()
    assert (state.is_staged, state.problem, state.snapshot) == (True, "", None)
    assert state.staged_bytes == state.total_bytes == sum(len(body) for body in CONTENT.values())
    assert list(place.workspaces.jobs()) == [JOB]


def test_staging_again_fetches_nothing_again(place: Place) -> None:
    files = [place.upload(path, body) for path, body in CONTENT.items()]
    place.workspaces.stage(JOB, files, request_id="r1")
    place.settled()
    place.objects.delete([file.key for file in files])
    place.workspaces.stage(JOB, files, request_id="r1")
    assert place.settled().is_staged


def test_missing_object_is_a_problem_that_names_the_file(place: Place) -> None:
    files = [place.upload(path, body) for path, body in CONTENT.items()]
    place.objects.delete([files[1].key])
    place.workspaces.stage(JOB, files, request_id="r1")
    state = place.settled()
    assert not state.is_staged
    assert "wood & 'oak'.png" in state.problem
    assert "upload it again" in state.problem


@pytest.mark.parametrize("body", [b"short", b"BLENDEr"], ids=["other size", "other content"])
def test_file_that_differs_from_what_was_uploaded_is_a_problem(place: Place, body: bytes) -> None:
    file = place.upload("scene.blend", b"BLENDER")
    place.objects.put(file.key, body)
    place.workspaces.stage(JOB, [file], request_id="r1")
    state = place.settled()
    assert not state.is_staged
    assert "scene.blend" in state.problem


def test_file_without_a_checksum_is_held_to_its_size(place: Place) -> None:
    file = replace(place.upload("scene.blend", b"BLENDER"), checksum="")
    place.workspaces.stage(JOB, [file], request_id="r1")
    assert place.settled().is_staged


def test_staging_goes_on_after_its_problem_is_mended(place: Place) -> None:
    file = place.upload("scene.blend", b"BLENDER")
    place.objects.delete([file.key])
    place.workspaces.stage(JOB, [file], request_id="r1")
    assert place.settled().problem
    place.upload("scene.blend", b"BLENDER")
    place.workspaces.stage(JOB, [file], request_id="r2")
    state = wait_until(lambda: place.settled() if place.settled().is_staged else None)
    assert state is not None
    assert state.problem == ""


def test_snapshot_of_a_staged_workspace_has_an_id(place: Place) -> None:
    place.workspaces.stage(JOB, [place.upload("scene.blend", b"BLENDER")], request_id="r1")
    place.settled()
    place.workspaces.snapshot(JOB, request_id="s1")
    state = place.frozen()
    place.workspaces.snapshot(JOB, request_id="s1")
    assert place.frozen().snapshot == state.snapshot
    assert state.is_staged


def test_workspace_that_is_not_staged_is_not_frozen(place: Place) -> None:
    file = place.upload("scene.blend", b"BLENDER")
    place.objects.delete([file.key])
    place.workspaces.stage(JOB, [file], request_id="r1")
    place.settled()
    place.workspaces.snapshot(JOB, request_id="s1")
    assert place.settled().snapshot is None
    place.workspaces.snapshot("job_nobody", request_id="s1")
    assert place.workspaces.state("job_nobody") is None


def test_releasing_copies_keeps_the_snapshot(place: Place) -> None:
    place.workspaces.stage(JOB, [place.upload("scene.blend", b"BLENDER")], request_id="r1")
    place.settled()
    place.workspaces.snapshot(JOB, request_id="s1")
    snapshot = place.frozen().snapshot
    place.workspaces.release_copies(JOB)
    place.workspaces.release_copies("job_nobody")
    assert place.frozen().snapshot == snapshot


def test_deleted_workspace_is_gone_and_may_be_staged_anew(place: Place) -> None:
    file = place.upload("scene.blend", b"BLENDER")
    place.workspaces.stage(JOB, [file], request_id="r1")
    place.settled()
    for _ in range(2):
        place.workspaces.delete(JOB)
        assert place.workspaces.state(JOB) is None
    place.workspaces.stage(JOB, [file], request_id="r2")
    assert place.settled().is_staged
