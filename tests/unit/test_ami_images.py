"""What keeps images beside those that use them at present: jobs that have not ended."""

from __future__ import annotations

import pytest

from ami.images import with_jobs
from tests.fakes.images import FakeImages

NEWEST = ("the newest for cpu, x86_64",)


@pytest.fixture
def images() -> FakeImages:
    """The newest image has lost the series 4.2; two older ones have it."""
    images = FakeImages()
    images.an_image("ami-0new", age_days=1, blenders=("4.5.15", "5.2.2"), used_by=NEWEST)
    images.an_image("ami-0old", age_days=20, blenders=("4.2.23", "4.5.14"), used_by=())
    images.an_image("ami-0older", age_days=40, blenders=("4.2.22", "4.5.14"), used_by=())
    return images


def kept(images: FakeImages, version: str) -> dict[str, tuple[str, ...]]:
    """Which unused images a job with that Blender keeps."""
    return {image.id: image.used_by for image in with_jobs(images.there, {version: "job_1"}) if image.used_by and image.used_by != NEWEST}


@pytest.mark.parametrize(
    ("version", "image"),
    [
        ("4.2.23", "ami-0old"),
        ("4.2.22", "ami-0older"),
        ("4.2.9", "ami-0old"),
        ("4.5.14", "ami-0old"),
    ],
)
def test_newest_image_with_the_very_blender_of_a_job_is_kept_else_one_of_the_series(images: FakeImages, version: str, image: str) -> None:
    assert kept(images, version) == {image: (f"Blender {version} for job_1",)}


@pytest.mark.parametrize("version", ["4.5.15", "5.2.2", "3.6.1"])
def test_job_that_the_newest_image_serves_or_none_does_keeps_nothing_more(images: FakeImages, version: str) -> None:
    assert kept(images, version) == {}


def test_image_that_nothing_can_be_launched_from_is_not_kept_for_a_job(images: FakeImages) -> None:
    images.there = [image for image in images.there if image.id == "ami-0new"]
    images.an_image("ami-0bad", age_days=20, blenders=("4.2.23",), is_served=False, used_by=())
    assert kept(images, "4.2.23") == {}


def test_each_kind_of_image_is_kept_for_its_instances(images: FakeImages) -> None:
    images.an_image("ami-0gpu", age_days=50, variant="gpu", blenders=("4.2.23",), used_by=())
    assert set(kept(images, "4.2.23")) == {"ami-0old", "ami-0gpu"}
