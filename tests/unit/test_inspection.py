"""What is read of a .blend without Blender, and what becomes of files that are none."""

from __future__ import annotations

import gzip
import io
import json
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
import zstandard

from supervisor.commands import files as commands
from supervisor.config import InspectionConfig
from supervisor.domain.file import FileStatus
from supervisor.domain.scene import DependencyKind, Inspection
from supervisor.domain.scene_json import inspection_from_json, inspection_to_json
from supervisor.inspection.plain import NotUsable, TooLarge
from supervisor.inspection.recognise import misnamed, not_a_blend
from supervisor.inspection.sandbox import Interrupted, inspect_blend
from supervisor.lifecycle import intake
from tests.fakes.farm import FakeFarm

DATA = Path(__file__).parents[1] / "data"
LIMITS = InspectionConfig()
GIB = 1 << 30
VERSIONS = ("4.5", "5.0")


def plain(version: str = "4.5") -> bytes:
    """The sample scene as it is without compression."""
    packed = (DATA / f"scene-{version}.blend").read_bytes()
    return zstandard.ZstdDecompressor().stream_reader(packed, read_across_frames=True).read()


def inspected(folder: Path, body: bytes, *, limits: InspectionConfig = LIMITS, max_bytes: int = GIB) -> Inspection:
    file = folder / "file.blend"
    file.write_bytes(body)
    return inspect_blend(file, stem="shot", scratch=folder, limits=limits, max_bytes=max_bytes)


@pytest.mark.parametrize("version", VERSIONS)
def test_scene_is_read_as_blender_saved_it(tmp_path: Path, version: str) -> None:
    found = inspected(tmp_path, (DATA / f"scene-{version}.blend").read_bytes())

    assert found.version == tuple(int(n) for n in version.split("."))
    assert found.is_compressed
    assert found.warnings == ()
    assert found.current_scene == "Scene"
    scene = found.scene(None)
    assert scene is not None
    assert (scene.frame_start, scene.frame_end, scene.frame_step) == (2, 33, 3)
    assert (scene.width_px, scene.height_px, scene.resolution_pct) == (640, 360, 50)
    assert (scene.fps, scene.engine, scene.samples) == (29.97, "CYCLES", 17)
    assert (scene.file_format, scene.is_movie, scene.output_path) == ("OPEN_EXR", False, "//out/shot_")
    assert scene.cameras == ("Camera", "Close-up")
    assert scene.marker_cameras == ((10, "Close-up"),)
    assert scene.view_layers == ("ViewLayer", "Shadows")


def test_name_that_begins_with_a_dash_is_no_option(tmp_path: Path) -> None:
    file = tmp_path / "file.blend"
    file.write_bytes(plain())
    assert inspect_blend(file, stem="-rf", scratch=tmp_path, limits=LIMITS, max_bytes=GIB).scenes


@pytest.mark.parametrize("version", VERSIONS)
def test_scene_set_to_a_movie_says_so(tmp_path: Path, version: str) -> None:
    film = inspected(tmp_path, plain(version)).scene("Film")
    assert film is not None
    assert film.is_movie
    assert film.file_format == "FFMPEG"
    assert film.camera is None
    assert film.engine.startswith("BLENDER_EEVEE")
    assert film.samples == 21


@pytest.mark.parametrize("version", VERSIONS)
def test_external_files_of_every_kind_are_found_and_packed_ones_are_not(tmp_path: Path, version: str) -> None:
    found = inspected(tmp_path, plain(version)).dependencies

    kinds = DependencyKind
    assert {(d.relative, d.kind) for d in found if not d.is_absolute} == {
        ("textures/wood.png", kinds.IMAGE),
        ("textures/old/bark.png", kinds.IMAGE),
        ("../shared/sky.exr", kinds.IMAGE),
        ("titles/first.png", kinds.IMAGE),
        ("titles/second.png", kinds.IMAGE),
        ("rain/drop_0007.png", kinds.SEQUENCE),
        ("skin/skin.<UDIM>.png", kinds.UDIM),
        ("screen.mp4", kinds.MOVIE),
        ("plates/plate_01.png", kinds.MOVIE),
        ("audio/hum.wav", kinds.SOUND),
        ("fonts/title.ttf", kinds.FONT),
        ("vdb/smoke_001.vdb", kinds.VOLUME),
        ("cache/plane.mdd", kinds.CACHE),
        ("cache_fluid", kinds.CACHE),
        ("cloth_cache", kinds.CACHE),
        ("lamps/street.ies", kinds.OTHER),
        ("../lib/props.blend", kinds.LIBRARY),
    }


@pytest.mark.parametrize("version", VERSIONS)
def test_absolute_paths_of_all_systems_are_told_apart(tmp_path: Path, version: str) -> None:
    found = inspected(tmp_path, plain(version)).dependencies
    assert {d.path for d in found if d.is_absolute} == {"C:\\Users\\ada\\brick.png", "\\\\nas\\share\\tile.png", "/home/ada/stone.png"}
    assert all(d.relative is None for d in found if d.is_absolute)


