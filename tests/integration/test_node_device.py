"""What a real Blender renders on: said when the file is opened, refused where it must be a GPU and is none."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from nodeimage.driver.graphics import is_software

from .blender_here import Driven, codes

Drive = Callable[[str], Driven]


@pytest.fixture
def drive(workspace: Path, tmp_path: Path) -> Iterator[Drive]:
    """Start a Blender that must render on a device."""
    started: list[Driven] = []

    def drive(device: str) -> Driven:
        started.append(Driven(workspace, tmp_path / f"home-{len(started)}", device=device))
        return started[-1]

    yield drive
    for driven in started:
        driven.blender.kill(ask_first=False)


@pytest.mark.parametrize("scene", ["plain", "drawn"])
def test_gpu_that_must_render_does_or_the_file_is_not_opened(drive: Drive, scene: str) -> None:
    event = drive("gpu").open(scene)
    if event.name == "opened":  # this machine has one
        assert event.fields["device"] not in ("", "CPU")
        assert not is_software(event.fields["device"])
    else:
        assert (event.fields["kind"], event.fields["message"][:19]) == ("device", "this node has a GPU")


def test_what_opengl_draws_names_its_renderer_and_warns_of_software(drive: Drive) -> None:
    driven = drive("")
    opened = driven.open("drawn")
    assert opened.fields["device"]
    assert ("software_gl" in codes(opened)) is is_software(opened.fields["device"])
    assert driven.render(1).names == ["shot_0001.png"]


def test_cpu_renders_where_it_must_and_blender_says_so(drive: Drive) -> None:
    assert drive("cpu").open("plain").fields["device"] == "CPU"
