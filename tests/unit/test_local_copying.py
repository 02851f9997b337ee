"""A node's own copy of a workspace."""

from __future__ import annotations

from pathlib import Path

import pytest

from supervisor.cloud.local.copying import copy_tree


@pytest.fixture
def frozen(tmp_path: Path) -> Path:
    folder = tmp_path / "frozen"
    (folder / "tex" / "empty folder").mkdir(parents=True)
    (folder / "scene.blend").write_bytes(b"BLENDER")
    (folder / "tex" / "Größe.png").write_bytes(b"PNG")
    return folder


def test_copy_has_all_files_and_folders(frozen: Path, tmp_path: Path) -> None:
    copy_tree(frozen, tmp_path / "copy")
    found = sorted(str(path.relative_to(tmp_path / "copy")) for path in (tmp_path / "copy").rglob("*"))
    assert found == ["scene.blend", "tex", "tex/Größe.png", "tex/empty folder"]
    assert (tmp_path / "copy" / "scene.blend").read_bytes() == b"BLENDER"


def test_files_that_can_be_written_are_not_shared(frozen: Path, tmp_path: Path) -> None:
    copy_tree(frozen, tmp_path / "copy")
    (tmp_path / "copy" / "scene.blend").write_bytes(b"changed")
    assert (frozen / "scene.blend").read_bytes() == b"BLENDER"


def test_replacing_a_file_of_the_copy_leaves_the_frozen_one(frozen: Path, tmp_path: Path) -> None:
    (frozen / "scene.blend").chmod(0o444)
    copy_tree(frozen, tmp_path / "copy")
    (tmp_path / "new").write_bytes(b"changed")
    (tmp_path / "new").replace(tmp_path / "copy" / "scene.blend")
    assert (frozen / "scene.blend").read_bytes() == b"BLENDER"


def test_read_only_files_take_no_room_again(frozen: Path, tmp_path: Path) -> None:
    """Shared as a link, or block by block where the file system can: then both files are there with their own number."""
    (frozen / "scene.blend").chmod(0o444)
    copy_tree(frozen, tmp_path / "copy")
    there, copied = (frozen / "scene.blend").stat(), (tmp_path / "copy" / "scene.blend").stat()
    assert there.st_ino == copied.st_ino or copied.st_nlink == 1


def test_copying_what_is_gone_copies_nothing(tmp_path: Path) -> None:
    copy_tree(tmp_path / "nothing", tmp_path / "copy")
    assert not (tmp_path / "copy").exists()
