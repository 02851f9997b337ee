"""Workspaces in folders: what stands on the disk, what is kept over a restart, what is refused."""

from __future__ import annotations

import errno
import io
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import pytest

from supervisor.cloud.local.workspaces import LocalWorkspaces, snapshot_folder
from supervisor.cloud.ports import Refused, StagedFile, Unreachable, WorkspaceState
from tests.fakes import FakeObjectStore
from tests.waiting import wait_until

JOB = "job_a"


class BrokenDisk(io.BytesIO):
    """A stream at whose end the disk turns out to be full."""

    def read(self, size: int | None = -1, /) -> bytes:
        raise OSError(errno.ENOSPC, "No space left on device")


class ObjectsOnBrokenDisk(FakeObjectStore):
    def open(self, key: str, *, first_byte: int = 0) -> BinaryIO:
        return BrokenDisk()


def upload(objects: FakeObjectStore, path: str, body: bytes) -> StagedFile:
    key = f"projects/{JOB}/{path}"
    objects.put(key, body)
    return StagedFile(path=path, key=key, bytes=len(body), checksum=f"crc32:{zlib.crc32(body):08x}")


def state_when(workspaces: LocalWorkspaces, condition: Callable[[WorkspaceState], object]) -> WorkspaceState:
    def ask() -> WorkspaceState | None:
        state = workspaces.state(JOB)
        return state if state and condition(state) else None

    state = wait_until(ask)
    assert state is not None
    return state


def staged(workspaces: LocalWorkspaces) -> WorkspaceState:
    return state_when(workspaces, lambda state: state.is_staged)


def broken(workspaces: LocalWorkspaces) -> str:
    return state_when(workspaces, lambda state: state.problem).problem


def frozen(workspaces: LocalWorkspaces) -> str:
    workspaces.snapshot(JOB, request_id="s")
    return state_when(workspaces, lambda state: state.snapshot).snapshot or ""


