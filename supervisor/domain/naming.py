"""Names in a zip and of a zip."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from .errors import Rejected
from .file import clean_path

_MAX_STEM_BYTES = 150


@dataclass(frozen=True, slots=True, kw_only=True)
class Packed:
    """One file of a zip: an output of a frame."""

    frame: int
    name: str  #: of the output, as the node delivered it
    bytes: int
    crc32: int


def names_in_zip(outputs: Sequence[Packed]) -> list[str]:
    """Name a zip's files, in their order: as Blender named them, with a folder of the frame before those that several frames share.

    Shape:   each name is safe to unpack anywhere, and no two are one where upper and lower case are
    """
    wanted = [_safe(output, number) for number, output in enumerate(outputs)]
    shared = Counter(name.casefold() for name in wanted)
    taken: set[str] = set()
    names = []
    for output, name in zip(outputs, wanted, strict=True):
        unique = name if shared[name.casefold()] == 1 else f"{output.frame:04d}/{name}"
        while unique.casefold() in taken:
            unique = f"again/{unique}"
        taken.add(unique.casefold())
        names.append(unique)
    return names


def zip_name(job_name: str, *, frames: int, total: int) -> str:
    """Name a zip as a browser is to save it: the job's name, and how many frames it has where some are missing."""
    stem = "".join("_" if character in '/\\:*?"<>|' or unicodedata.category(character)[0] == "C" else character for character in job_name)
    stem = stem.encode()[:_MAX_STEM_BYTES].decode(errors="ignore").strip(" .") or "frames"
    return f"{stem}.zip" if frames == total else f"{stem} ({frames} of {total} frames).zip"


def _safe(output: Packed, number: int) -> str:
    try:
        return clean_path(output.name)
    except Rejected:
        return f"{output.frame:04d}/output-{number}"
