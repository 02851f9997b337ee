"""Say what a file is that was given as a .blend and is none."""

from __future__ import annotations

import re
from dataclasses import dataclass

from supervisor.domain.file import is_blend

HEAD_BYTES = 512

_INSTEAD = "; upload the .blend in its place"
#: What a file of another kind begins with -> what it is.
_KINDS: tuple[tuple[bytes, str], ...] = (
    (b"PK\x03\x04", "a zip archive; upload it under a name that ends in .zip, or unpack it first"),
    (b"PK\x05\x06", "an empty zip archive"),
    (b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive; unpack it first"),
    (b"Rar!", "a RAR archive; unpack it first"),
    (b"\x89PNG", "a PNG picture"),
    (b"\xff\xd8\xff", "a JPEG picture"),
    (b"v/1\x01", "an OpenEXR picture"),
    (b"RIFF", "a WebP, WAV or AVI file"),
    (b"%PDF", "a PDF document"),
    (b"Kaydara FBX", "an FBX model; import it in Blender and save a .blend"),
    (b"glTF", "a glTF model; import it in Blender and save a .blend"),
    (b"PXR-USDC", "a USD scene; import it in Blender and save a .blend"),
    (b"Ogawa", "an Alembic cache"),
    (b"\x00\x05\x16\x07", "the side file that macOS keeps beside a file; upload the file itself, without the leading “._”"),
    (b"version https://git-lfs", "a Git LFS pointer, not the file itself; run `git lfs pull` and upload it again"),
)
_HTML = re.compile(rb"\s*(<!doctype html|<html|<\?xml)", re.IGNORECASE)
_NEW_HEADER = re.compile(rb"BLENDER(\d\d)-(\d\d)v(\d{4})")


def misnamed(path: str) -> str | None:
    """Say why a file's name alone makes it unusable. Returns: None if it doesn't"""
    if path.endswith("@") and is_blend(path[:-1]):
        return "it is what Blender leaves when saving did not finish; upload the .blend itself, saved anew"
    return None


def not_a_blend(head: bytes) -> str:
    """Say what a file is whose beginning is no .blend's, compressed or not."""
    if not head.strip(b"\0"):
        return "it is not a .blend: it holds nothing but zeros; the copy or the download failed, copy it anew"
    for magic, what in _KINDS:
        if head.startswith(magic):
            return f"it is not a .blend: it is {what}" + ("" if ";" in what else _INSTEAD)
    if _HTML.match(head):
        return "it is not a .blend: it is a web page; the download gave an error or a sign-in page instead of the file"
    if _is_text(head):
        return f"it is not a .blend: it is a text file{_INSTEAD}"
    return "it is not a .blend; save the scene in Blender and upload that file"


@dataclass(frozen=True, slots=True)
class UnknownFormat:
    """A header of a format that came after those known here."""

    blender: tuple[int, int]  #: that saved it


def newer_format(head: bytes) -> UnknownFormat | None:
    """Find out that a .blend is of a format newer than Blender 5.0's (a header of 17 bytes, format 1). Returns: None if it isn't"""
    match = _NEW_HEADER.match(head)
    if match is None or (match[1], match[2]) == (b"17", b"01"):
        return None
    major, minor = divmod(int(match[3]), 100)
    return UnknownFormat(blender=(major, minor))


def _is_text(head: bytes) -> bool:
    try:
        text = head.decode()
    except UnicodeDecodeError as error:
        if error.start < len(head) - 4:  # not just a character cut in two at the end
            return False
        text = head[: error.start].decode()
    return all(character.isprintable() or character in "\r\n\t" for character in text)
