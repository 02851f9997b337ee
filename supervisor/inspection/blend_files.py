"""The external files that a .blend names, read from its blocks. No file but the .blend itself is looked at.

Blender-asset-tracer's own trace would open linked files wherever they say they are, and knows only the files that are there;
here every data-block that can name a file is asked, whether or not something uses it.
Numbers are Blender's own: DNA_image_types.h, DNA_movieclip_types.h, DNA_sequence_types.h, DNA_object_force_types.h (2.80 to 5.0).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from blender_asset_tracer import cdefs
from blender_asset_tracer.blendfile import BlendFile, iterators

from supervisor.domain.scene import Dependency, DependencyKind

from .blend_scenes import block_name

# A block of a .blend is `Any`: the library that reads it has no types.

_CLIP_SEQUENCE = 1
_BAKED = 1 << 0
_NODE_FILE_STRUCTS = (b"NodeShaderTexIES", b"NodeShaderScript")
_EXTERNAL_NODE_FILE = 1
_DIGITS = re.compile(r"\d+(?=\D*$)")
_TILE = re.compile(r"<UDIM>|<UVTILE>|1001(?=\D*$)")


def dependencies(blend: BlendFile, *, stem: str, note: Callable[[str], None]) -> tuple[Dependency, ...]:
    """Every external file, each once, in the order of the file. `note` is told what could not be read.

    Shape:   stem: the .blend's name without `.blend`: Blender names cache folders by it
    """
    found: dict[tuple[str, DependencyKind], Dependency] = {}
    readers = _BY_STRUCT | {b"PointCache": partial(_point_cache, stem=stem)}
    by_struct = {number: readers[struct.dna_type_id] for number, struct in enumerate(blend.structs) if struct.dna_type_id in readers}
    for block in blend.blocks:
        reader = by_struct.get(block.sdna_index) if block.code == b"DATA" else _BY_CODE.get(block.code)
        if reader is None:
            continue
        try:
            for dependency in reader(block):
                found.setdefault((dependency.path, dependency.kind), dependency)
        except (KeyError, ValueError, IndexError, AssertionError, NotImplementedError, AttributeError) as error:
            note(f"{block.code.decode(errors='replace')} block at {block.file_offset}: {error!r}")
    return tuple(found.values())


def _dependency(raw: bytes, kind: DependencyKind, used_by: str, *, is_numbered: bool = False) -> Iterator[Dependency]:
    path = raw.decode(errors="replace")
    if not path.strip():
        return
    relative = _relative(path)
    yield Dependency(
        path=path,
        kind=kind,
        is_absolute=relative is None,
        relative=relative,
        pattern=_pattern(relative, kind) if is_numbered and relative else None,
        used_by=used_by,
    )


def _relative(path: str) -> str | None:
    """The path from the .blend's folder. Returns: None for one that begins elsewhere: /…, C:\\…, \\\\server\\…"""
    if path.startswith("\\\\") or re.match(r"[A-Za-z]:", path):
        return None
    slashed = path.replace("\\", "/")
    if slashed.startswith("//"):
        return slashed[2:].lstrip("/")
    return None if slashed.startswith("/") else slashed


def _pattern(relative: str, kind: DependencyKind) -> str | None:
    """A glob for the numbered files that one name stands for. Returns: None if the name has no number"""
    folder, slash, name = relative.rpartition("/")
    numbers = _TILE if kind is DependencyKind.UDIM else _DIGITS
    changed = numbers.sub("*", name, count=1)
    return folder + slash + changed if changed != name else None


def _image(block: Any) -> Iterator[Dependency]:
    if _is_packed(block) or block.get_pointer((b"packedfiles", b"first"), None) is not None:
        return
    kinds = {
        cdefs.IMA_SRC_FILE: DependencyKind.IMAGE,
        cdefs.IMA_SRC_SEQUENCE: DependencyKind.SEQUENCE,
        cdefs.IMA_SRC_MOVIE: DependencyKind.MOVIE,
        cdefs.IMA_SRC_TILED: DependencyKind.UDIM,
    }
    kind = kinds.get(block.get(b"source", default=cdefs.IMA_SRC_FILE))  # others are made by Blender: generated, render result
    if kind:
        is_numbered = kind in {DependencyKind.SEQUENCE, DependencyKind.UDIM}
        yield from _dependency(block.get(b"name"), kind, _used_by("image", block), is_numbered=is_numbered)


def _library(block: Any) -> Iterator[Dependency]:
    # data that is linked is there as a placeholder that points to its library; one without any is packed, or not used any more
    is_used = any(link.get(b"lib", default=0) == block.addr_old for link in block.bfile.find_blocks_from_code(b"ID"))
    if is_used and not _is_packed(block):
        yield from _dependency(block.get(b"name"), DependencyKind.LIBRARY, _used_by("library", block))


def _movie_clip(block: Any) -> Iterator[Dependency]:
    is_sequence = block.get(b"source", default=0) == _CLIP_SEQUENCE
    kind = DependencyKind.SEQUENCE if is_sequence else DependencyKind.MOVIE
    yield from _dependency(block.get(b"name"), kind, _used_by("movie clip", block), is_numbered=is_sequence)


def _sound(block: Any) -> Iterator[Dependency]:
    if not _is_packed(block):
        yield from _dependency(block.get(b"name"), DependencyKind.SOUND, _used_by("sound", block))


def _font(block: Any) -> Iterator[Dependency]:
    if not _is_packed(block) and block.get(b"name") != b"<builtin>":
        yield from _dependency(block.get(b"name"), DependencyKind.FONT, _used_by("font", block))


