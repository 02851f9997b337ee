"""The driver under a real Blender: names, formats, checks, scripts, simulations."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image, ImageChops, ImageStat

from nodeimage.driver.images import image_size
from nodeimage.protocol import Failure

from .blender_here import FORMATS, HEIGHT, ROOT, WIDTH, Driven, Frame, blender_command, codes

READABLE_BY_PILLOW = {"JPEG", "TIFF", "WEBP", "BMP", "TARGA", "JPEG2000"}


@pytest.fixture(scope="module")
def driven(workspace: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Driven]:
    """One Blender for all tests that leave it whole: opening a file costs little, starting Blender much."""
    driven = Driven(workspace, tmp_path_factory.mktemp("home"))
    yield driven
    driven.blender.end()


@pytest.fixture
def own_driven(workspace: Path, tmp_path: Path) -> Iterator[Driven]:
    driven = Driven(workspace, tmp_path)
    yield driven
    driven.blender.kill(ask_first=False)


def pillow(path: Path) -> tuple[str | None, tuple[int, int]]:
    """Format and size by another reader than Blender and ours; the pixels are decoded."""
    with Image.open(path) as image:
        image.load()
        return image.format, image.size


def mean_colour(path: Path) -> list[float]:
    with Image.open(path) as image:
        return ImageStat.Stat(image.convert("RGB")).mean


def is_same_picture(one: Path, other: Path) -> bool:
    with Image.open(one) as first, Image.open(other) as second:
        return ImageChops.difference(first.convert("RGB"), second.convert("RGB")).getbbox() is None


def test_frame_is_named_as_blender_names_it_and_has_a_small_picture(driven: Driven) -> None:
    driven.open("plain")
    frame = driven.render(3)
    assert frame.names == ["shot_0003.png"]
    assert pillow(frame.path("shot_0003.png"))[1] == (WIDTH, HEIGHT)
    assert frame.preview is not None
    assert pillow(frame.preview) == ("WEBP", (32, 18))


@pytest.mark.parametrize(("scene", "name"), [("plain", "shot_-0005.png"), ("numbered", "a-05b_.png"), ("layers", "-0005.exr")])
def test_negative_frame_is_named_as_blender_names_it(driven: Driven, scene: str, name: str) -> None:
    driven.open(scene)
    assert driven.render(-5).names[0] == name


def test_output_name_of_the_job_wins_over_the_files_own(driven: Driven) -> None:
    driven.open("plain", output_name="hero_###_x")
    assert driven.render(3).names == ["hero_003_x.png"]


@pytest.mark.parametrize("file_format", FORMATS)
def test_format_is_delivered_whole_with_a_small_picture(driven: Driven, file_format: str) -> None:
    driven.open(file_format.lower())
    frame = driven.render(1)
    [name] = frame.names
    assert image_size(str(frame.path(name))) in {(WIDTH, HEIGHT), None}
    if file_format in READABLE_BY_PILLOW:
        assert pillow(frame.path(name))[1] == (WIDTH, HEIGHT)
    assert frame.preview is not None
    assert pillow(frame.preview)[0] == "WEBP"


def test_small_picture_of_an_exr_shows_what_the_view_transform_shows(driven: Driven) -> None:
    pictures = []
    for file_format in ("PNG", "OPEN_EXR", "OPEN_EXR_MULTILAYER"):
        driven.open("plain", file_format=file_format)
        frame = driven.render(2)
        assert frame.preview is not None
        pictures.append(mean_colour(frame.preview))
    png, exr, multilayer = pictures
    assert exr == pytest.approx(png, abs=3)
    assert multilayer == pytest.approx(png, abs=3)


def test_all_files_of_a_frame_are_delivered_wherever_the_file_wants_them(driven: Driven, workspace: Path) -> None:
    opened = driven.open("layers")
    assert codes(opened) == ["outputs_redirected"]
    for number in (4, 5):
        frame = driven.render(number)
        main, extra = frame.names
        assert main == f"{number:04d}.exr"
        assert extra.startswith("Passes_ all_of them/")
        assert extra.endswith(f"Beauty{number:04d}.png")
        assert image_size(str(frame.path(main))) == (WIDTH, HEIGHT)
    assert not (workspace / "elsewhere").exists()


def test_negative_frame_is_the_one_that_is_rendered(driven: Driven) -> None:
    driven.open("layers")
    assert driven.render(-5).names[1].endswith("Beauty-0005.png")


def test_every_view_of_a_stereo_scene_is_delivered(driven: Driven) -> None:
    driven.open("views")
    assert driven.render(1).names == ["shot_0001_L.png", "shot_0001_R.png"]


def test_stereo_scene_in_one_file_is_so_in_every_frame_and_has_a_small_picture(driven: Driven) -> None:
    driven.open("stereo")
    frames = [driven.render(1), driven.render(2)]
    assert [frame.names for frame in frames] == [["shot_0001.exr"], ["shot_0002.exr"]]
    assert None not in [frame.preview for frame in frames]


def test_movie_is_rendered_as_png_and_said_to_be(driven: Driven) -> None:
    opened = driven.open("movie")
    assert codes(opened) == ["movie_format"]
    assert "FFMPEG" in opened.fields["findings"][0]["text"]
    assert driven.render(7).names == ["film0007.png"]


def test_job_settings_are_applied(driven: Driven) -> None:
    driven.open("plain", resolution_pct=50, samples=2, file_format="JPEG")
    frame = driven.render(1)
    assert frame.names == ["shot_0001.jpg"]
    assert pillow(frame.path("shot_0001.jpg"))[1] == (WIDTH // 2, HEIGHT // 2)


def test_cropped_border_has_the_size_of_the_border(driven: Driven) -> None:
    driven.open("cropped")
    frame = driven.render(1)
    assert pillow(frame.path("shot_0001.png"))[1] == (16, 9)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"scene": "Shot 9"}, "no scene “Shot 9”; it has “Scene”"),
        ({"camera": "Cube"}, "no camera “Cube”; it has “Camera”"),
        ({"view_layers": ("Fog",)}, "no view layer “Fog”; it has “ViewLayer”"),
        ({"file_format": "GIF"}, "format GIF"),
    ],
)
def test_settings_that_the_file_can_not_serve_are_named(driven: Driven, settings: dict[str, object], said: str) -> None:
    answer = driven.open("plain", **settings)
    assert answer.name == "cannot_open"
    assert said in answer.fields["message"]


def test_file_that_is_no_blend_can_not_be_opened(driven: Driven, workspace: Path) -> None:
    (workspace / "letter.blend").write_text("Dear farm,")
    answer = driven.open("letter")
    assert answer.name == "cannot_open"
    assert answer.fields["kind"] == "open"


def test_truncated_blend_can_not_be_opened(driven: Driven, workspace: Path) -> None:
    whole = (workspace / "plain.blend").read_bytes()
    (workspace / "half.blend").write_bytes(whole[: len(whole) // 2])
    assert driven.open("half").name == "cannot_open"


def test_file_that_is_not_there_is_named(driven: Driven) -> None:
    assert "nowhere.blend" in driven.open("nowhere").fields["message"]


def test_missing_texture_is_found_and_the_frame_renders_all_the_same(driven: Driven) -> None:
    opened = driven.open("missing")
    assert codes(opened) == ["missing_file"]
    assert "//textures/wood.png" in opened.fields["findings"][0]["text"]
    assert driven.render(1).names


def test_no_python_of_the_file_runs(driven: Driven, workspace: Path) -> None:
    opened = driven.open("scripts")
    assert {"freestyle_script", "scripts_blocked"} <= set(codes(opened))
    driven.render(1)
    assert list(workspace.glob("ran-*")) == []


def test_scene_without_camera_fails_with_blenders_own_words(driven: Driven) -> None:
    driven.open("no_camera")
    driven.ask(1)
    failed = driven.wait_for("failed", "rendered")
    assert failed.fields["kind"] == Failure.ERROR
    assert "no camera" in failed.fields["message"].lower()


def test_unbaked_cloth_is_found_and_what_can_not_matter_is_not(driven: Driven) -> None:
    opened = driven.open("cloth")
    assert codes(opened) == ["unbaked"]
    assert "“Flag”" in opened.fields["findings"][0]["text"]
    assert codes(driven.open("still_life")) == []


def test_ordered_frame_is_the_same_whether_those_before_were_rendered_or_only_evaluated(driven: Driven) -> None:
    driven.open("cloth")
    jumped = driven.render(8)
    driven.open("cloth")
    evaluated = driven.render(8, in_order=True)
    driven.open("cloth")
    rendered = [driven.render(number, in_order=True) for number in (2, 5, 8)][-1]
    [name] = evaluated.names
    assert is_same_picture(evaluated.path(name), rendered.path(name))
    assert not is_same_picture(evaluated.path(name), jumped.path(name))


def test_frames_in_any_order_are_those_of_a_fresh_process(driven: Driven, own_driven: Driven) -> None:
    driven.open("plain")
    scrambled = {number: driven.render(number) for number in (9, 2, 12)}
    own_driven.open("plain", persistent_data=False)
    fresh = own_driven.render(9)
    assert is_same_picture(scrambled[9].path("shot_0009.png"), fresh.path("shot_0009.png"))
    assert not is_same_picture(scrambled[9].path("shot_0009.png"), scrambled[2].path("shot_0002.png"))


def test_segfault_is_told_as_a_crash(own_driven: Driven) -> None:
    own_driven.open("plain", samples=1_000_000)
    own_driven.ask(1)
    own_driven.wait_for("progress")
    os.kill(own_driven.blender.pid, signal.SIGSEGV)
    ended = own_driven.wait_for("exit")
    failure, message = own_driven.blender.why_ended(ended.fields["code"])
    assert failure is Failure.CRASH
    assert message


def test_blender_ends_when_its_agent_is_gone_in_the_middle_of_a_frame(own_driven: Driven) -> None:
    own_driven.open("plain", samples=1_000_000)
    own_driven.ask(1)
    own_driven.wait_for("progress")
    own_driven.blender.hang_up()
    assert own_driven.wait_for("exit").fields["code"] == 0


def test_progress_names_samples(own_driven: Driven) -> None:
    own_driven.open("plain", samples=1_000_000)
    own_driven.ask(1)
    while not (event := own_driven.wait_for("progress")).fields.get("sample"):
        pass
    assert event.fields["samples"] == 1_000_000


CHECK = """
import os, sys
import bpy
sys.path.insert(0, {folder!r})
import driver
driver.load_driver({folder!r})
from kiln_driver.check import BadOutput, checked_outputs
scene = bpy.context.scene
scene.render.resolution_x, scene.render.resolution_y, scene.render.resolution_percentage = {width}, {height}, 100
try:
    print("ANSWER", checked_outputs(scene, {outputs!r}, "shot_0001.png"))