def files_in(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_snapshot_is_the_files_read_only_in_one_folder(tmp_path: Path) -> None:
    objects = FakeObjectStore()
    workspaces = LocalWorkspaces(tmp_path, objects)
    workspaces.stage(JOB, [upload(objects, "scene.blend", b"BLENDER"), upload(objects, "tex/Größe 1.png", b"PNG")], request_id="r1")
    staged(workspaces)
    folder = snapshot_folder(tmp_path, frozen(workspaces))
    assert files_in(folder) == {"scene.blend": b"BLENDER", "tex/Größe 1.png": b"PNG"}
    assert {path.stat().st_mode & 0o777 for path in folder.rglob("*") if path.is_file()} == {0o444}
    workspaces.close()


@pytest.mark.parametrize("path", ["../outside", "/etc/outside", "tex/../../outside", "a/../../job_b/files/x", ""])
def test_path_that_leads_out_of_the_folder_is_never_written(tmp_path: Path, path: str) -> None:
    objects = FakeObjectStore()
    workspaces = LocalWorkspaces(tmp_path / "workspaces", objects)
    body = b"evil"
    objects.put("projects/evil", body)
    workspaces.stage(JOB, [StagedFile(path=path, key="projects/evil", bytes=len(body), checksum="")], request_id="r1")
    assert "leads out of the job's folder" in broken(workspaces)
    workspaces.close()
    assert not [found for found in files_in(tmp_path).values() if found == body]


@pytest.mark.parametrize("job", ["..", "", "a/b", ".hidden"])
def test_job_whose_name_is_no_folder_name_is_refused(tmp_path: Path, job: str) -> None:
    workspaces = LocalWorkspaces(tmp_path, FakeObjectStore())
    for call in (workspaces.state, workspaces.delete, lambda job: workspaces.stage(job, [], request_id="r1")):
        with pytest.raises(Refused):
            call(job)
    with pytest.raises(Refused):
        snapshot_folder(tmp_path, f"frozen-{job}")
    with pytest.raises(Refused):
        snapshot_folder(tmp_path, JOB)
    workspaces.close()


def test_next_server_goes_on_without_fetching_again(tmp_path: Path) -> None:
    objects = FakeObjectStore()
    good, lost = upload(objects, "scene.blend", b"BLENDER"), upload(objects, "tex.png", b"PNG")
    objects.delete([lost.key])
    first = LocalWorkspaces(tmp_path, objects)
    first.stage(JOB, [good], request_id="r1")
    staged(first)
    first.stage(JOB, [good, lost], request_id="r2")
    broken(first)
    first.close()
    objects.delete([good.key])
    upload(objects, "tex.png", b"PNG")
    second = LocalWorkspaces(tmp_path, objects)
    assert staged(second).staged_bytes == 10  # begun by the state being asked for
    second.close()


def test_snapshot_outlives_the_server(tmp_path: Path) -> None:
    objects = FakeObjectStore()
    file = upload(objects, "scene.blend", b"BLENDER")
    first = LocalWorkspaces(tmp_path, objects)
    first.stage(JOB, [file], request_id="r1")
    staged(first)
    snapshot = frozen(first)
    first.close()
    objects.delete([file.key])
    second = LocalWorkspaces(tmp_path, objects)
    second.stage(JOB, [file], request_id="r2")
    state = second.state(JOB)
    assert state is not None
    assert (state.snapshot, state.is_staged, state.staged_bytes) == (snapshot, True, 7)
    second.close()


def test_file_that_changed_on_the_disk_is_fetched_again(tmp_path: Path) -> None:
    objects = FakeObjectStore()
    file = upload(objects, "scene.blend", b"BLENDER")
    first = LocalWorkspaces(tmp_path, objects)
    first.stage(JOB, [file], request_id="r1")
    staged(first)
    first.close()
    (tmp_path / JOB / "files" / "scene.blend").write_bytes(b"ruined!")
    second = LocalWorkspaces(tmp_path, objects)
    second.stage(JOB, [file], request_id="r1")
    staged(second)
    assert files_in(tmp_path / JOB / "files") == {"scene.blend": b"BLENDER"}
    second.close()


def test_other_files_of_the_job_make_the_snapshot_anew(tmp_path: Path) -> None:
    objects = FakeObjectStore()
    workspaces = LocalWorkspaces(tmp_path, objects)
    kept, old = upload(objects, "scene.blend", b"BLENDER"), upload(objects, "old.png", b"OLD")
    workspaces.stage(JOB, [kept, old], request_id="r1")
    staged(workspaces)
    frozen(workspaces)
    objects.delete([kept.key])
    workspaces.stage(JOB, [kept, upload(objects, "new.png", b"NEW")], request_id="r2")
    staged(workspaces)
    assert files_in(snapshot_folder(tmp_path, frozen(workspaces))) == {"scene.blend": b"BLENDER", "new.png": b"NEW"}
    workspaces.close()


def test_silent_store_is_waited_for(tmp_path: Path) -> None:
    objects = FakeObjectStore()
    workspaces = LocalWorkspaces(tmp_path, objects)
    file = upload(objects, "scene.blend", b"BLENDER")
    objects.fail_next(Unreachable("nobody there"), times=3, call="open")
    workspaces.stage(JOB, [file], request_id="r1")
    assert staged(workspaces).problem == ""
    workspaces.close()


def test_refusal_of_the_store_is_a_problem_at_once(tmp_path: Path) -> None:
    objects = FakeObjectStore()
    workspaces = LocalWorkspaces(tmp_path, objects)
    file = upload(objects, "scene.blend", b"BLENDER")
    objects.fail_next(Refused("wrong key"), call="open")
    workspaces.stage(JOB, [file], request_id="r1")
    assert "wrong key" in broken(workspaces)
    workspaces.close()


def test_full_disk_is_a_problem_that_says_what_to_do(tmp_path: Path) -> None:
    objects = ObjectsOnBrokenDisk()
    workspaces = LocalWorkspaces(tmp_path, objects)
    workspaces.stage(JOB, [upload(objects, "scene.blend", b"BLENDER")], request_id="r1")
    assert broken(workspaces).startswith("the disk is full; delete old jobs, or give")
    workspaces.close()


def test_name_of_both_a_file_and_a_folder_is_a_problem(tmp_path: Path) -> None:
    objects = FakeObjectStore()
    workspaces = LocalWorkspaces(tmp_path, objects)
    workspaces.stage(JOB, [upload(objects, "tex", b"1"), upload(objects, "tex/wood", b"2")], request_id="r1")
    assert "both a file and a folder" in broken(workspaces)
    workspaces.close()


def test_what_a_killed_server_was_deleting_is_gone_after_the_next_start(tmp_path: Path) -> None:
    (tmp_path / ".deleted-job_a-1234" / "files").mkdir(parents=True)
    workspaces = LocalWorkspaces(tmp_path, FakeObjectStore())
    assert list(tmp_path.iterdir()) == []
    assert workspaces.jobs() == []
    workspaces.close()
