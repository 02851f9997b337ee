"""The demo's own look at what it brought home: only whole frames, each once, pass."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import pytest
from PIL import Image

from app.demo_frames import BadFrames, check_frames, check_png


def a_png(mode: str = "RGB") -> bytes:
    out = io.BytesIO()
    Image.effect_noise((33, 17), 50).convert(mode).save(out, "PNG")
    return out.getvalue()


def a_zip(folder: Path, frames: dict[str, bytes]) -> Path:
    path = folder / "frames.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in frames.items():
            archive.writestr(name, content)
    return path


def test_zip_of_exactly_the_frames_passes(tmp_path: Path) -> None:
    path = a_zip(tmp_path, {"kiln_0001.png": a_png(), "kiln_0002.png": a_png("RGBA")})
    assert check_frames(path, [1, 2]) is None  # type: ignore[func-returns-value]


@pytest.mark.parametrize("numbers", [[1], [1, 2, 3], [2, 3], []])
def test_zip_of_other_frames_is_refused(tmp_path: Path, numbers: list[int]) -> None:
    path = a_zip(tmp_path, {"kiln_0001.png": a_png(), "kiln_0002.png": a_png()})
    with pytest.raises(BadFrames):
        check_frames(path, numbers)


def test_zip_with_a_frame_twice_is_refused(tmp_path: Path) -> None:
    path = a_zip(tmp_path, {"kiln_0001.png": a_png(), "again_0001.png": a_png()})
    with pytest.raises(BadFrames, match="has the frames"):
        check_frames(path, [1])


def test_zip_with_something_else_is_refused(tmp_path: Path) -> None:
    path = a_zip(tmp_path, {"kiln_0001.png": a_png(), "notes.txt": b"x"})
    with pytest.raises(BadFrames, match=r"notes\.txt"):
        check_frames(path, [1])


def test_broken_zip_is_refused(tmp_path: Path) -> None:
    path = a_zip(tmp_path, {"kiln_0001.png": a_png()})
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(BadFrames, match="not a good zip"):
        check_frames(path, [1])


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA"])
def test_png_of_every_colour_type_opens(mode: str) -> None:
    assert check_png("frame.png", a_png(mode)) is None  # type: ignore[func-returns-value]


@pytest.mark.parametrize("kept", [0, 7, 8, 20, 40, 200, -1, -12, -13])
def test_png_cut_short_is_refused(kept: int) -> None:
    with pytest.raises(BadFrames):
        check_png("frame.png", a_png()[:kept])


def test_png_with_any_byte_changed_is_refused() -> None:
    whole = a_png()
    for at in range(len(whole)):
        with pytest.raises(BadFrames):
            check_png("frame.png", whole[:at] + bytes([whole[at] ^ 0x55]) + whole[at + 1 :])


def test_png_whose_header_promises_more_pixels_is_refused() -> None:
    wide, narrow = io.BytesIO(), io.BytesIO()
    Image.new("RGB", (64, 64)).save(wide, "PNG")
    Image.new("RGB", (8, 8)).save(narrow, "PNG")
    header_end = 8 + 25  # the signature, then IHDR: length, kind, 13 bytes, checksum
    with pytest.raises(BadFrames, match="does not have all"):
        check_png("frame.png", wide.getvalue()[:header_end] + narrow.getvalue()[header_end:])