def test_numbered_files_have_a_pattern(tmp_path: Path) -> None:
    found = inspected(tmp_path, plain()).dependencies
    assert {d.pattern for d in found if d.pattern} == {"rain/drop_*.png", "skin/skin.*.png", "vdb/smoke_*.vdb"}


def test_dependency_says_what_uses_it(tmp_path: Path) -> None:
    found = {d.relative: d.used_by for d in inspected(tmp_path, plain()).dependencies}
    assert found["textures/wood.png"] == "image wood"
    assert found["titles/first.png"] == "video sequencer of scene Scene"


def test_compression_of_either_kind_changes_nothing_but_the_note_of_it(tmp_path: Path) -> None:
    body = plain()
    as_is, zipped = inspected(tmp_path, body), inspected(tmp_path, gzip.compress(body))
    zstd = inspected(tmp_path, (DATA / "scene-4.5.blend").read_bytes())
    assert (as_is.is_compressed, zipped.is_compressed, zstd.is_compressed) == (False, True, True)
    assert as_is.scenes == zipped.scenes == zstd.scenes
    assert as_is.dependencies == zipped.dependencies == zstd.dependencies
    assert [path.name for path in tmp_path.iterdir()] == ["file.blend"]


@pytest.mark.parametrize("share", [0.001, 0.1, 0.5, 0.9, 0.999])
@pytest.mark.parametrize("kind", ["plain", "zstd", "gzip"])
def test_truncated_file_is_unusable_whatever_its_compression(tmp_path: Path, kind: str, share: float) -> None:
    body = {"plain": plain(), "zstd": (DATA / "scene-4.5.blend").read_bytes(), "gzip": gzip.compress(plain())}[kind]
    if kind == "zstd":
        share = min(share, 0.99)  # the last bytes are an index that nothing needs
    with pytest.raises(NotUsable, match="cut off"):
        inspected(tmp_path, body[: int(len(body) * share)])


def test_file_without_its_very_last_block_is_unusable(tmp_path: Path) -> None:
    body = plain()
    with pytest.raises(NotUsable, match="cut off"):
        inspected(tmp_path, body[: body.rindex(b"ENDB")])


def test_damaged_compression_is_unusable(tmp_path: Path) -> None:
    body = bytearray(gzip.compress(plain()))
    body[len(body) // 2 : len(body) // 2 + 64] = bytes(64)
    with pytest.raises(NotUsable, match="damaged"):
        inspected(tmp_path, bytes(body))


@pytest.mark.parametrize("seed", range(8))
def test_file_with_bytes_overwritten_is_read_or_refused_and_breaks_nothing(tmp_path: Path, seed: int) -> None:
    body = bytearray(plain())
    for at in range(20 + seed * 997, len(body), 9973):
        body[at] ^= 0xFF
    with suppress(NotUsable):
        assert inspected(tmp_path, bytes(body), limits=InspectionConfig(timeout_s=20)).version == (4, 5)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"PK\x03\x04rest", "a zip archive"),
        (b"\x89PNG\r\n\x1a\n" + bytes(50), "a PNG picture"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12\n", "git lfs pull"),
        (b"<!DOCTYPE html><html><body>Sign in</body></html>", "a web page"),
        (b"\n <HTML>", "a web page"),
        ("Notes on the scene: größer machen\n".encode(), "a text file"),
        (bytes(4096), "nothing but zeros"),
        (b"\x00\x05\x16\x07\x00\x02\x00\x00Mac OS X", "macOS"),
        (b"Kaydara FBX Binary  \x00", "an FBX model"),
        (b"\x7fELF\x02\x01\x01\x00\xff\xfe", "save the scene in Blender"),
        (gzip.compress(b"a tarball, say", mtime=0), "compressed file of another kind"),
        (b"BLENDER19-02v0600" + bytes(100), "Blender 6.0 saved it"),
        (b"BLENDER-v405", "cut off"),
        (b"BLEND", "text file"),
    ],
)
def test_what_is_no_blend_is_refused_with_what_it_is(tmp_path: Path, body: bytes, said: str) -> None:
    with pytest.raises(NotUsable, match=said):
        inspected(tmp_path, body)


def test_text_cut_in_mid_character_is_still_text() -> None:
    assert "text file" in not_a_blend("Größe".encode()[:4])


@pytest.mark.parametrize(
    ("path", "is_bad"), [("a.blend@", True), ("x/A.BLEND@", True), ("a.blend", False), ("a.blend1", False), ("@", False)]
)
def test_what_blender_leaves_of_a_broken_save_is_known_by_its_name(path: str, is_bad: bool) -> None:
    assert (misnamed(path) is not None) == is_bad


def test_file_that_unpacks_to_far_more_than_allowed_is_refused_while_unpacking(tmp_path: Path) -> None:
    bomb = zstandard.ZstdCompressor().compress(b"BLENDER-v405" + bytes(200 << 20))
    assert len(bomb) < 100_000
    with pytest.raises(TooLarge):
        inspected(tmp_path, bomb, max_bytes=50 << 20)
    assert [path.name for path in tmp_path.iterdir()] == ["file.blend"]


