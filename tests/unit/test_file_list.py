"""The list of a job's files that instances read, and the hash of what it lists."""

from __future__ import annotations

from dataclasses import replace

from nodeimage.launch import FileEntry, FileList

SCENE = FileEntry(path="scene.blend", key="projects/job_a/scene.blend", bytes=7, checksum="crc32:00000001")
WOOD = FileEntry(path="tex/wood.png", key="projects/job_a/tex/wood.png", bytes=9, checksum="crc32:00000002")


def content(*files: FileEntry) -> str:
    return FileList(files=files).content


def test_the_same_files_of_another_job_have_the_same_content_in_any_order() -> None:
    elsewhere = [replace(file, key=file.key.replace("job_a", "job_b")) for file in (WOOD, SCENE)]
    assert content(SCENE, WOOD) == content(*elsewhere)
    assert len(content(SCENE)) == 64


def test_another_path_size_or_checksum_is_another_content() -> None:
    others = [replace(WOOD, path="tex/oak.png"), replace(WOOD, bytes=10), replace(WOOD, checksum="crc32:00000003")]
    assert len({content(SCENE, other) for other in (WOOD, *others)} | {content(SCENE)}) == 5


def test_a_file_that_nobody_has_read_is_like_no_other() -> None:
    unread = replace(WOOD, checksum="")
    assert content(unread) != content(replace(unread, key="projects/job_b/tex/wood.png"))


def test_a_list_comes_back_as_it_was_written() -> None:
    written = FileList(files=(SCENE, WOOD))
    assert FileList.from_bytes(written.to_bytes()) == written
