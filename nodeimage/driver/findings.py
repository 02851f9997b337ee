"""What is missing from the open .blend: files it names, and data that its libraries no longer have."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import bpy

#: Findings of one kind beyond these are counted, not listed: a lost texture folder would fill the page.
MOST = 40


def missing_things() -> list[dict[str, str]]:
    """List what the file needs and does not find. Blender opens and renders all the same: pink, or empty."""
    missing = list(_missing_files())
    findings = [{"code": "missing_file", "text": text} for text in missing[:MOST]]
    if len(missing) > MOST:
        findings.append({"code": "missing_file", "text": f"{len(missing) - MOST} more files are missing."})
    linked = list(_missing_linked())
    findings += [{"code": "linked_id", "text": text} for text in linked[:MOST]]
    if len(linked) > MOST:
        findings.append({"code": "linked_id", "text": f"{len(linked) - MOST} more linked things are missing."})
    return findings


def newer_file() -> list[dict[str, str]]:
    """Say whether a newer Blender saved the file: what is new in it is dropped without a word."""
    saved_by, ours = tuple(bpy.data.version[:2]), bpy.app.version[:2]
    if saved_by <= ours:
        return []
    text = (
        f"The file was saved by Blender {saved_by[0]}.{saved_by[1]} and is rendered by {ours[0]}.{ours[1]}: what is new in it may be lost."
    )
    return [{"code": "newer_file", "text": text}]


def _missing_files() -> Iterator[str]:
    for library in bpy.data.libraries:
        path = bpy.path.abspath(library.filepath, library=library.parent)
        if getattr(library, "is_missing", False) or not os.path.exists(path):
            yield f"The library {library.filepath} is missing."
    for image in bpy.data.images:
        if image.users and not _image_is_there(image):
            yield f"The image “{image.name}” is missing: {image.filepath}"
    for kind, things in _other_files():
        for thing in things:
            if thing.users and not _is_there(thing):
                yield f"The {kind} “{thing.name}” is missing: {thing.filepath}"


def _image_is_there(image: Any) -> bool:
    if image.source not in {"FILE", "SEQUENCE", "MOVIE", "TILED"} or image.packed_file or len(image.packed_files) or not image.filepath:
        return True
    path = bpy.path.abspath(image.filepath, library=image.library)
    if image.source != "TILED":
        return os.path.exists(path)
    # UVTILE counts u and v from 1: u1_v1, where UDIM says 1001
    names = ((str(tile.number), f"u{(tile.number - 1001) % 10 + 1}_v{(tile.number - 1001) // 10 + 1}") for tile in image.tiles)
    return all(os.path.exists(path.replace("<UDIM>", udim).replace("<UVTILE>", uv)) for udim, uv in names)


def _is_there(thing: Any) -> bool:
    path = thing.filepath
    if not path or path == "<builtin>" or getattr(thing, "packed_file", None):
        return True
    return os.path.exists(bpy.path.abspath(path, library=thing.library))


def _other_files() -> tuple[tuple[str, Any], ...]:
    return (
        ("font", bpy.data.fonts),
        ("sound", bpy.data.sounds),
        ("movie clip", bpy.data.movieclips),
        ("cache file", bpy.data.cache_files),
        ("volume", bpy.data.volumes),
    )


def _missing_linked() -> Iterator[str]:
    for name in ("objects", "meshes", "materials", "node_groups", "collections", "worlds", "scenes", "actions"):
        for thing in getattr(bpy.data, name):
            if getattr(thing, "is_missing", False):
                yield f"“{thing.name}” ({name}) is not found in {thing.library.filepath if thing.library else 'its library'}."
