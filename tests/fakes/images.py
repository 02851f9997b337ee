"""Images in memory, and builds that move when they are told to."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import BinaryIO

from ami.builds import UNFINISHED, BuildStatus, ImageBuild
from ami.images import OwnImage
from ami.recipe import Arch, Recipe, Variant, read_recipe

from .trouble import Trouble

RECIPE = "0123456789abcdef"


class FakeImages(Trouble):
    """`FarmImages` in memory. A build goes through `way`, one step each time that it is advanced."""

    def __init__(self, *, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        super().__init__()
        self.there: list[OwnImage] = []  #: newest first
        self.known: list[ImageBuild] = []  #: newest first
        self.logs: dict[str, bytes] = {}
        self.removed: list[str] = []
        self.asked = 0  #: how often EC2 was asked for the images
        self.way: list[Mapping[str, object]] = []
        self._clock = clock

    def recipe(self) -> Recipe:
        return read_recipe()

    def images(self) -> Sequence[OwnImage]:
        self._meet_trouble("images")
        self.asked += 1
        return list(self.there)

    def remove_image(self, image: str) -> None:
        self._meet_trouble("remove_image")
        self.removed.append(image)
        self.there = [each for each in self.there if each.id != image]

    def builds(self) -> Sequence[ImageBuild]:
        self._meet_trouble("builds")
        return list(self.known)

    def begin(self, variant: Variant, arch: Arch) -> ImageBuild:
        self._meet_trouble("begin")
        self.recipe().blenders_for(arch)
        for build in self.known:
            if (build.variant, build.arch) == (variant, arch) and build.status is not BuildStatus.FAILED:
                return build
        return self.a_build(variant=variant, arch=arch)

    def a_build(self, *, variant: str = "cpu", arch: str = "x86_64", **how: object) -> ImageBuild:
        """A build that somebody asked for. Shape: how: fields of the build"""
        asked = ImageBuild(
            id=f"build_{len(self.known) + 1}",
            recipe=RECIPE,
            variant=variant,
            arch=arch,
            name=f"kiln-node-5.2.2-{variant}-{arch}-{RECIPE}",
            blenders=tuple(release.version for release in read_recipe().blenders),
            status=BuildStatus.BUILDING,
            asked_at=self._clock(),
            progress="asked for",
        )
        build = replace(asked, **how)  # type: ignore[arg-type]  # the caller names fields
        self.known.insert(0, build)
        return build

    def advance(self, build: ImageBuild) -> ImageBuild:
        self._meet_trouble("advance")
        return self.change(build.id, **self.way.pop(0)) if self.way else build

    def change(self, build_id: str, **how: object) -> ImageBuild:
        """Let a build be otherwise. Shape: how: fields of the build"""
        [build] = [each for each in self.known if each.id == build_id]
        after = replace(build, **how)  # type: ignore[arg-type]  # the caller names fields
        self.known = [after if each.id == build_id else each for each in self.known]
        return after

    def stop(self, build_id: str) -> None:
        self._meet_trouble("stop")
        for build in self.known:
            if build.id == build_id and build.status in UNFINISHED:
                self.change(build_id, status=BuildStatus.FAILING, message="stopped by a person")

    def open_log(self, build_id: str) -> BinaryIO:
        self._meet_trouble("open_log")
        if build_id not in self.logs:
            raise FileNotFoundError(f"there is no log of {build_id}")
        return io.BytesIO(self.logs[build_id])

    def an_image(self, id: str = "ami-0aaaaaaaaaaaaaaaa", *, age_days: float = 3, **how: object) -> OwnImage:
        """An image, the newest but for those that are younger. Shape: how: fields of the image"""
        made = OwnImage(
            id=id,
            name=f"kiln-node-5.2.2-cpu-x86_64-{RECIPE}",
            state="available",
            variant="cpu",
            arch="x86_64",
            blenders=tuple(release.version for release in read_recipe().blenders),
            protocol="1",
            recipe=RECIPE,
            created_at=self._clock() - timedelta(days=age_days),
            is_current=True,
            is_served=True,
            used_by=("the newest for cpu, x86_64",),
        )
        image = replace(made, **how)  # type: ignore[arg-type]  # the caller names fields
        self.there = sorted([*self.there, image], key=lambda each: each.created_at, reverse=True)
        return image
