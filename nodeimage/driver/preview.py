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
        full = preview + ".jpg"
        with _as_jpeg(scene):
            bpy.data.images["Render Result"].save_render(full, scene=scene)
        self._scale(full, preview)
        os.remove(full)

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


@contextmanager
def _as_jpeg(scene: Any) -> Iterator[None]:
    image = scene.render.image_settings
    names = [
        name
        for name in ("media_type", "file_format", "color_mode", "color_depth", "quality", "compression", "exr_codec")
        if hasattr(image, name)
    ]
    before = [(name, getattr(image, name)) for name in names]
    if hasattr(image, "media_type"):
        image.media_type = "IMAGE"
    image.file_format = "JPEG"
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
