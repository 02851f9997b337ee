"""Size and wholeness of image files, against files that another program wrote."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import pytest
from PIL import Image

from nodeimage.driver.images import BadImage, image_size

SIZE = (37, 21)
#: Formats as Pillow writes them, with how much may be cut off their end before it is noticed.
FORMATS = [
    ("png", {}),
    ("jpg", {}),
    ("webp", {}),
    ("webp", {"lossless": True}),
    ("bmp", {}),
    ("tif", {}),
    ("tif", {"compression": "tiff_lzw"}),
]


def a_picture(path: Path, **options: object) -> Path:
    picture = Image.effect_noise(SIZE, 80).convert("RGB")
    picture.save(path, **options)  # type: ignore[arg-type]
    return path


@pytest.mark.parametrize(("extension", "options"), FORMATS)
def test_size_of_a_whole_image_is_read(tmp_path: Path, extension: str, options: dict[str, object]) -> None:
    assert image_size(str(a_picture(tmp_path / f"a.{extension}", **options))) == SIZE


@pytest.mark.parametrize(("extension", "options"), FORMATS)
@pytest.mark.parametrize("part", [0.02, 0.3, 0.7, 0.95])
def test_truncated_image_is_noticed(tmp_path: Path, extension: str, options: dict[str, object], part: float) -> None:
    path = a_picture(tmp_path / f"a.{extension}", **options)
    whole = path.read_bytes()
    path.write_bytes(whole[: max(4, int(len(whole) * part))])
    with pytest.raises(BadImage):
        image_size(str(path))


def test_empty_file_is_no_image(tmp_path: Path) -> None:
    (tmp_path / "a.png").touch()
    with pytest.raises(BadImage, match="empty"):
        image_size(str(tmp_path / "a.png"))


def test_damage_inside_a_png_is_noticed(tmp_path: Path) -> None:
    path = a_picture(tmp_path / "a.png")
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(BadImage, match="damaged"):
        image_size(str(path))


def test_format_that_is_not_known_is_left_to_blender(tmp_path: Path) -> None:
    (tmp_path / "a.hdr").write_bytes(b"#?RADIANCE\n")
    assert image_size(str(tmp_path / "a.hdr")) is None


def an_exr(*, height: int = 40, width: int = 8, compression: int = 3, parts: int = 1, chunk_counts: bool = False) -> bytes:
    """A scan-line EXR as the format's document describes it; the pixels are nonsense."""
    lines = {0: 1, 2: 1, 3: 16, 4: 32, 9: 256, 10: 256}.get(compression, 1)
    chunks = -(-height // lines)

    def attribute(name: str, kind: str, value: bytes) -> bytes:
        return name.encode() + b"\0" + kind.encode() + b"\0" + struct.pack("<I", len(value)) + value

    window = struct.pack("<4i", 0, 0, width - 1, height - 1)
    header = attribute("compression", "compression", bytes([compression]))
    header += attribute("dataWindow", "box2i", window) + attribute("displayWindow", "box2i", window)
    if chunk_counts or parts > 1:
        header += attribute("chunkCount", "int", struct.pack("<i", chunks))
    head = struct.pack("<II", 20000630, 2 | (0x1000 if parts > 1 else 0)) + (header + b"\0") * parts + (b"\0" if parts > 1 else b"")
    table, body = b"", b""
    start = len(head) + 8 * chunks * parts
    for part in range(parts):
        for chunk in range(chunks):
            table += struct.pack("<Q", start + len(body))
            body += (
                (struct.pack("<i", part) if parts > 1 else b"")
                + struct.pack("<iI", chunk * lines, 20)
                + zlib.compress(b"x")[:9]
                + bytes(11)
            )
    return head + table + body


@pytest.mark.parametrize(
    "options", [{}, {"compression": 0}, {"compression": 4}, {"compression": 9}, {"compression": 10}, {"parts": 2}, {"chunk_counts": True}]
)
def test_exr_is_whole_when_its_last_chunk_is(tmp_path: Path, options: dict[str, int]) -> None:
    path = tmp_path / "a.exr"
    whole = an_exr(**options)  # type: ignore[arg-type]
    path.write_bytes(whole)
    assert image_size(str(path)) == (8, 40)
    for cut in (1, 19, 30, len(whole) // 2, len(whole) - 9):
        path.write_bytes(whole[:-cut])
        with pytest.raises(BadImage):
            image_size(str(path))


@pytest.mark.parametrize("parts", [1, 2])
def test_exr_of_a_compression_that_is_not_known_is_left_to_blender(tmp_path: Path, parts: int) -> None:
    (tmp_path / "a.exr").write_bytes(an_exr(compression=99, parts=parts))
    assert image_size(str(tmp_path / "a.exr")) is None


def test_exr_whose_offsets_were_never_written_is_not_whole(tmp_path: Path) -> None:
    whole = an_exr(compression=0)
    chunks = 40
    table_at = len(whole) - chunks * 28 - chunks * 8
    (tmp_path / "a.exr").write_bytes(whole[:table_at] + bytes(8 * chunks) + whole[table_at + 8 * chunks :])
    with pytest.raises(BadImage, match="truncated"):
        image_size(str(tmp_path / "a.exr"))
