"""A small picture of a frame, as the scene's view transform shows it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import bpy

#: Formats that Blender writes with the view transform applied and in no more than 8 or 16 bits.
DISPLAY_FORMATS = frozenset({"PNG", "JPEG", "BMP", "TARGA", "TARGA_RAW", "WEBP", "IRIS", "JPEG2000"})
QUALITY = 80
#: Settings of a format, in an order in which they can be restored. A JPEG can't hold several views: Blender changes that one by itself.
_CHANGED = ("media_type", "file_format", "views_format", "color_mode", "color_depth", "quality", "compression", "exr_codec")


class Previewer:
    """Makes previews with one image datablock that lives as long as the file is open.

    A datablock made or removed between frames would have Blender rebuild its dependency graph, which costs what persistent data
    saves. Reloading one that nothing uses costs nothing. `imbuf` alone can't turn one format into another.
    """

    def __init__(self, width_px: int) -> None:
        self._width_px = width_px
        self._image = bpy.data.images.new("kiln preview", 8, 8)
        self._image.source = "FILE"

    def write(self, scene: Any, main: str, preview: str) -> None:
        """Make `preview` show the frame just rendered, whose main image is the file `main`.

        Errors:  RuntimeError - Blender can't; the frame itself may be good
        """
        if scene.render.image_settings.file_format in DISPLAY_FORMATS:
            self._scale(main, preview)
            return
        full = _saved_render(scene, preview + ".jpg")
        self._scale(full[0], preview)
        for path in full:
            os.remove(path)

    def _scale(self, source: str, preview: str) -> None:
        image = self._image
        image.filepath = source
        image.reload()
        width, height = image.size
        if not width:
            raise RuntimeError(f"Blender can't open {os.path.basename(source)}")
        if width > self._width_px:
            image.scale(self._width_px, max(1, round(height * self._width_px / width)))
        image.file_format = "WEBP"  # reloading sets it to the source's
        image.save(filepath=preview, quality=QUALITY)


def _saved_render(scene: Any, path: str) -> list[str]:
    """Write the render result as the view transform shows it. Returns: one file; of several views one for each, with the view's suffix"""
    folder = os.path.dirname(path)
    try:
        with _as_jpeg(scene):
            bpy.data.images["Render Result"].save_render(path, scene=scene)
    except RuntimeError:  # of several views it says so after it has written them all
        if not scene.render.use_multiview:
            raise
    written = sorted(os.path.join(folder, name) for name in os.listdir(folder) if name.endswith(".jpg"))
    if not written:
        raise RuntimeError("Blender wrote no picture of the render result")
    return written


@contextmanager
def _as_jpeg(scene: Any) -> Iterator[None]:
    image = scene.render.image_settings
    names = [name for name in _CHANGED if hasattr(image, name)]
    before = [(name, getattr(image, name)) for name in names]
    if hasattr(image, "media_type"):
        image.media_type = "IMAGE"
    image.file_format = "JPEG"
    if hasattr(image, "views_format"):
        image.views_format = "INDIVIDUAL"
    image.color_mode = "RGB"
    image.quality = 90
    try:
        yield
    finally:
        for name, value in before:
            try:
                setattr(image, name, value)
            except (TypeError, AttributeError):  # an enum that the restored format does not offer keeps its value
                continue
