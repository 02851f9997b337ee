"""Tell whether a zip is exactly the frames that it should be, and each of them a PNG that opens; the demo trusts nothing else."""

from __future__ import annotations

import re
import struct
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
#: Values of each pixel by PNG's colour type.
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}


class BadFrames(Exception):
    """The zip is not what it should be; the message says where."""


def check_frames(zip_path: Path, numbers: list[int]) -> None:
    """Errors: BadFrames - the zip is not exactly the frames `numbers`, each once and each a PNG that opens"""
    try:
        with zipfile.ZipFile(zip_path) as archive:
            contents = {name: archive.read(name) for name in archive.namelist()}
    except (zipfile.BadZipFile, zlib.error) as error:
        raise BadFrames(f"{zip_path} is not a good zip: {error}") from error
    found = sorted(_frame_number(name) for name in contents)
    if not numbers or found != numbers:
        raise BadFrames(f"{zip_path} has the frames {found}, and not {numbers}")
    for name, content in contents.items():
        check_png(name, content)


def _frame_number(name: str) -> int:
    match = re.search(r"(\d+)\.png$", name)
    if not match:
        raise BadFrames(f"the zip has a file {name!r}, which is no frame")
    return int(match[1])


def check_png(name: str, content: bytes) -> None:
    """Errors: BadFrames - not a PNG, damaged, or without all of its pixels"""
    if not content.startswith(_PNG_SIGNATURE):
        raise BadFrames(f"{name} is not a PNG")
    try:
        chunks = list(_chunks(content))
        width, height, depth, colour, *_, interlaced = struct.unpack(">IIBBBBB", chunks[0][1])
        pixels = zlib.decompress(b"".join(data for kind, data in chunks if kind == b"IDAT"))
    except (IndexError, ValueError, struct.error, zlib.error) as error:
        raise BadFrames(f"{name} is damaged: {error}") from error
    bits = depth * _CHANNELS.get(colour, 0)
    if chunks[-1][0] != b"IEND" or interlaced or len(pixels) != height * (1 + (width * bits + 7) // 8):
        raise BadFrames(f"{name} does not have all of its {width} × {height} pixels")


def _chunks(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = len(_PNG_SIGNATURE)
    while at < len(content):
        length, kind = struct.unpack_from(">I4s", content, at)
        data = content[at + 8 : at + 8 + length]
        (crc,) = struct.unpack_from(">I", content, at + 8 + length)
        if zlib.crc32(kind + data) != crc:
            raise ValueError(f"wrong checksum of {kind.decode(errors='replace')}")
        yield kind, data
        at += 12 + length
