"""The account's images of nodes: which there are, which are in use, and removing those of this farm's that are not."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from ami.recipe import Arch, BadRecipe, Recipe, Variant, recipe_hash, series_of
from nodeimage.protocol import VERSION
from supervisor.cloud.aws.errors import aws_errors
from supervisor.cloud.aws.identity import BLENDERS_TAG, FARM_TAG, IMAGE_TAG, PROTOCOL_TAG, VARIANT_TAG, Identity, tags_of
from supervisor.cloud.aws.session import AwsSession

_GONE = ("shutting-down", "terminated")


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnImage:
    """An image of the account's, made by this farm or another one like it."""

    id: str
    name: str
    state: str  #: EC2's word; `available` ones can be launched
    variant: str
    arch: str
    blenders: tuple[str, ...]
    protocol: str
    recipe: str
    created_at: datetime
    is_current: bool  #: made from the recipe that this version of Kiln has
    is_served: bool  #: its agent's bootstrap speaks as this version of Kiln does
    used_by: tuple[str, ...]  #: why it is kept, in words; empty: `prune` removes it


def own_images(session: AwsSession, identity: Identity, *, chosen: str = "") -> list[OwnImage]:
    """The images that the farm's instances may start from, newest first.

    Those of the account's other farms are among them, as they are for launches; what needs them is not known here, so they are kept.

    Shape:   chosen: the one that the configuration names
    Errors:  CloudError
    """
    with aws_errors("list the farm's images"):
        filters = [{"Name": "tag-key", "Values": [tag]} for tag in (IMAGE_TAG, FARM_TAG)]
        pages = session.client("ec2").get_paginator("describe_images").paginate(Owners=["self"], Filters=filters)
        shown = sorted((image for page in pages for image in page["Images"]), key=lambda image: image["CreationDate"], reverse=True)
    in_use = _in_use(session, identity)
    newest: set[tuple[str, str]] = set()
    images = []
    for each in shown:
        tags = tags_of(each)
        kind = (tags.get(VARIANT_TAG, "cpu"), each["Architecture"])
        reasons = in_use.get(each["ImageId"], [])
        is_ours = tags[FARM_TAG] == identity.farm
        if is_ours and each["State"] == "available" and kind not in newest:  # another farm may remove its own at any time
            newest.add(kind)
            reasons.append(f"the newest for {kind[0]}, {kind[1]}")
        if each["ImageId"] == chosen:
            reasons.append("named in [aws] image")
        if each["State"] == "pending":
            reasons.append("being made")
        if not is_ours:
            reasons.append(f"made by another farm of this account ({tags[FARM_TAG]})")
        images.append(_own_image(each, tags, kind, tuple(reasons)))
    return images


def with_jobs(images: Sequence[OwnImage], blenders: Mapping[str, str]) -> list[OwnImage]:
    """Add why jobs that have not ended need an image: instances that join them later must have the Blender of their first ones.

    Shape:   images: newest first; blenders: version -> a job that is rendered with it
    """
    needed: dict[str, list[str]] = {}
    for version, job in blenders.items():
        for kind in {(image.variant, image.arch) for image in images}:
            of_kind = [image for image in images if (image.variant, image.arch) == kind and image.state == "available" and image.is_served]
            exact = [image for image in of_kind if version in image.blenders]
            series = [image for image in of_kind if series_of(version) in map(series_of, image.blenders)]
            for image in (exact or series)[:1]:
                needed.setdefault(image.id, []).append(f"Blender {version} for {job}")
    return [image if image.used_by else replace(image, used_by=tuple(needed.get(image.id, ()))) for image in images]


def newer_blenders(recipe: Recipe, images: Sequence[OwnImage]) -> list[str]:
    """Versions of Blender that the recipe has and no image that can be launched."""
    there = {version for image in images if image.state == "available" for version in image.blenders}
    return [release.version for release in recipe.blenders if release.version not in there]


