"""Read just enough of an image file to know its size in pixels, and that it is whole. No Blender needed.

Image libraries, Blender's too, open many truncated files without a word. Blender itself says nothing when the disk is full.
"""

from __future__ import annotations

import math
import os
import struct
import zlib
from collections.abc import Callable
from typing import BinaryIO


class BadImage(Exception):
    """The file is not a whole image; the message says why."""


def image_size(path: str) -> tuple[int, int] | None:
    """Check that an image is whole, as far as its format allows to tell without decoding it.

    Returns: width and height; None for a format this does not know
    Errors:  BadImage - empty, truncated or damaged
    """
    bytes_there = os.path.getsize(path)
    if bytes_there == 0:
        raise BadImage("it is empty")
    with open(path, "rb") as source:
        head = source.read(16)
        source.seek(0)
        for magic, read in _READERS:
            if head.startswith(magic):
                try:
                    return read(source, bytes_there)
                except (struct.error, IndexError, KeyError, ValueError) as error:
                    raise BadImage("it is truncated or damaged") from error
    return None


def _png(source: BinaryIO, bytes_there: int) -> tuple[int, int]:
    source.seek(8)
    size = None
    while True:
        length, kind = struct.unpack(">I4s", source.read(8))
        data = source.read(length)
        if struct.unpack(">I", source.read(4))[0] != zlib.crc32(data, zlib.crc32(kind)):
            raise BadImage("it is damaged")
        if kind == b"IHDR":
            size = struct.unpack(">II", data[:8])
        if kind == b"IEND":
            if size is None:
                raise BadImage("it has no header")
            return size


def _jpeg(source: BinaryIO, bytes_there: int) -> tuple[int, int]:
    source.seek(-2, os.SEEK_END)
    if source.read(2) != b"\xff\xd9":
        raise BadImage("it is truncated")
    source.seek(2)
    while True:
        marker, length = struct.unpack(">HH", source.read(4))
        # SOF0 … SOF15, without DHT, JPG and DAC, which lie among them
        if 0xFFC0 <= marker <= 0xFFCF and marker not in (0xFFC4, 0xFFC8, 0xFFCC):
            height, width = struct.unpack(">xHH", source.read(5))
            return width, height
        source.seek(length - 2, os.SEEK_CUR)


