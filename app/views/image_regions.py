"""The regions of the page of images: those that there are, and the builds."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from flask import url_for
from markupsafe import Markup, escape

from ami.builds import UNFINISHED, BuildStatus, ImageBuild
from ami.images import OwnImage, advice, with_jobs
from ami.ports import FarmImages
from ami.recipe import Arch, BadRecipe, Recipe, Variant
from app.current import current_farm, current_images
from app.views.regions import Region, region
from supervisor import queries
from supervisor.cloud.ports import CloudError
from supervisor.domain.errors import NotFound

#: Event on the page's body that makes the list of images look again: a build has ended.
CHANGED = "images-changed"
#: Builds that have ended are shown up to so many.
ENDED_SHOWN = 5

_JOB = re.compile(r"(job_\w+)")
_STEP = re.compile(r"(\d+)/(\d+) (.+)", re.DOTALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Offers:
    """What an image can be built for."""

    variants: tuple[Variant, ...]
    arches: tuple[Arch, ...]
    blenders: tuple[str, ...]  #: that every image gets; newest last
    problem: str = ""  #: why the recipe can't be read


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildView:
    """A build as the page shows it."""

    build: ImageBuild
    step: int | None  #: None: the builder has not said yet
    steps: int
    doing: str

    @property
    def is_unfinished(self) -> bool:
        return self.build.status in UNFINISHED


def offers_of(images: FarmImages) -> Offers:
    """What the recipe has something for."""
    try:
        recipe = images.recipe()
    except BadRecipe as error:
        return Offers(variants=(), arches=(), blenders=(), problem=str(error))
    arches = tuple(arch for arch in Arch if any(arch in release.sha256 for release in recipe.blenders))
    has_driver = any(arch in recipe.nvidia.url for arch in arches)
    variants = tuple(variant for variant in Variant if variant is not Variant.GPU or has_driver)
    return Offers(variants=variants, arches=arches, blenders=tuple(release.version for release in recipe.blenders))


def unused(images: Sequence[OwnImage]) -> list[OwnImage]:
    """Those that pruning removes."""
    return [image for image in images if not image.used_by]


def list_region(*, looks: bool, done: str = "", problem: str = "") -> Region:
    """The images, why each is kept, and what to do about them. Shape: looks: False: the region asks by itself when it is there"""
    images, found_problem = _images() if looks else ((), "")
    problem = problem or found_problem
    reasons = {image.id: [_reason(text) for text in image.used_by] for image in images}
    said = _advice(images) if looks and not found_problem else []
    return region(
        "images/_list.html",
        shows=(looks, images, reasons, said, done, problem),
        looks=looks,
        images=images,
        reasons=reasons,
        advice=said,
        unused=unused(images),
        is_known=looks and not found_problem,
        done=done,
        problem=problem,
        trigger=f"{CHANGED} from:body" if looks else "load",
    )


def listed_images() -> list[OwnImage]:
    """The images, newest first, with all that keeps them. Errors: CloudError"""
    return with_jobs(current_images().images(), queries.unfinished_blenders(current_farm()))


def _images() -> tuple[tuple[OwnImage, ...], str]:
    try:
        return tuple(listed_images()), ""
    except CloudError as error:
        return (), str(error)


def _reason(text: str) -> Markup:
    """Why an image is kept, with its job by its name."""
    parts = _JOB.split(text)
    return Markup("").join(_job_link(part) if number % 2 else escape(part) for number, part in enumerate(parts))


def _job_link(job: str) -> Markup:
    try:
        name = queries.job_summary(current_farm(), job).name
    except NotFound:
        return escape(job)
    return Markup('<a href="{}">{}</a>').format(url_for("jobs.detail", job=job), f"“{name}”")


def _advice(images: Sequence[OwnImage]) -> list[str]:
    try:
        recipe: Recipe = current_images().recipe()
    except BadRecipe as error:
        return [str(error)]
    return advice(recipe, images)


def builds_region(*, looks: bool, done: str = "", problem: str = "") -> Region:
    """The builds. It looks again while one is under way, and asks the bucket alone."""
    builds, found_problem = _builds() if looks else ((), "")
    shown = _shown(builds)
    is_watched = any(each.is_unfinished for each in shown)
    return region(
        "images/_builds.html",
        shows=(looks, shown, done, problem or found_problem),
        looks=looks,
        builds=shown,
        done=done,
        problem=problem or found_problem,
        is_watched=is_watched,
        trigger=("every 3s" if is_watched else "") if looks else "load",
    )


def _builds() -> tuple[Sequence[ImageBuild], str]:
    try:
        return current_images().builds(), ""
    except CloudError as error:
        return (), str(error)


def _shown(builds: Sequence[ImageBuild]) -> list[BuildView]:
    """Those under way, and the last that have ended."""
    ended = [build for build in builds if build.status not in UNFINISHED]
    return [_view(build) for build in (*(each for each in builds if each.status in UNFINISHED), *ended[:ENDED_SHOWN])]


def _view(build: ImageBuild) -> BuildView:
    said = _STEP.fullmatch(build.progress)
    if build.status is not BuildStatus.BUILDING or said is None:
        return BuildView(build=build, step=None, steps=0, doing=build.progress)
    return BuildView(build=build, step=int(said[1]), steps=int(said[2]), doing=said[3])
