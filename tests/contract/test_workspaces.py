"""The contract of Workspaces: in memory, in folders on this machine, and on AWS, as lists of files and as snapshots."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from supervisor.cloud.local.workspaces import LocalWorkspaces
from supervisor.cloud.ports import StagedFile, Workspaces, WorkspaceState
from supervisor.domain.workspace import WorkspaceMode
from tests.aws.moto_server import Moto
from tests.aws.workspace_place import WorkspacePlace
from tests.fakes import FakeObjectStore, FakeWorkspaces
from tests.waiting import wait_until

JOB = "job_a"
CONTENT = {"scene.blend": b"BLENDER", "tex/wood & 'oak'.png": b"PNG" * 1000, "tex/empty": b""}


@dataclass
class Place:
    workspaces: Workspaces
    objects: FakeObjectStore
    pass_time: Callable[[], object] = lambda: None  #: what happens outside of the farm meanwhile

    def upload(self, path: str, body: bytes) -> StagedFile:
        key = f"projects/{JOB}/{path}"
        self.objects.put(key, body)
        return StagedFile(path=path, key=key, bytes=len(body), checksum=f"crc32:{zlib.crc32(body):08x}")

    def stage(self, files: Sequence[StagedFile], *, request_id: str = "r1") -> WorkspaceState:
        """Stage, as the lifecycle does: again and again until it has an end."""

        def ask() -> WorkspaceState | None:
            self.pass_time()
            state = self.workspaces.state(JOB)
            if state and (state.is_staged or state.problem):
                return state
            self.workspaces.stage(JOB, files, request_id=request_id)
            return None

        self.workspaces.stage(JOB, files, request_id=request_id)
        state = wait_until(ask)
        assert state is not None
        return state

    def freeze(self) -> WorkspaceState:
        """Freeze, as the lifecycle does."""

        def ask() -> WorkspaceState | None:
            self.workspaces.snapshot(JOB, request_id="s1")
            self.pass_time()
            state = self.workspaces.state(JOB)
            return state if state and state.snapshot else None

        state = wait_until(ask)
        assert state is not None
        return state

    def state(self) -> WorkspaceState:
        state = self.workspaces.state(JOB)
        assert state is not None
        return state


READING = ["fake", "local", "aws snapshot"]  #: those that read the files; where nodes fetch them, these do


@pytest.fixture(params=[*READING, "aws s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    objects = FakeObjectStore()
    if request.param == "fake":
        yield Place(FakeWorkspaces(objects), objects)
    elif request.param == "local":
        local = LocalWorkspaces(tmp_path / "workspaces", objects)
        yield Place(local, objects)
        local.close()
    else:
        moto: Moto = request.getfixturevalue("moto")
        mode = WorkspaceMode(request.param.removeprefix("aws "))
        aws = WorkspacePlace(moto, request.getfixturevalue("aws_session"), objects=objects, mode=mode)
        yield Place(aws.workspaces, objects, pass_time=aws.player.work)


def test_job_without_a_workspace_has_no_state(place: Place) -> None:
    assert place.workspaces.state(JOB) is None
    assert list(place.workspaces.jobs()) == []


def test_staged_workspace_has_every_byte(place: Place) -> None:
    state = place.stage([place.upload(path, body) for path, body in CONTENT.items()])
    assert (state.is_staged, state.problem, state.snapshot) == (True, "", None)
    assert state.staged_bytes == state.total_bytes == sum(len(body) for body in CONTENT.values())
    assert list(place.workspaces.jobs()) == [JOB]


def test_staging_again_fetches_nothing_again(place: Place) -> None:
    files = [place.upload(path, body) for path, body in CONTENT.items()]
    place.stage(files)
    place.objects.delete([file.key for file in files])
    assert place.stage(files).is_staged


def test_missing_object_is_a_problem_that_names_the_file(place: Place) -> None:
    files = [place.upload(path, body) for path, body in CONTENT.items()]
    place.objects.delete([files[1].key])
    state = place.stage(files)
    assert not state.is_staged
    assert "wood & 'oak'.png" in state.problem
    assert "upload it again" in state.problem


def test_file_of_another_size_is_a_problem(place: Place) -> None:
    file = place.upload("scene.blend", b"BLENDER")
    place.objects.put(file.key, b"short")
    state = place.stage([file])
    assert not state.is_staged
    assert "scene.blend" in state.problem


@pytest.mark.parametrize("place", READING, indirect=True)
def test_file_that_differs_from_what_was_uploaded_is_a_problem(place: Place) -> None:
    file = place.upload("scene.blend", b"BLENDER")
    place.objects.put(file.key, b"BLENDEr")
    state = place.stage([file])
    assert not state.is_staged
    assert "scene.blend" in state.problem


def test_file_without_a_checksum_is_held_to_its_size(place: Place) -> None:
    assert place.stage([replace(place.upload("scene.blend", b"BLENDER"), checksum="")]).is_staged


def test_staging_goes_on_after_its_problem_is_mended(place: Place) -> None:
    file = place.upload("scene.blend", b"BLENDER")
    place.objects.delete([file.key])
    assert place.stage([file]).problem
    place.upload("scene.blend", b"BLENDER")
    state = wait_until(lambda: state if (state := place.stage([file], request_id="r2")).is_staged else None)
    assert state is not None
    assert state.problem == ""


def test_snapshot_of_a_staged_workspace_has_an_id(place: Place) -> None:
    place.stage([place.upload("scene.blend", b"BLENDER")])
    state = place.freeze()
    assert place.freeze().snapshot == state.snapshot
    assert state.is_staged


def test_other_files_make_another_workspace(place: Place) -> None:
    place.stage([place.upload("scene.blend", b"BLENDER")])
    place.freeze()
    state = place.stage([place.upload("scene.blend", b"BLENDER4"), place.upload("more.png", b"PNG")])
    assert (state.is_staged, state.total_bytes) == (True, 11)
    assert place.freeze().snapshot


def test_workspace_that_is_not_staged_is_not_frozen(place: Place) -> None:
    file = place.upload("scene.blend", b"BLENDER")
    place.objects.delete([file.key])
    place.stage([file])
    place.workspaces.snapshot(JOB, request_id="s1")
    assert place.state().snapshot is None
    place.workspaces.snapshot("job_nobody", request_id="s1")
    assert place.workspaces.state("job_nobody") is None


def test_releasing_copies_keeps_the_snapshot(place: Place) -> None:
    place.stage([place.upload("scene.blend", b"BLENDER")])
    snapshot = place.freeze().snapshot
    assert place.workspaces.release_copies(JOB)
    assert place.workspaces.release_copies("job_nobody")
    assert place.state().snapshot == snapshot


def test_deleted_workspace_is_gone_and_may_be_staged_anew(place: Place) -> None:
    file = place.upload("scene.blend", b"BLENDER")
    place.stage([file])
    for _ in range(2):
        place.workspaces.delete(JOB)
        assert place.workspaces.state(JOB) is None
    assert list(place.workspaces.jobs()) == []
    assert place.stage([file], request_id="r2").is_staged
