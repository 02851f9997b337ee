"""Check what a frame wrote: everything opens and is whole, and the frame itself has the size it should have."""

from __future__ import annotations

import os
from typing import Any

import imbuf

from .images import BadImage, image_size
from .outputs import expected_size, files_below


class BadOutput(Exception):
    """A frame's output is missing or bad; the message says which and why."""


def checked_outputs(scene: Any, folder: str, main: str) -> list[dict[str, Any]]:
    """List a frame's files.

    Shape:   [{"name", "bytes"}], the main images first
    Errors:  BadOutput - none, or one that is empty, truncated, unreadable or of the wrong size
    """
    names = files_below(folder)
    stem = os.path.splitext(os.path.basename(main))[0]
    mains = [name for name in names if "/" not in name and name.startswith(stem)]
    if not mains:
        raise BadOutput("Blender says it rendered the frame and wrote no image of it")
    for name in names:
        size = _opened_size(os.path.join(folder, name), name)
        if name in mains:
            _check_size(scene, name, size)
    ordered = mains + [name for name in names if name not in mains]
    return [{"name": name, "bytes": os.path.getsize(os.path.join(folder, name))} for name in ordered]


def _opened_size(path: str, name: str) -> tuple[int, int]:
    try:
        size = image_size(path)
    except BadImage as error:
        raise BadOutput(f"{name} is no good: {error}") from error
    return size or _size_by_blender(path, name)


def _size_by_blender(path: str, name: str) -> tuple[int, int]:
    try:
        image = imbuf.load(path)
    except OSError as error:
        raise BadOutput(f"{name} is no good: Blender itself can't open it") from error
    width, height = image.size
    image.free()
    return width, height


def _check_size(scene: Any, name: str, size: tuple[int, int]) -> None:
    width, height, off = expected_size(scene)
    allowed = [(width, height)]
    views = getattr(scene.render.image_settings, "views_format", "INDIVIDUAL")
    if scene.render.use_multiview and views == "STEREO_3D":  # both eyes in one picture, squeezed or not
        allowed += [(2 * width, height), (width, 2 * height)]
    if not any(abs(size[0] - w) <= off and abs(size[1] - h) <= off for w, h in allowed):
        raise BadOutput(f"{name} is {size[0]} × {size[1]} pixels and should be {width} × {height}")
