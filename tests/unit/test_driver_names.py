"""Names of outputs: what artists type, made safe for a file system and the bucket."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nodeimage.driver.names import MOST_BYTES, output_stem, safe_name, safe_path, unique_name, with_number
from nodeimage.driver.outputs import number_files


@pytest.mark.parametrize(
    ("path", "stem"),
    [
        ("//render/shot_", "shot_"),
        ("/tmp/", ""),
        ("", ""),
        ("shot", "shot"),
        ("C:\\films\\shot ##", "shot ##"),
        ("//out/{blend_name}_####", "_####"),
        ("//out/a{b", "ab"),
        ("//out/Säge 1", "Säge 1"),
        ("//out/..", "_"),
        ("//out/a:b*c\n", "a_b_c_"),
    ],
)
def test_output_name_is_what_follows_the_last_slash(path: str, stem: str) -> None:
    assert output_stem(path) == stem


@pytest.mark.parametrize(
    ("path", "safe"),
    [
        ("Image", "Image"),
        ("passes/Depth_", "passes/Depth_"),
        ("/abs/x", "abs/x"),
        ("../../etc/x", "etc/x"),
        ("a//./b", "a/b"),
        ("a\\..\\b", "a/b"),
        ("..", ""),
        ("a/{frame}/./b", "a/b"),
        ("//", ""),
    ],
)
def test_path_of_a_slot_stays_below_its_folder(path: str, safe: str) -> None:
    assert safe_path(path) == safe


@settings(deadline=None)
@given(st.text(max_size=300))
def test_safe_path_never_leaves_its_folder(path: str) -> None:
    parts = safe_path(path).split("/")
    assert ".." not in parts
    assert not safe_path(path).startswith("/")
    assert "//" not in safe_path(path)


@settings(deadline=None)
@given(st.text(max_size=300))
def test_safe_name_fits_any_file_system(name: str) -> None:
    safe = safe_name(name)
    assert len(safe.encode()) <= MOST_BYTES
    assert not set(safe) & set('/\\{}<>:"|?*\n\0')


def test_names_that_differ_in_case_only_are_told_apart() -> None:
    taken: set[str] = set()
    assert [unique_name(name, taken) for name in ("Depth", "depth", "Depth", "depth_2")] == ["Depth", "depth_2", "Depth_3", "depth_2_2"]


@pytest.mark.parametrize(
    ("name", "frame", "numbered"),
    [("Image#", 12, "Image12"), ("a##_b###", 7, "a##_b007"), ("Depth##", -3, "Depth-03"), ("Image", 5, "Image")],
)
def test_number_stands_where_the_last_hashes_are(name: str, frame: int, numbered: str) -> None:
    assert with_number(name, frame) == numbered


def test_file_that_bears_its_number_already_gets_no_other(tmp_path: Path) -> None:
    for name in ("Image1_L.png", "Depth.exr", "Image_L.png"):
        (tmp_path / name).touch()
    number_files(str(tmp_path), 1, ["_L", "_R"], numbered={with_number("Image#", 1)})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["Depth0001.exr", "Image0001_L.png", "Image1_L.png"]
