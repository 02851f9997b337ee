"""The scenes of a .blend, read from its blocks: cameras, frames, sizes, engine, format, output path.

Numbers here are Blender's own, from DNA_scene_types.h and DNA_object_types.h (2.80 to 5.0).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from blender_asset_tracer.blendfile import BlendFile, iterators

from supervisor.domain.scene import SceneInfo

# A block of a .blend is `Any`: the library that reads it has no types.

_FORMATS = {
    0: "TARGA",
    1: "IRIS",
    4: "JPEG",
    14: "TARGA_RAW",
    15: "AVI_RAW",
    16: "AVI_JPEG",
    17: "PNG",
    20: "BMP",
    21: "HDR",
    22: "TIFF",
    23: "OPEN_EXR",
    24: "FFMPEG",
    26: "CINEON",
    27: "DPX",
    28: "OPEN_EXR_MULTILAYER",
    29: "DDS",
    30: "JPEG2000",
    31: "H264",
    32: "XVID",
    33: "THEORA",
    34: "PSD",
    35: "WEBP",
    36: "AVIF",
}
_MOVIES = frozenset({"AVI_RAW", "AVI_JPEG", "FFMPEG", "H264", "XVID", "THEORA"})
_CAMERA = 11
_MAX_LISTED = 10_000
_CYCLES_SAMPLES = {"new": 4096, "old": 128}  # what Cycles takes where the file says nothing: from 3.0, before


def current_scene(blend: BlendFile) -> str | None:
    globals_ = blend.find_blocks_from_code(b"GLOB")
    return block_name(globals_[0].get_pointer(b"curscene", None)) if globals_ else None


def scenes(blend: BlendFile) -> Iterator[SceneInfo]:
    """Every scene of the file itself, in its order; linked ones are in their own files."""
    for block in blend.find_blocks_from_code(b"SC"):
        yield _scene(blend, block)


def block_name(block: Any) -> str | None:
    """Name of a data-block without the two letters of its kind. Returns: None for none"""
    if block is None or block.id_name is None:
        return None
    name: bytes = block.id_name
    return name[2:].decode(errors="replace")


def _scene(blend: BlendFile, block: Any) -> SceneInfo:
    file_format = _FORMATS.get(block.get((b"r", b"im_format", b"imtype")), "PNG")
    camera = block_name(block.get_pointer(b"camera", None))
    markers = tuple(sorted(_marker_cameras(block)))
    engine = _text(block, (b"r", b"engine"))
    return SceneInfo(
        name=block_name(block) or "",
        camera=camera,
        cameras=tuple(sorted(_cameras(block) | {name for _, name in markers} | ({camera} if camera else set())))[:_MAX_LISTED],
        marker_cameras=markers[:_MAX_LISTED],
        view_layers=tuple(_text(layer, b"name") for layer in _listed(block, b"view_layers"))[:_MAX_LISTED],
        frame_start=block.get((b"r", b"sfra")),
        frame_end=block.get((b"r", b"efra")),
        frame_step=max(1, block.get((b"r", b"frame_step"), default=1)),
        fps=round(block.get((b"r", b"frs_sec")) / (block.get((b"r", b"frs_sec_base")) or 1.0), 3),
        width_px=block.get((b"r", b"xsch")),
        height_px=block.get((b"r", b"ysch")),
        resolution_pct=block.get((b"r", b"size")),
        engine=engine,
        samples=_samples(blend, block, engine),
        file_format=file_format,
        output_path=_text(block, (b"r", b"pic")),
        is_movie=file_format in _MOVIES,
    )


def _marker_cameras(scene: Any) -> Iterator[tuple[int, str]]:
    for marker in _listed(scene, b"markers"):
        name = block_name(marker.get_pointer(b"camera", None))
        if name:
            yield marker.get(b"frame"), name


def _cameras(scene: Any) -> set[str]:
    found = set()
    for layer in _listed(scene, b"view_layers"):
        for base in _listed(layer, b"object_bases"):
            thing = base.get_pointer(b"object", None)
            # a linked object is only a name here: whether it is a camera stands in its own file
            if thing is not None and thing.code == b"OB" and thing.get(b"type") == _CAMERA:
                found.add(block_name(thing) or "")
    return found


def _samples(blend: BlendFile, scene: Any, engine: str) -> int | None:
    if engine == "CYCLES":
        said = _cycles_samples(scene)
        return said if said is not None else _CYCLES_SAMPLES["new" if blend.header.version >= 300 else "old"]
    if engine.startswith("BLENDER_EEVEE"):
        samples: int | None = scene.get((b"eevee", b"taa_render_samples"), default=None)
        return samples
    return None


def _cycles_samples(scene: Any) -> int | None:
    for field in (b"system_properties", b"properties"):  # from 5.0; to 4.5
        group = scene.get_pointer((b"id", field), None)
        for owner in _group(group):
            if _text(owner, b"name") != "cycles":
                continue
            for setting in _group(owner):
                if _text(setting, b"name") == "samples":
                    samples: int = setting.get((b"data", b"val"))
                    return samples
    return None


def _group(block: Any) -> Iterator[Any]:
    """The members of a group of custom properties."""
    if block is not None:
        yield from iterators.listbase(block.get_pointer((b"data", b"group", b"first"), None))


def _listed(owner: Any, field: bytes) -> Iterator[Any]:
    yield from iterators.listbase(owner.get_pointer((field, b"first"), None))


def _text(block: Any, path: bytes | tuple[bytes, ...]) -> str:
    raw: bytes = block.get(path, default=b"")
    return raw.decode(errors="replace")
