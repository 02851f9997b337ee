"""The fetching of a job's files: whole, verified, resumable, safe, and clear about what is in the way."""

from __future__ import annotations

import os
import random
import zlib
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest

from nodeimage.agent.ports import Refused
from nodeimage.agent.surroundings import CannotPrepare
from nodeimage.instance import fetch as fetching
from nodeimage.instance.crc import crc32_of_parts
from nodeimage.instance.fetch import MOST_REFUSALS, OWN_FOLDER, RESERVE_BYTES, Fetch
from nodeimage.launch import FileEntry, FileList
from nodeimage.protocol import project_key

from .agent_fakes import JOB
from .instance_fakes import Ended, FileStore, Onlooker, crc, cut_short, damaged, silence

PART = 1000
BODIES = {"a.blend": b"blend" * 900, "tex/wood.png": b"wood", "tex/deep/ä b.exr": bytes(range(256)), "empty.txt": b""}


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetching, "PART_BYTES", PART)
    monkeypatch.setattr(fetching, "FIRST_PAUSE_S", 0.001)
    monkeypatch.setattr(fetching, "LONGEST_PAUSE_S", 0.002)


@pytest.fixture
def store() -> FileStore:
    return FileStore()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "workspace"
    folder.mkdir()
    return folder


@pytest.fixture
def onlooker() -> Onlooker:
    return Onlooker()


Begin = Callable[..., Fetch]


@pytest.fixture
def begin(folder: Path, store: FileStore) -> Begin:
    def begin(files: FileList, *, boot: str = "b1", free: int = 2**40, workers: int = 4) -> Fetch:
        return Fetch(folder, files, store, boot=boot, free_bytes=lambda path: free, no_room="Raise [aws] root_volume_gib.", workers=workers)

    return begin


def contents(folder: Path) -> dict[str, bytes]:
    """The job's files, without our own."""
    files = (path for path in folder.rglob("*") if path.is_file() and OWN_FOLDER not in path.parts)
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def test_checksum_of_parts_is_that_of_the_whole() -> None:
    randomly = random.Random(1)
    for _ in range(50):
        body = randomly.randbytes(randomly.randrange(5000))
        cuts = [0, *sorted(randomly.randrange(len(body) + 1) for _ in range(randomly.randrange(6))), len(body)]
        parts = [body[first:last] for first, last in pairwise(cuts)]
        assert crc32_of_parts((zlib.crc32(part), len(part)) for part in parts) == zlib.crc32(body)


def test_every_file_arrives_at_its_path(store: FileStore, folder: Path, begin: Begin, onlooker: Onlooker) -> None:
    fetch = begin(store.put_job_files(BODIES))
    fetch.run(onlooker)
    assert contents(folder) == BODIES
    assert fetch.done_bytes == sum(map(len, BODIES.values()))


def test_large_file_comes_in_parts_and_a_small_one_at_once(store: FileStore, begin: Begin, onlooker: Onlooker) -> None:
    begin(store.put_job_files(BODIES)).run(onlooker)
    parts = sorted((first, count) for key, first, count in store.parts if key.endswith("a.blend"))
    assert parts == [(0, 1000), (1000, 1000), (2000, 1000), (3000, 1000), (4000, 500)]
    assert len([key for key, _, _ in store.parts if key.endswith("wood.png")]) == 1
    assert not [key for key, _, _ in store.parts if key.endswith("empty.txt")]


