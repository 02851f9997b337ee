"""Read one .blend and print what it says, as JSON. Run as a process of its own: the file may be made to break whoever reads it."""

from __future__ import annotations

import argparse
import errno
import json
import logging
import resource
import struct
import sys
from itertools import islice
from pathlib import Path
from typing import Any

from blender_asset_tracer.blendfile import BlendFile
from blender_asset_tracer.blendfile.exceptions import BlendFileError

from supervisor.domain.scene import Inspection
from supervisor.domain.scene_json import inspection_to_json

from .blend_files import dependencies
from .blend_scenes import current_scene, scenes
from .plain import DAMAGED, NotUsable, TooLarge, cut_off, plain_blend

_MAX_NOTES = 5
_LAST_BLOCK_BYTES = 32
# What a person makes has fewer; more would only fill the memory of whoever reads the answer.
_MAX_SCENES = 1_000
_MAX_DEPENDENCIES = 50_000


def main() -> None:
    """Print one JSON object: {"inspection": …}, {"bad": why}, {"too_large": true} or {"no_room": true}."""
    parser = argparse.ArgumentParser()
    parser.add_argument("file", type=Path)
    parser.add_argument("--stem", required=True)
    parser.add_argument("--scratch", type=Path, required=True)
    parser.add_argument("--max-bytes", type=int, required=True)
    parser.add_argument("--memory-bytes", type=int, required=True)
    parser.add_argument("--cpu-s", type=int, required=True)
    wanted = parser.parse_args()
    _limit(memory_bytes=wanted.memory_bytes, cpu_s=wanted.cpu_s, file_bytes=wanted.max_bytes)
    logging.disable(logging.CRITICAL)
    json.dump(_answer(wanted.file, wanted.scratch, stem=wanted.stem, max_bytes=wanted.max_bytes), sys.stdout)


def inspect(path: Path, scratch: Path, *, stem: str, max_bytes: int) -> Inspection:
    """Errors: NotUsable, TooLarge, OSError"""
    with plain_blend(path, scratch, max_bytes=max_bytes) as (plain, is_compressed), _opened(plain) as blend:
        _check_end(blend, plain)
        return _inspection(blend, stem=stem, is_compressed=is_compressed)


def _opened(plain: Path) -> BlendFile:
    try:
        return BlendFile(plain)
    except (BlendFileError, struct.error, ValueError, IndexError) as error:
        with plain.open("rb") as file:
            file.seek(max(0, plain.stat().st_size - _LAST_BLOCK_BYTES))
            has_end = b"ENDB" in file.read()
        raise NotUsable(DAMAGED) if has_end else cut_off() from error


def _answer(path: Path, scratch: Path, *, stem: str, max_bytes: int) -> dict[str, Any]:
    try:
        return {"inspection": inspection_to_json(inspect(path, scratch, stem=stem, max_bytes=max_bytes))}
    except NotUsable as error:
        return {"bad": str(error)}
    except TooLarge:
        return {"too_large": True}
    except MemoryError:
        return {"bad": "reading it takes more memory than the farm allows ([inspection] memory_mib)"}
    except OSError as error:
        if error.errno == errno.ENOSPC:
            return {"no_room": True}
        raise


def _inspection(blend: BlendFile, *, stem: str, is_compressed: bool) -> Inspection:
    BlendFile.strict_pointer_mode = False  # a dangling pointer is none
    notes: list[str] = []
    found = dependencies(blend, stem=stem, note=notes.append)
    major, minor = divmod(blend.header.version, 100)
    return Inspection(
        version=(major, minor),
        is_compressed=is_compressed,
        scenes=tuple(islice(scenes(blend), _MAX_SCENES)),
        current_scene=current_scene(blend),
        dependencies=found[:_MAX_DEPENDENCIES],
        warnings=tuple(f"some of its external files could not be read and are not listed ({note})" for note in notes[:_MAX_NOTES]),
    )


def _check_end(blend: BlendFile, plain: Path) -> None:
    last = blend.blocks[-1]
    end = last.file_offset + last.size
    with plain.open("rb") as file:
        file.seek(end)
        if file.read(4) != b"ENDB":
            raise cut_off()


def _limit(*, memory_bytes: int, cpu_s: int, file_bytes: int) -> None:
    for what, limit in (
        (resource.RLIMIT_AS, memory_bytes),
        (resource.RLIMIT_CPU, cpu_s),
        (resource.RLIMIT_FSIZE, file_bytes + (1 << 20)),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NOFILE, 32),
    ):
        resource.setrlimit(what, (limit, limit))


if __name__ == "__main__":
    main()