def advice(recipe: Recipe, images: Sequence[OwnImage]) -> list[str]:
    """What a person should know of the images: a Blender that the recipe has and they lack, and what is out of date. Empty: all is well.

    Shape:   sentences; images: newest first
    """
    if not images:
        return ["there is no image yet, and instances can't start without one: build one"]
    said = []
    if newer := newer_blenders(recipe, images):
        said.append(f"this version of Kiln knows Blender {', '.join(newer)}, which is on none of the images: build a new one")
    newest = {(image.variant, image.arch): image for image in reversed(images) if image.state == "available"}
    for (variant, arch), image in sorted(newest.items()):
        which = f"the newest for {variant}, {arch} ({image.id})"
        if not image.is_served:
            said.append(f"instances can't start from {which}: it is of another version of Kiln; build a new one")
        elif not image.is_current and not newer:
            said.append(f"{which} is of an older recipe than this Kiln's; it works, and a new one is up to date")
    return said


def prune(images: Sequence[OwnImage], *, remove: Callable[[str], None], dry_run: bool) -> Iterator[OwnImage]:
    """Remove the images that nothing uses, with their snapshots; yield each when it is gone. Repeat: safe. Errors: CloudError"""
    for image in images:
        if not image.used_by:
            if not dry_run:
                remove(image.id)
            yield image


def _own_image(shown: Any, tags: dict[str, str], kind: tuple[str, str], used_by: tuple[str, ...]) -> OwnImage:
    recipe = tags.get(IMAGE_TAG, "")
    return OwnImage(
        id=shown["ImageId"],
        name=shown.get("Name", ""),
        state=shown["State"],
        variant=kind[0],
        arch=kind[1],
        blenders=tuple(tags.get(BLENDERS_TAG, "").split()),
        protocol=tags.get(PROTOCOL_TAG, ""),
        recipe=recipe,
        is_served=tags.get(PROTOCOL_TAG, "") in {"", str(VERSION)},
        created_at=datetime.fromisoformat(shown["CreationDate"].replace("Z", "+00:00")),
        is_current=_is_current(recipe, *kind),
        used_by=used_by,
    )


def _is_current(recipe: str, variant: str, arch: str) -> bool:
    try:
        return recipe == recipe_hash(Variant(variant), Arch(arch))
    except (ValueError, BadRecipe):  # of a version of Kiln that knew other variants
        return False


def _in_use(session: AwsSession, identity: Identity) -> dict[str, list[str]]:
    """Image -> what would miss it: instances of the farm, and versions of its launch template."""
    with aws_errors("see which images are in use"):
        instances = _instances_from(session, identity)
        launches = _launches_from(session, identity)
    used = {image: [_counted(ids)] for image, ids in instances.items()}
    for image, what in launches.items():
        used.setdefault(image, []).extend(f"launches of {each}" for each in sorted(what))
    return used


def _instances_from(session: AwsSession, identity: Identity) -> dict[str, list[str]]:
    """Image -> instances of the farm that were started from it and are there still."""
    found: dict[str, list[str]] = {}
    filters = [{"Name": f"tag:{FARM_TAG}", "Values": [identity.farm]}]
    for page in session.client("ec2").get_paginator("describe_instances").paginate(Filters=filters):
        for instance in (each for reservation in page["Reservations"] for each in reservation["Instances"]):
            if instance["State"]["Name"] not in _GONE:
                found.setdefault(instance["ImageId"], []).append(instance["InstanceId"])
    return found


def _launches_from(session: AwsSession, identity: Identity) -> dict[str, set[str]]:
    """Image -> jobs whose next instances start from it, by the versions of the farm's launch template."""
    found: dict[str, set[str]] = {}
    ec2 = session.client("ec2")
    templates = ec2.describe_launch_templates(Filters=[{"Name": "launch-template-name", "Values": [identity.name]}])
    for template in templates["LaunchTemplates"]:
        pages = ec2.get_paginator("describe_launch_template_versions").paginate(LaunchTemplateId=template["LaunchTemplateId"])
        for version in (each for page in pages for each in page["LaunchTemplateVersions"]):
            image = version["LaunchTemplateData"].get("ImageId")
            if image:
                found.setdefault(image, set()).add(version.get("VersionDescription", "").split(" ")[0] or "the farm")
    return found


def _counted(ids: Sequence[str]) -> str:
    return f"instance {ids[0]}" if len(ids) == 1 else f"{len(ids)} instances, such as {min(ids)}"
