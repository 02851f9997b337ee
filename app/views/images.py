"""The farm's images: which there are, and the building and pruning of them. For admins alone; `app.auth` sees to that."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

from flask import Blueprint, Response, make_response, render_template, request
from werkzeug.wrappers import Response as AnyResponse

from ami.builds import BuildStatus, ImageBuild
from ami.recipe import Arch, BadRecipe, Variant
from app.current import current_images
from app.views.image_regions import CHANGED, builds_region, list_region, listed_images, offers_of, unused
from app.views.regions import Region
from supervisor.cloud.ports import CloudError
from supervisor.domain.errors import NotFound

blueprint = Blueprint("images", __name__)

_CHUNK_BYTES = 1 << 16


@blueprint.get("/images")
def index() -> str:
    """The page. Its regions ask AWS, which takes a second: they load by themselves, or at once where `?look=1` says so."""
    looks = "look" in request.args
    return _page(list_region(looks=looks), builds_region(looks=looks))


@blueprint.get("/images/list", endpoint="list")
def list_of_images() -> Response:
    return list_region(looks=True).answer()


@blueprint.get("/images/builds")
def builds() -> Response:
    """The builds. A page that watched them, and finds the last one ended, looks for its image too."""
    shown = builds_region(looks=True)
    answer = shown.answer()
    if "watched" in request.args and not shown.context["is_watched"]:
        answer.headers["HX-Trigger-After-Settle"] = CHANGED
    return answer


@blueprint.post("/images/build")
def build() -> AnyResponse:
    variant, arch = request.form.get("variant", Variant.CPU), request.form.get("arch", Arch.X86_64)
    try:
        if variant not in set(Variant) or arch not in set(Arch):
            raise BadRecipe("Pick what the image is for.")
        begun = current_images().begin(Variant(variant), Arch(arch))
    except (BadRecipe, CloudError) as error:
        return _answered(builds=builds_region(looks=True, problem=str(error)), status=422)
    return _answered(builds=builds_region(looks=True, done=_begun(begun)))


def _begun(build: ImageBuild) -> str:
    if build.status is BuildStatus.READY:
        return f"There is one of this recipe already, {build.image}: nothing was built."
    return "A builder is being rented. You can leave this page: the farm goes on by itself."


@blueprint.post("/images/builds/<build>/stop")
def stop(build: str) -> AnyResponse:
    try:
        current_images().stop(build)
    except CloudError as error:
        return _answered(builds=builds_region(looks=True, problem=str(error)), status=422)
    return _answered(builds=builds_region(looks=True))


@blueprint.post("/images/prune")
def prune() -> AnyResponse:
    """Remove what the page named as unused, and is so still."""
    named, removed = request.form.getlist("image"), []
    try:
        for image in unused(listed_images()):
            if image.id in named:
                current_images().remove_image(image.id)
                removed.append(image.id)
    except CloudError as error:
        return _answered(images=list_region(looks=True, done=_removed(removed), problem=str(error)), status=422)
    done = _removed(removed) or "Nothing was removed: what was unused is gone, or used again."
    return _answered(images=list_region(looks=True, done=done))


def _removed(images: list[str]) -> str:
    return f"Removed, with {'its snapshots' if len(images) == 1 else 'their snapshots'}: {', '.join(images)}." if images else ""


@blueprint.get("/images/builds/<build>/log")
def log(build: str) -> Response:
    """The whole log of a build that has ended, as plain text."""
    try:
        stream = current_images().open_log(build)
    except FileNotFoundError as error:
        raise NotFound("there is no log of this build: its builder never came so far as to send one") from error
    return Response(_chunks(stream), content_type="text/plain; charset=utf-8", headers={"Cache-Control": "private, no-cache"})


def _chunks(stream: BinaryIO) -> Iterator[bytes]:
    with stream:
        while chunk := stream.read(_CHUNK_BYTES):
            yield chunk


def _page(images: Region, builds: Region) -> str:
    return render_template("images/index.html", images=images.html(), builds=builds.html(), offers=offers_of(current_images()))


def _answered(*, builds: Region | None = None, images: Region | None = None, status: int = 200) -> AnyResponse:
    """The region that an action changed; to a plain form, the whole page with it."""
    changed = builds or images
    assert changed is not None, "one of them is what an action answers with"
    if request.headers.get("HX-Request"):
        return changed.answer(status=status)
    return make_response(_page(images or list_region(looks=True), builds or builds_region(looks=True)), status)