def test_reading_is_ended_when_it_takes_too_long(tmp_path: Path) -> None:
    with pytest.raises(NotUsable, match=r"longer than 0\.01 s"):
        inspected(tmp_path, plain(), limits=InspectionConfig(timeout_s=0.01))


def test_reading_is_ended_when_the_farm_stops(tmp_path: Path) -> None:
    file = tmp_path / "file.blend"
    file.write_bytes(in_a_circle())
    with pytest.raises(Interrupted):
        inspect_blend(file, stem="s", scratch=tmp_path, limits=LIMITS, max_bytes=GIB, go_on=lambda: False)


def in_a_circle() -> bytes:
    """A .blend with a block that ends where it begins."""
    body = bytearray(plain())
    at = body.index(b"GLOB")
    body[at + 4 : at + 8] = (-24 & 0xFFFFFFFF).to_bytes(4, "little")
    return bytes(body)


def test_blocks_that_lead_in_a_circle_are_given_up(tmp_path: Path) -> None:
    with pytest.raises(NotUsable):
        inspected(tmp_path, in_a_circle(), limits=InspectionConfig(timeout_s=2))


_WATCHED = """
import json, sys
from supervisor.inspection import reader
watched, opened = {"open", "os.listdir", "os.scandir", "glob.glob", "socket.connect"}, []
sys.addaudithook(lambda event, args: opened.append(str(args[0])) if event in watched else None)
reader.main()
print()
print(json.dumps(opened))
"""


@pytest.mark.parametrize("version", VERSIONS)
def test_reading_touches_no_file_but_the_one_given(tmp_path: Path, version: str) -> None:
    file = DATA / f"scene-{version}.blend"
    scratch = tmp_path / "plain.blend"
    options = ["--stem", "s", "--scratch", str(scratch), "--max-bytes", str(GIB), "--memory-bytes", str(2 * GIB), "--cpu-s", "60"]
    ran = subprocess.run([sys.executable, "-c", _WATCHED, str(file), *options], capture_output=True, check=True, text=True)
    opened = json.loads(ran.stdout.splitlines()[-1])
    assert {path for path in opened if not path.endswith(".pyc")} == {str(file), str(scratch)}


def test_inspection_survives_the_way_through_json(tmp_path: Path) -> None:
    found = inspected(tmp_path, plain())
    assert inspection_from_json(json.loads(json.dumps(inspection_to_json(found)))) == found


def test_uploaded_blend_is_ready_with_its_inspection(bench: FakeFarm) -> None:
    job, body = bench.a_draft(blend=None), (DATA / "scene-4.5.blend").read_bytes()
    view = commands.put_file(bench.farm, job, path="film/shot.blend", source=io.BytesIO(body), length=len(body))
    assert view.status is FileStatus.READY
    assert view.is_main
    assert view.inspection is not None
    assert view.inspection.version == (4, 5)
    assert list(bench.farm.scratch_folder.iterdir()) == []


def test_uploaded_blend_that_is_cut_off_is_bad_and_says_what_to_do(bench: FakeFarm) -> None:
    job, body = bench.a_draft(blend=None), plain()[:50_000]
    view = commands.put_file(bench.farm, job, path="shot.blend", source=io.BytesIO(body), length=len(body))
    assert view.status is FileStatus.BAD
    assert "upload it again" in view.problem
    assert not view.is_main


def test_blend_waits_while_the_disk_has_no_room_to_read_it(bench: FakeFarm) -> None:
    job, body = bench.a_draft(blend=None), (DATA / "scene-4.5.blend").read_bytes()
    plan = commands.begin_file(bench.farm, job, path="shot.blend", length=len(body))
    etag = commands.put_part(bench.farm, job, plan.file, number=1, source=io.BytesIO(body), length=len(body))
    bench.cloud.premises.free = 1 << 30
    assert commands.complete_file(bench.farm, job, plan.file, parts=[(1, etag)]).status is FileStatus.CHECKING

    bench.cloud.premises.free = (2 << 30) + (1 << 20)  # room for the file, not for what is in it
    intake.check_pending(bench.farm)
    assert commands.file_view(bench.farm, job, plan.file).status is (FileStatus.READY if len(plain()) < 1 << 20 else FileStatus.CHECKING)

    bench.cloud.premises.free = None
    intake.check_pending(bench.farm)
    assert commands.file_view(bench.farm, job, plan.file).status is FileStatus.READY


def test_blend_that_is_a_bomb_is_bad(bench: FakeFarm) -> None:
    body = zstandard.ZstdCompressor().compress(b"BLENDER-v405" + bytes(300 << 20))
    view = commands.put_file(bench.farm, bench.a_draft(blend=None), path="shot.blend", source=io.BytesIO(body), length=len(body))
    assert view.status is FileStatus.BAD
    assert "max_zip_ratio" in view.problem


def test_leftover_of_a_broken_save_is_bad(bench: FakeFarm) -> None:
    view = commands.put_file(bench.farm, bench.a_draft(blend=None), path="shot.blend@", source=io.BytesIO(b"BLENDER"), length=7)
    assert view.status is FileStatus.BAD
    assert "upload the .blend itself" in view.problem