except BadOutput as error:
    print("ANSWER", error)
sys.stdout.flush()
os._exit(0)
"""


def check(outputs: Path, *, width: int, height: int) -> str:
    """What the driver's check says of a folder of outputs."""
    script = CHECK.format(folder=str(ROOT / "nodeimage/driver"), outputs=str(outputs), width=width, height=height)
    command, kind = blender_command()
    words = [command, "-c", script] if kind == "bpy" else [command, "-b", "--factory-startup", "--python-expr", script]
    answer = subprocess.run(words, capture_output=True, text=True, check=False, timeout=60)
    return next(line.removeprefix("ANSWER ") for line in answer.stdout.splitlines() if line.startswith("ANSWER "))


def a_frame(driven: Driven) -> Frame:
    driven.open("plain")
    return driven.render(1)


def test_image_of_the_wrong_size_is_no_output(driven: Driven) -> None:
    frame = a_frame(driven)
    assert check(frame.folder / "outputs", width=WIDTH, height=HEIGHT + 1) == "shot_0001.png is 64 × 36 pixels and should be 64 × 37"


def test_truncated_image_is_no_output(driven: Driven) -> None:
    frame = a_frame(driven)
    whole = frame.path("shot_0001.png").read_bytes()
    frame.path("shot_0001.png").write_bytes(whole[:-40])
    assert "truncated" in check(frame.folder / "outputs", width=WIDTH, height=HEIGHT)
