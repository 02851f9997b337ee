"""Where Blender writes a frame: all of it into one folder, whatever the file says."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from typing import Any

from .names import output_stem, safe_name, safe_path, unique_name, with_number


def compositor_tree(scene: Any) -> Any:
    """The node tree that Blender composites with, or None."""
    if hasattr(scene, "compositing_node_group"):  # 5.0
        return scene.compositing_node_group
    return scene.node_tree if scene.use_nodes else None


def file_output_nodes(scene: Any) -> list[Any]:
    """The File Output nodes of the scene, those inside groups too."""
    return list(_file_outputs(compositor_tree(scene), set()))


def _file_outputs(tree: Any, seen: set[str]) -> Iterator[Any]:
    if tree is None or tree.name_full in seen:
        return
    seen.add(tree.name_full)
    for node in tree.nodes:
        if node.bl_idname == "CompositorNodeOutputFile":
            yield node
        else:
            yield from _file_outputs(getattr(node, "node_tree", None), seen)


class OutputPaths:
    """The scene's own output names, read once, and pointed into a folder frame by frame."""

    def __init__(self, scene: Any, output_name: str | None) -> None:
        self._scene = scene
        self._stem = output_stem(scene.render.filepath) if output_name is None else safe_name(output_name)
        taken: set[str] = set()
        self._nodes = []
        for node in file_output_nodes(scene):
            folder = unique_name(safe_name(node.name).strip(" .") or "File Output", taken)
            self._nodes.append((node, folder, _node_stem(node)))
            _make_slots_safe(node)

    def findings(self) -> list[dict[str, str]]:
        """Say which File Output nodes write elsewhere than the file says."""
        text = "The File Output node “{}” writes into the frame's own folder “{}”, whatever path it names."
        return [{"code": "outputs_redirected", "text": text.format(node.name, folder)} for node, folder, _ in self._nodes]

    def finish(self, folder: str, frame: int) -> None:
        """Give the files of a frame the names that an animation render gives them."""
        render = self._scene.render
        suffixes = [view.file_suffix for view in render.views] if render.use_multiview else []
        for node, name, stem in self._nodes:
            # 5.0 leaves the frame number out of what a File Output node writes in a still render
            if not hasattr(node, "base_path") and "#" not in stem:
                numbered = frozenset(with_number(stem + item.name, frame) for item in node.file_output_items if "#" in item.name)
                number_files(os.path.join(folder, name), frame, suffixes, numbered=numbered)

    def point_to(self, folder: str, frame: int) -> str:
        """Make everything of a frame go into `folder`. Returns: the path of the main image, as Blender names it"""
        render = self._scene.render
        render.filepath = os.path.join(folder, self._stem)
        main = render.frame_path(frame=frame)
        # A still render adds no frame number: name the file as an animation render would.
        render.filepath = main
        for node, name, stem in self._nodes:
            below = os.path.join(folder, name)
            os.makedirs(below, exist_ok=True)
            if hasattr(node, "base_path"):
                node.base_path = os.path.join(below, stem)
            else:
                node.directory = below + os.sep
                node.file_name = stem
        return str(main)


def number_files(folder: str, frame: int, view_suffixes: list[str], *, numbered: Collection[str] = ()) -> None:
    """Put the frame number into the names of files that were written without one, where an animation render has it.

    Shape:   `numbered`: names without view and extension that have it already
    """
    number = f"{frame:0{5 if frame < 0 else 4}d}"
    for name in os.listdir(folder):
        base, extension = os.path.splitext(name)
        view = next((suffix for suffix in view_suffixes if suffix and base.endswith(suffix)), "")
        stem = base[: len(base) - len(view)]
        if stem not in numbered:
            os.rename(os.path.join(folder, name), os.path.join(folder, stem + number + view + extension))


def _node_stem(node: Any) -> str:
    """What the files of a File Output node begin with."""
    if hasattr(node, "base_path"):
        return output_stem(node.base_path) if node.format.file_format == "OPEN_EXR_MULTILAYER" else ""
    return safe_name(node.file_name)


def _make_slots_safe(node: Any) -> None:
    if not hasattr(node, "base_path"):
        for item in node.file_output_items:
            item.name = safe_path(item.name).replace("/", "_") or "Image"
        return
    if node.format.file_format == "OPEN_EXR_MULTILAYER":
        return
    for slot in node.file_slots:
        slot.path = safe_path(slot.path) or "Image"


def expected_size(scene: Any) -> tuple[int, int, int]:
    """The size of the scene's images: width, height, and how many pixels it may be off.

    Blender cuts a border out by rounding each edge, so the size of a crop can differ by one.
    """
    render = scene.render
    width = render.resolution_x * render.resolution_percentage // 100
    height = render.resolution_y * render.resolution_percentage // 100
    if not (render.use_border and render.use_crop_to_border):
        return width, height, 0
    return (
        round(width * (render.border_max_x - render.border_min_x)),
        round(height * (render.border_max_y - render.border_min_y)),
        1,
    )


def files_below(folder: str) -> list[str]:
    """The files in a folder and its folders, as relative paths with `/`, in order."""
    found = []
    for root, _, names in os.walk(folder):
        found += [os.path.relpath(os.path.join(root, name), folder).replace(os.sep, "/") for name in names]
    return sorted(found)
