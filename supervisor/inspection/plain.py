"""A .blend as it is before compression: gzip (to Blender 2.93) and Zstandard (from 3.0) taken off, within limits."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import zstandard

from .recognise import HEAD_BYTES, newer_format, not_a_blend

_CHUNK_BYTES = 4 << 20
_GZIP = b"\x1f\x8b"
_ZSTD = b"\x28\xb5\x2f\xfd"
DAMAGED = "it can't be read: it seems to be damaged. Open it in Blender, save it anew, and upload that"
_CUT_OFF = "it ends in the middle: the copy or the upload was cut off; upload it again"


class NotUsable(Exception):
    """The file can't be rendered. The message continues “the file is unusable:” and says what to do."""


class TooLarge(Exception):
    """Unpacked, the file is larger than it may be."""


def cut_off() -> NotUsable:
    return NotUsable(_CUT_OFF)


@contextmanager
def plain_blend(path: Path, scratch: Path, *, max_bytes: int) -> Iterator[tuple[Path, bool]]:
    """Give the file without compression, and whether it had any; `scratch` is written only if it had.

    Errors:  NotUsable - no .blend, or a damaged one; TooLarge - it would grow beyond max_bytes
    """
    with path.open("rb") as file:
        head = file.read(HEAD_BYTES)
        is_compressed = head.startswith(_GZIP) or _is_zstd(head)
        file.seek(0)
        try:
            if is_compressed:
                _unpack(file, scratch, max_bytes=max_bytes)
            plain = scratch if is_compressed else path
            _check_head(plain, is_compressed=is_compressed)
            yield plain, is_compressed
        finally:
            scratch.unlink(missing_ok=True)


def _check_head(plain: Path, *, is_compressed: bool) -> None:
    with plain.open("rb") as file:
        head = file.read(HEAD_BYTES)
    if not head.startswith(b"BLENDER"):
        if is_compressed and len(head) < len(b"BLENDER"):
            raise cut_off()
        if is_compressed:
            raise NotUsable("it is not a .blend: it is a compressed file of another kind; unpack it first")
        raise NotUsable(not_a_blend(head))
    if newer := newer_format(head):
        major, minor = newer.blender
        raise NotUsable(
            f"Blender {major}.{minor} saved it in a format that this farm doesn't know yet; update the farm, or save it in an older Blender"
        )


def _is_zstd(head: bytes) -> bool:
    # a file may begin with a skippable frame: 0x184D2A50 to 0x184D2A5F, little-endian
    return head.startswith(_ZSTD) or (head[1:4] == b"\x2a\x4d\x18" and head[0] & 0xF0 == 0x50)


def _unpack(file: BinaryIO, to: Path, *, max_bytes: int) -> None:
    is_gzip = file.read(2) == _GZIP
    file.seek(0)
    source = gzip.GzipFile(fileobj=file) if is_gzip else zstandard.ZstdDecompressor().stream_reader(file, read_across_frames=True)
    total = 0
    try:
        with source, to.open("wb") as out:
            while data := source.read(_CHUNK_BYTES):
                total += len(data)
                if total > max_bytes:
                    raise TooLarge
                out.write(data)
    except EOFError as error:
        raise cut_off() from error
    except (gzip.BadGzipFile, zlib.error, zstandard.ZstdError) as error:
        raise NotUsable("its compression is damaged; save it anew in Blender, or upload it again") from error