def test_progress_is_told_in_percent(store: FileStore, begin: Begin, onlooker: Onlooker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nodeimage.instance.crew.LOOK_S", 0.0)
    begin(store.put_job_files(BODIES), workers=1).run(onlooker)
    told = [phase for phase, _ in onlooker.told]
    assert all(phase.startswith("fetching files: ") and phase.endswith(" %") for phase in told)
    assert onlooker.problems() == []


def test_files_that_were_verified_are_not_fetched_again(store: FileStore, folder: Path, begin: Begin, onlooker: Onlooker) -> None:
    files = store.put_job_files(BODIES)
    begin(files).run(onlooker)
    (folder / "tex/wood.png").write_bytes(b"rust")
    store.parts.clear()
    begin(files).run(onlooker)
    assert [key for key, _, _ in store.parts] == [project_key(JOB, "tex/wood.png")]
    assert contents(folder) == BODIES


def test_fetch_that_was_broken_off_goes_on_where_it_stopped(store: FileStore, folder: Path, begin: Begin, onlooker: Onlooker) -> None:
    files = store.put_job_files({f"{n}.png": bytes([n]) * 500 for n in range(20)})

    def end_in_the_middle() -> None:
        if len(store.parts) > 10:
            onlooker.ends = True
            assert onlooker.has_ended.wait(10.0)

    store.on_block = end_in_the_middle
    with pytest.raises(Ended):
        begin(files, workers=1).run(onlooker)
    there = contents(folder)
    assert 0 < len(there) < 20
    onlooker.ends, store.on_block = False, lambda: None
    store.parts.clear()
    begin(files).run(onlooker)
    assert len(store.parts) == 20 - len(there)
    assert len(contents(folder)) == 20


def test_files_of_an_earlier_run_of_the_machine_are_believed_only_if_they_reached_the_disk(
    store: FileStore, begin: Begin, onlooker: Onlooker
) -> None:
    files = store.put_job_files(BODIES)
    begin(files, boot="b1").run(onlooker)
    store.parts.clear()
    verified = begin(files, boot="b2").run(onlooker)
    assert len(store.parts) == 7
    verified.note_flushed()
    store.parts.clear()
    begin(files, boot="b3").run(onlooker)
    assert store.parts == []


def test_changed_list_fetches_what_changed(store: FileStore, folder: Path, begin: Begin, onlooker: Onlooker) -> None:
    begin(store.put_job_files(BODIES)).run(onlooker)
    store.parts.clear()
    changed = {**BODIES, "tex/wood.png": b"worm"}
    begin(store.put_job_files(changed)).run(onlooker)
    assert [key for key, _, _ in store.parts] == [project_key(JOB, "tex/wood.png")]
    assert contents(folder) == changed


def test_half_of_a_file_never_bears_its_name(store: FileStore, folder: Path, begin: Begin, onlooker: Onlooker) -> None:
    files = store.put_job_files({"a.blend": b"x" * 5000})

    def look_at_folder() -> None:
        assert contents(folder) == {}

    store.on_block = look_at_folder
    begin(files).run(onlooker)
    assert list(contents(folder)) == ["a.blend"]
    assert not (folder / OWN_FOLDER / "partial").exists()


# What the store does


def test_silent_store_is_waited_for(store: FileStore, folder: Path, begin: Begin, onlooker: Onlooker) -> None:
    files = store.put_job_files(BODIES)
    store.spoil(project_key(JOB, "a.blend"), *[silence() for _ in range(30)])
    begin(files).run(onlooker)
    assert contents(folder) == BODIES


def test_part_that_ends_too_early_is_fetched_again(store: FileStore, folder: Path, begin: Begin, onlooker: Onlooker) -> None:
    files = store.put_job_files(BODIES)
    store.spoil(project_key(JOB, "a.blend"), cut_short, cut_short)
    fetch = begin(files)
    fetch.run(onlooker)
    assert contents(folder) == BODIES
    assert fetch.done_bytes == fetch.total_bytes


def test_store_that_is_silent_for_long_is_told_and_then_given_up(
    store: FileStore, begin: Begin, onlooker: Onlooker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetching, "STUCK_S", 0.05)
    monkeypatch.setattr(fetching, "PATIENCE_S", 1.0)
    files = store.put_job_files(BODIES)
    store.fail(silence(), keys="projects/")
    with pytest.raises(CannotPrepare, match=r"does not give the job's files.*503 SlowDown"):
        begin(files).run(onlooker)
    assert "still waits for the job's files" in onlooker.problems()[0]
    assert "503 SlowDown" in onlooker.problems()[0]


def test_file_that_is_gone_from_the_store_says_to_upload_it_again(store: FileStore, begin: Begin, onlooker: Onlooker) -> None:
    files = store.put_job_files(BODIES)
    store.delete(project_key(JOB, "tex/wood.png"))
    with pytest.raises(CannotPrepare, match=r"“tex/wood.png” is no longer in the object store; upload it again"):
        begin(files).run(onlooker)


def test_rights_that_come_late_are_waited_for_but_not_for_ever(store: FileStore, folder: Path, begin: Begin, onlooker: Onlooker) -> None:
    files = store.put_job_files({"a": b"x"})
    refusal = Refused("could not read projects/job_1/a: 403 AccessDenied")
    store.spoil(project_key(JOB, "a"), refusal, refusal)
    begin(files).run(onlooker)
    assert contents(folder) == {"a": b"x"}
    (folder / "a").unlink()
    store.spoil(project_key(JOB, "a"), *[refusal] * MOST_REFUSALS)
    with pytest.raises(CannotPrepare, match=r"403 AccessDenied; `kiln doctor`"):
        begin(files).run(onlooker)


def test_damaged_file_is_fetched_once_more(store: FileStore, folder: Path, begin: Begin, onlooker: Onlooker) -> None:
    files = store.put_job_files(BODIES)
    store.spoil(project_key(JOB, "a.blend"), damaged)
    fetch = begin(files)
    fetch.run(onlooker)
    assert contents(folder) == BODIES
    assert fetch.done_bytes == fetch.total_bytes


def test_file_that_is_damaged_in_the_store_says_to_upload_it_again(
    store: FileStore, folder: Path, begin: Begin, onlooker: Onlooker
) -> None:
    files = store.put_job_files(BODIES)
    store.put(project_key(JOB, "a.blend"), b"BLEND" * 900)
    with pytest.raises(CannotPrepare, match=r"“a.blend” does not match its checksum; upload it again"):
        begin(files).run(onlooker)
    assert "a.blend" not in contents(folder)


@pytest.mark.parametrize("stored", [b"wo", b"wooden", b""])
def test_file_of_another_size_in_the_store_says_so(store: FileStore, begin: Begin, onlooker: Onlooker, stored: bytes) -> None:
    files = store.put_job_files(BODIES)
    store.put(project_key(JOB, "tex/wood.png"), stored)
    with pytest.raises(CannotPrepare, match=rf"“tex/wood.png” has {len(stored)} bytes in the object store instead of 4"):
        begin(files).run(onlooker)


def test_file_without_a_checksum_is_verified_by_its_size(store: FileStore, folder: Path, begin: Begin, onlooker: Onlooker) -> None:
    key = project_key(JOB, "a")
    store.put(key, b"12345")
    begin(FileList(files=(FileEntry(path="a", key=key, bytes=5, checksum=""),))).run(onlooker)
    assert contents(folder) == {"a": b"12345"}
    with pytest.raises(CannotPrepare, match="has 5 bytes"):
        begin(FileList(files=(FileEntry(path="b", key=key, bytes=4, checksum=""),))).run(onlooker)


# The disk


@pytest.mark.parametrize("path", ["../a", "/etc/a", "a/../../b", "", ".", "a\0b", f"{OWN_FOLDER}/verified.jsonl"])
def test_path_that_leads_out_of_the_folder_is_refused(store: FileStore, begin: Begin, onlooker: Onlooker, path: str) -> None:
    files = FileList(files=(FileEntry(path=path, key="projects/job_1/a", bytes=1, checksum=""),))
    with pytest.raises(CannotPrepare, match="leads out of the job's folder"):
        begin(files).run(onlooker)
    assert store.parts == []


def test_link_that_an_earlier_blender_left_does_not_lead_out_of_the_folder(
    store: FileStore, folder: Path, begin: Begin, onlooker: Onlooker, tmp_path: Path
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "passwd").write_text("root")
    (folder / "tex").symlink_to(elsewhere)
    (folder / "empty.txt").symlink_to(elsewhere / "passwd")
    begin(store.put_job_files(BODIES)).run(onlooker)
    assert contents(folder) == BODIES
    assert os.listdir(elsewhere) == ["passwd"]
    assert (elsewhere / "passwd").read_text() == "root"


def test_disk_that_is_too_small_is_told_before_anything_is_fetched(store: FileStore, begin: Begin, onlooker: Onlooker) -> None:
    files = store.put_job_files(BODIES)
    needed = sum(map(len, BODIES.values())) + RESERVE_BYTES
    with pytest.raises(CannotPrepare, match=r"needs 1.0 GiB and has 1.0 GiB. Raise \[aws\] root_volume_gib."):
        begin(files, free=needed - 1).run(onlooker)
    assert store.parts == []
    begin(files, free=needed).run(onlooker)


def test_whole_workspace_needs_no_room(store: FileStore, begin: Begin, onlooker: Onlooker) -> None:
    files = store.put_job_files(BODIES)
    begin(files).run(onlooker)
    store.parts.clear()
    begin(files, free=0).run(onlooker)
    assert store.parts == []


def test_name_of_both_a_file_and_a_folder_says_to_rename_one(store: FileStore, begin: Begin, onlooker: Onlooker) -> None:
    files = store.put_job_files({"tex": b"a file", "tex/wood.png": b"wood"})
    with pytest.raises(CannotPrepare, match="is the name of both a file and a folder; rename one"):
        begin(files, workers=1).run(onlooker)


def test_name_that_is_too_long_says_so(store: FileStore, begin: Begin, onlooker: Onlooker) -> None:
    files = store.put_job_files({"x" * 300: b"1"})
    with pytest.raises(CannotPrepare, match="too long a name"):
        begin(files).run(onlooker)


def test_checksum_in_the_list_is_what_uploads_have(store: FileStore) -> None:
    assert store.put_job_files({"a": b"wood"}).files[0].checksum == crc(b"wood") == "crc32:" + f"{zlib.crc32(b'wood'):08x}"
