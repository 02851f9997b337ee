"""The job's files on an instance, however they come."""

from __future__ import annotations

from pathlib import Path

import pytest

from nodeimage.agent.ports import Refused, Silent
from nodeimage.agent.surroundings import CannotPrepare
from nodeimage.instance import workspace as workspaces
from nodeimage.instance.workspace import Workspace
from nodeimage.launch import WorkspaceKind
from nodeimage.protocol import files_key

from .agent_fakes import JOB
from .instance_fakes import Ended, FileStore, Onlooker

BODIES = {"a.blend": b"blend", "tex/wood.png": b"wood"}


@pytest.fixture
def store() -> FileStore:
    return FileStore()


@pytest.fixture
def onlooker() -> Onlooker:
    return Onlooker()


def a_workspace(folder: Path, store: FileStore, kind: WorkspaceKind = WorkspaceKind.S3, *, is_mounted: bool = True) -> Workspace:
    return Workspace(
        folder,
        job=JOB,
        kind=kind,
        store=store,
        boot="b1",
        is_mounted=lambda: is_mounted,
        free_bytes=lambda path: 2**40,
        pause=lambda seconds: None,
    )


def on_volume(folder: Path) -> None:
    for path, body in BODIES.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(body)


def test_files_are_fetched_into_the_folder(tmp_path: Path, store: FileStore, onlooker: Onlooker) -> None:
    store.put_job_files(BODIES)
    a_workspace(tmp_path / "w", store).prepare(onlooker)
    assert (tmp_path / "w/tex/wood.png").read_bytes() == b"wood"


def test_list_is_waited_for_while_the_store_is_silent(tmp_path: Path, store: FileStore, onlooker: Onlooker) -> None:
    store.put_job_files(BODIES)
    store.fail(Silent("no answer"), keys="files.json")
    looks = iter(range(100))

    def look() -> None:
        if next(looks) == 20:
            store.recover()

    onlooker.look = look  # type: ignore[method-assign]
    a_workspace(tmp_path, store).prepare(onlooker)
    assert "The store does not answer: no answer." in onlooker.problems()
    assert (tmp_path / "a.blend").exists()


def test_waiting_for_the_list_ends_when_the_onlooker_says_so(tmp_path: Path, store: FileStore, onlooker: Onlooker) -> None:
    store.fail(Silent("no answer"))
    onlooker.ends = True
    with pytest.raises(Ended):
        a_workspace(tmp_path, store).prepare(onlooker)


def test_list_that_is_not_there_is_told(tmp_path: Path, store: FileStore, onlooker: Onlooker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workspaces, "LIST_PATIENCE_S", 0.0)
    with pytest.raises(CannotPrepare, match="not in the object store; cancel the job and submit it again"):
        a_workspace(tmp_path, store).prepare(onlooker)
    store.fail(Refused("403 AccessDenied"))
    with pytest.raises(CannotPrepare, match="403 AccessDenied; `kiln doctor`"):
        a_workspace(tmp_path, store).prepare(onlooker)


def test_list_of_a_newer_farm_is_told(tmp_path: Path, store: FileStore, onlooker: Onlooker) -> None:
    store.put(files_key(JOB), b'{"version": 99, "files": []}')
    with pytest.raises(CannotPrepare, match="version 99"):
        a_workspace(tmp_path, store).prepare(onlooker)


def test_volume_with_every_file_needs_no_fetching(tmp_path: Path, store: FileStore, onlooker: Onlooker) -> None:
    store.put_job_files(BODIES)
    on_volume(tmp_path)
    a_workspace(tmp_path, store, WorkspaceKind.VOLUME).prepare(onlooker)
    assert store.parts == []
    assert onlooker.told[-1][0].startswith("checking files")


def test_volume_that_is_not_mounted_is_told(tmp_path: Path, store: FileStore, onlooker: Onlooker) -> None:
    store.put_job_files(BODIES)
    on_volume(tmp_path)
    with pytest.raises(CannotPrepare, match="not mounted"):
        a_workspace(tmp_path, store, WorkspaceKind.VOLUME, is_mounted=False).prepare(onlooker)


def test_file_that_the_volume_lacks_is_named(tmp_path: Path, store: FileStore, onlooker: Onlooker) -> None:
    store.put_job_files(BODIES)
    on_volume(tmp_path)
    (tmp_path / "tex/wood.png").unlink()
    with pytest.raises(CannotPrepare, match=r"“tex/wood.png” is not on the volume.*submit it again"):
        a_workspace(tmp_path, store, WorkspaceKind.VOLUME).prepare(onlooker)


def test_file_of_another_size_on_the_volume_is_named(tmp_path: Path, store: FileStore, onlooker: Onlooker) -> None:
    store.put_job_files(BODIES)
    on_volume(tmp_path)
    (tmp_path / "a.blend").write_bytes(b"blen")
    with pytest.raises(CannotPrepare, match=r"“a.blend” has 4 bytes on the volume.*instead of 5"):
        a_workspace(tmp_path, store, WorkspaceKind.VOLUME).prepare(onlooker)