def _webp(source: BinaryIO, bytes_there: int) -> tuple[int, int]:
    _, length, form, kind = struct.unpack("<4sI4s4s", source.read(16))
    if form != b"WEBP" or length + 8 > bytes_there:
        raise BadImage("it is truncated")
    data = source.read(14)
    if kind == b"VP8X":
        return 1 + int.from_bytes(data[8:11], "little"), 1 + int.from_bytes(data[11:14], "little")
    if kind == b"VP8L":
        bits = int.from_bytes(data[5:9], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    width, height = struct.unpack("<HH", data[10:14])
    return width & 0x3FFF, height & 0x3FFF


def _bmp(source: BinaryIO, bytes_there: int) -> tuple[int, int]:
    length, _, _, _, width, height = struct.unpack("<2xIIIIii", source.read(26))
    if length > bytes_there:
        raise BadImage("it is truncated")
    return abs(width), abs(height)


def _tiff(source: BinaryIO, bytes_there: int) -> tuple[int, int]:
    order = "<" if source.read(4)[:2] == b"II" else ">"
    source.seek(struct.unpack(order + "I", source.read(4))[0])
    tags: dict[int, tuple[int, ...]] = {}
    (count,) = struct.unpack(order + "H", source.read(2))
    entries = source.read(12 * count)
    for tag, kind, n, value in struct.iter_unpack(order + "HHI4s", entries):
        if kind not in (3, 4):  # SHORT, LONG: all that the tags below can be
            continue
        letter, width = ("H", 2) if kind == 3 else ("I", 4)
        if n * width > 4:
            source.seek(struct.unpack(order + "I", value)[0])
            value = source.read(n * width)
        tags[tag] = struct.unpack(f"{order}{n}{letter}", value[: n * width])
    strips = zip(tags[273], tags[279], strict=True)
    if len(entries) < 12 * count or any(start + length > bytes_there for start, length in strips):
        raise BadImage("it is truncated")
    return tags[256][0], tags[257][0]


def _dpx(source: BinaryIO, bytes_there: int) -> tuple[int, int]:
    order = ">" if source.read(4) == b"SDPX" else "<"
    source.seek(16)
    if struct.unpack(order + "I", source.read(4))[0] > bytes_there:
        raise BadImage("it is truncated")
    source.seek(772)
    width, height = struct.unpack(order + "II", source.read(8))
    return width, height


#: Scan lines in one chunk, by the number of the compression (OpenEXR's ImfCompression.h and "Technical introduction").
_EXR_LINES = {0: 1, 1: 1, 2: 1, 3: 16, 4: 32, 5: 16, 6: 32, 7: 32, 8: 32, 9: 256, 10: 256, 11: 32}
_EXR_TILED, _EXR_DEEP, _EXR_MULTIPART = 0x200, 0x800, 0x1000


def _exr(source: BinaryIO, bytes_there: int) -> tuple[int, int] | None:
    """Returns: None, too, for a compression that came after this was written. Source: https://openexr.com/en/latest/OpenEXRFileLayout.html"""
    (version,) = struct.unpack("<4xI", source.read(8))
    headers = [_exr_header(source)]
    while version & _EXR_MULTIPART and (header := _exr_header(source)):
        headers.append(header)
    if any(header[b"compression"][0] not in _EXR_LINES for header in headers):
        return None
    if not version & (_EXR_TILED | _EXR_DEEP):
        _exr_check_chunks(source, headers, bytes_there, part_number_bytes=4 if version & _EXR_MULTIPART else 0)
    x0, y0, x1, y1 = struct.unpack("<4i", headers[0][b"displayWindow"])
    return x1 - x0 + 1, y1 - y0 + 1


def _exr_header(source: BinaryIO) -> dict[bytes, bytes]:
    header: dict[bytes, bytes] = {}
    while name := _text(source):
        _text(source)
        header[name] = source.read(struct.unpack("<I", source.read(4))[0])
    return header


def _text(source: BinaryIO) -> bytes:
    text = b""
    while (byte := source.read(1)) != b"\0":
        if not byte or len(text) > 255:
            raise BadImage("it is truncated or damaged")
        text += byte
    return text


def _exr_check_chunks(source: BinaryIO, headers: list[dict[bytes, bytes]], bytes_there: int, *, part_number_bytes: int) -> None:
    chunks = sum(_exr_chunks(header) for header in headers)
    offsets = struct.unpack(f"<{chunks}Q", source.read(8 * chunks))
    last = max(offsets)
    if min(offsets) == 0 or last >= bytes_there:
        raise BadImage("it is truncated")
    source.seek(last + part_number_bytes + 4)
    (length,) = struct.unpack("<I", source.read(4))
    if last + part_number_bytes + 8 + length > bytes_there:
        raise BadImage("it is truncated")


def _exr_chunks(header: dict[bytes, bytes]) -> int:
    if b"chunkCount" in header:
        return int.from_bytes(header[b"chunkCount"], "little")
    top, bottom = struct.unpack("<4xi4xi", header[b"dataWindow"])
    lines = int(bottom - top + 1)
    return math.ceil(lines / _EXR_LINES[header[b"compression"][0]])


_READERS: tuple[tuple[bytes, Callable[[BinaryIO, int], tuple[int, int] | None]], ...] = (
    (b"\x89PNG\r\n\x1a\n", _png),
    (b"\xff\xd8\xff", _jpeg),
    (b"\x76\x2f\x31\x01", _exr),
    (b"RIFF", _webp),
    (b"BM", _bmp),
    (b"II*\0", _tiff),
    (b"MM\0*", _tiff),
    (b"SDPX", _dpx),
    (b"XPDS", _dpx),
)