def _volume(block: Any) -> Iterator[Dependency]:
    if not _is_packed(block):
        is_sequence = bool(block.get(b"is_sequence", default=0))
        yield from _dependency(block.get(b"filepath"), DependencyKind.VOLUME, _used_by("volume", block), is_numbered=is_sequence)


def _cache_file(block: Any) -> Iterator[Dependency]:
    is_sequence = bool(block.get(b"is_sequence", default=0))
    yield from _dependency(block.get(b"filepath"), DependencyKind.CACHE, _used_by("cache file", block), is_numbered=is_sequence)


def _mesh(block: Any) -> Iterator[Dependency]:
    for data in (b"ldata", b"fdata"):
        external = block.get_pointer((data, b"external"), None)
        if external is not None:
            yield from _dependency(external.get(b"filename"), DependencyKind.CACHE, _used_by("multiresolution mesh", block))
            return


def _scene(block: Any) -> Iterator[Dependency]:
    editor = block.get_pointer(b"ed", None)
    if editor is None:
        return
    for strip, strip_type in iterators.sequencer_strips(editor):
        yield from _strip(strip, strip_type, f"video sequencer of scene {block_name(block)}")


def _strip(strip: Any, strip_type: int, used_by: str) -> Iterator[Dependency]:
    kinds = {
        cdefs.SEQ_TYPE_IMAGE: DependencyKind.IMAGE,
        cdefs.SEQ_TYPE_MOVIE: DependencyKind.MOVIE,
    }
    kind = kinds.get(strip_type)  # a sound strip's file is that of a sound data-block
    data = strip.get_pointer(b"strip", None) if kind else None
    elements = data.get_pointer(b"stripdata", None) if data is not None else None
    if kind is None or data is None or elements is None:
        return
    folder = data.get(b"dir")
    if folder and not folder.endswith((b"/", b"\\")):
        folder += b"/"
    count = elements.count if kind is DependencyKind.IMAGE else 1
    for index in range(count):
        yield from _dependency(folder + elements.get(b"name", array_index=index), kind, used_by)


def _mesh_cache(block: Any) -> Iterator[Dependency]:
    yield from _dependency(block.get(b"filepath"), DependencyKind.CACHE, "mesh cache modifier")


def _ocean(block: Any) -> Iterator[Dependency]:
    if block.get(b"cached"):
        yield from _dependency(block.get(b"cachepath"), DependencyKind.CACHE, "ocean modifier")


def _fluid(block: Any) -> Iterator[Dependency]:
    yield from _dependency(block.get(b"cache_directory"), DependencyKind.CACHE, "fluid simulation")


def _point_cache(block: Any, *, stem: str) -> Iterator[Dependency]:
    flag, used_by = block.get(b"flag"), f"point cache {_text(block.get(b'name'))}".strip()
    if flag & cdefs.PTCACHE_EXTERNAL:
        yield from _dependency(block.get(b"path"), DependencyKind.CACHE, used_by)
    elif flag & cdefs.PTCACHE_DISK_CACHE and flag & _BAKED:
        yield from _dependency(f"//blendcache_{stem}".encode(), DependencyKind.CACHE, used_by)  # ptcache_path() in pointcache.cc


def _node_file(block: Any) -> Iterator[Dependency]:
    if block.get(b"mode", default=_EXTERNAL_NODE_FILE) == _EXTERNAL_NODE_FILE:
        yield from _dependency(block.get(b"filepath"), DependencyKind.OTHER, "shader node (IES light or OSL script)")


def _bakes(block: Any) -> Iterator[Dependency]:
    """The folders of geometry nodes bakes on disk; bakes packed into the .blend are no files."""
    bakes = block.get_pointer(b"bakes", None)
    if bakes is None or not block.has_field(b"simulation_bake_directory"):
        return
    for bake in iterators.dynamic_array(bakes):
        target = bake.get(b"bake_target", default=None)
        if target == cdefs.NODES_MODIFIER_BAKE_TARGET_INHERIT:
            target = block.get(b"bake_target", default=None)
        if target == cdefs.NODES_MODIFIER_BAKE_TARGET_PACKED:
            continue
        is_own = bool(bake.get(b"flag") & cdefs.NODES_MODIFIER_BAKE_CUSTOM_PATH)
        folder = bake.get_pointer(b"directory", None) if is_own else block.get_pointer(b"simulation_bake_directory", None)
        if folder is not None:
            yield from _dependency(folder.as_bytes_string(), DependencyKind.CACHE, "geometry nodes bake")


def _is_packed(block: Any) -> bool:
    return bool(block.get(b"packedfile", default=0))


def _used_by(what: str, block: Any) -> str:
    return f"{what} {block_name(block) or ''}".strip()


def _text(raw: bytes) -> str:
    return raw.decode(errors="replace")


_BY_CODE: dict[bytes, Callable[[Any], Iterator[Dependency]]] = {
    b"IM": _image,
    b"LI": _library,
    b"MC": _movie_clip,
    b"SO": _sound,
    b"VF": _font,
    b"VO": _volume,
    b"CF": _cache_file,
    b"ME": _mesh,
    b"SC": _scene,
}
_BY_STRUCT: dict[bytes, Callable[[Any], Iterator[Dependency]]] = {
    b"MeshCacheModifierData": _mesh_cache,
    b"OceanModifierData": _ocean,
    b"FluidDomainSettings": _fluid,
    b"NodesModifierData": _bakes,
    **{name: _node_file for name in _NODE_FILE_STRUCTS},
}
