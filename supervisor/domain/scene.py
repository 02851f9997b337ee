"""What an inspection finds in a .blend without Blender, and what of it is missing among a job's files."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


@dataclass(frozen=True, slots=True, kw_only=True)
class SceneInfo:
    """One scene of a .blend."""

    name: str
    camera: str | None  #: None: it can't be rendered unless a marker binds one
    cameras: tuple[str, ...] = ()
    marker_cameras: tuple[tuple[int, str], ...] = ()  #: (frame, camera), ascending
    view_layers: tuple[str, ...] = ()
    frame_start: int = 1
    frame_end: int = 250
    frame_step: int = 1
    fps: float = 24.0
    width_px: int = 1920
    height_px: int = 1080
    resolution_pct: int = 100
    engine: str = ""  #: Blender's identifier: CYCLES, BLENDER_EEVEE_NEXT, BLENDER_WORKBENCH …
    samples: int | None = None
    file_format: str = "PNG"  #: Blender's identifier: PNG, OPEN_EXR, FFMPEG …
    output_path: str = ""  #: as saved
    is_movie: bool = False  #: True: rendered as PNG frames instead


class DependencyKind(StrEnum):
    """What refers to an external file."""

    LIBRARY = "library"  #: another .blend
    IMAGE = "image"
    SEQUENCE = "sequence"  #: numbered images
    UDIM = "udim"  #: image tiles
    MOVIE = "movie"
    SOUND = "sound"
    FONT = "font"
    CACHE = "cache"  #: simulation, Alembic, USD
    VOLUME = "volume"
    OTHER = "other"


@dataclass(frozen=True, slots=True, kw_only=True)
class Dependency:
    """An external file (or a numbered set of files) that a .blend names."""

    path: str  #: as saved in the .blend, for people (`//textures/wood.png`)
    kind: DependencyKind
    is_absolute: bool  #: names a place on the artist's machine
    relative: str | None  #: path from the .blend's own folder, `..` resolved by the reader's job; None where absolute
    pattern: str | None = None  #: for SEQUENCE, UDIM: a glob over `relative` with `*` for the number
    used_by: str = ""  #: name of what uses it, for people


@dataclass(frozen=True, slots=True, kw_only=True)
class Inspection:
    """What one .blend says of itself; linked libraries have an inspection of their own."""

    version: tuple[int, int]  #: Blender series that saved it, such as (4, 5)
    is_compressed: bool
    scenes: tuple[SceneInfo, ...]
    current_scene: str | None
    dependencies: tuple[Dependency, ...]
    warnings: tuple[str, ...] = ()  #: for people: what could not be read, and what that means

    def scene(self, name: str | None) -> SceneInfo | None:
        """The scene of that name; for None the current one, else the first. Returns: None if there is none such."""
        wanted = name or self.current_scene
        for scene in self.scenes:
            if scene.name == wanted:
                return scene
        return self.scenes[0] if self.scenes and not name else None


class FoundAs(StrEnum):
    """How a dependency stands with a job's files."""

    PRESENT = "present"  #: among the job's files
    ELSEWHERE = "elsewhere"  #: a file of that name is among the job's files, in another place: it will not be found in rendering
    MISSING = "missing"  #: not among the job's files
    ABSOLUTE = "absolute"  #: names a place on the artist's machine, which no node has


@dataclass(frozen=True, slots=True, kw_only=True)
class DependencyFound:
    """A dependency with how it stands."""

    dependency: Dependency
    in_file: str  #: path, in the job, of the .blend that names it
    found: FoundAs
    at: str = ""  #: where in the job, for PRESENT and ELSEWHERE
