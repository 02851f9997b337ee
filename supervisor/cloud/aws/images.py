"""The images that instances start from: those that `kiln ami build` made, and which of them fits a job and an instance type."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from time import monotonic
from typing import Any

from botocore.exceptions import ClientError

from nodeimage import protocol
from supervisor.cloud.ports import BlenderFound, Refused

from .errors import aws_errors, error_code
from .identity import BLENDERS_TAG, IMAGE_TAG, PROTOCOL_TAG, VARIANT_TAG, tags_of
from .instance_types import InstanceType
from .session import AwsSession

#: A listing of the images is believed for so long: a new one is used soon after it is made.
_BELIEVED_S = 60.0
GPU = "gpu"
#: NVIDIA's GPUs before Turing, as EC2 names them: its open modules, which the images have, don't know them.
_TOO_OLD = frozenset({"K520", "K80", "M60", "P100", "V100"})
#: EC2's codes for an image id that names nothing.
_NO_SUCH_IMAGE = frozenset({"InvalidAMIID.NotFound", "InvalidAMIID.Malformed", "InvalidAMIID.Unavailable"})

_VERSION = re.compile(r"\d+\.\d+(\.\d+)*")

#: A Blender: its version, or its series; empty: whichever.
Wanted = tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """An image of ours."""

    id: str
    name: str
    architecture: str  #: x86_64 | arm64
    variant: str  #: cpu | gpu
    blenders: tuple[str, ...]  #: versions such as 4.5.15, oldest first; empty: it does not say
    protocol: str  #: that its agent's bootstrap speaks; empty: it does not say
    root_device: str
    root_gib: int
    created_at: str  #: ISO 8601

    def has(self, wanted: Wanted) -> bool:
        """Say whether it has a Blender of the wanted one's series."""
        return not wanted or wanted[:2] in {_numbers(version)[:2] for version in self.blenders}

    def has_exactly(self, wanted: Wanted) -> bool:
        return wanted in {_numbers(version) for version in self.blenders}


class Images:
    """The account's images that the farm can use."""

    def __init__(self, session: AwsSession, *, chosen: str = "", clock: Callable[[], float] = monotonic) -> None:
        """Shape:   chosen: id of the one image that is to be used; empty: the newest that fits"""
        self._session = session
        self._chosen = chosen
        self._clock = clock
        self._lock = threading.Lock()
        self._seen: tuple[Image, ...] = ()
        self._seen_at = float("-inf")

    def all(self) -> tuple[Image, ...]:
        """Every image that can be used, newest last. Errors: Refused - the configured one is not there; Throttled, Unreachable"""
        with self._lock:
            if self._clock() - self._seen_at > _BELIEVED_S:
                self._seen, self._seen_at = self._list(), self._clock()
            return self._seen

    def forget(self) -> None:
        """Look again when asked next: an image was made or removed."""
        with self._lock:
            self._seen_at = float("-inf")

    def blenders(self) -> Sequence[BlenderFound]:
        """The Blenders on the images, newest last. Errors: as `all`"""
        found = {version: image for image in self.all() for version in image.blenders}
        return [BlenderFound(version=version, where=found[version].id) for version in sorted(found, key=_numbers)]

    def newest(self, architecture: str = "x86_64") -> Image:
        """The newest image of an architecture, for work that needs no Blender. Errors: Refused - there is none; Throttled, Unreachable"""
        fitting = [image for image in self.all() if image.architecture == architecture]
        if not fitting:
            raise Refused(f"there is no image for {architecture} instances: {build_one()}")
        return _best(fitting, is_gpu=False)

    def choose(self, instance_type: InstanceType, wanted: Wanted) -> Image:
        """The image for a job on an instance type: with the very Blender that it is rendered with, else with another of its series.

        Errors:  Refused - there is none, and what to do; Throttled, Unreachable
        """
        there = [image for image in self.all() if image.architecture == instance_type.architecture]
        if not there:
            raise Refused(_lacking(f"{instance_type.name} has {instance_type.architecture} processors", self._chosen))
        if self._chosen:
            return self._checked(there[0], wanted)
        if instance_type.has_gpu:
            _check_driver(instance_type)
            there = [image for image in there if image.variant == GPU]
            if not there:
                raise Refused(f"{instance_type.name} has a GPU, and there is no image with drivers for it: {build_one('--variant gpu')}")
        fitting = [image for image in there if image.has(wanted)]
        if not fitting:
            text = f"no image for {instance_type.name} has Blender {_series(wanted)} (there is {_versions(there)})"
            raise Refused(f"{text}: {build_one('--variant gpu' if instance_type.has_gpu else '')}, or choose another Blender for the job")
        exact = [image for image in fitting if image.has_exactly(wanted)]
        return _best(exact or fitting, is_gpu=instance_type.has_gpu)

    def _checked(self, image: Image, wanted: Wanted) -> Image:
        """The configured image, unless it says itself that it can't do it."""
        if image.blenders and not image.has(wanted):
            text = f"the image {image.id} ([aws] image) has no Blender {_series(wanted)} (it has {_versions([image])})"
            raise Refused(f"{text}: name another there, or none")
        return image

    def _list(self) -> tuple[Image, ...]:
        if self._chosen:
            asked: dict[str, Any] = {"ImageIds": [self._chosen]}
        else:
            asked = {
                "Owners": ["self"],
                "Filters": [{"Name": "tag-key", "Values": [IMAGE_TAG]}, {"Name": "state", "Values": ["available"]}],
            }
        with aws_errors("look for images"):
            try:
                pages = self._session.client("ec2").get_paginator("describe_images").paginate(**asked)
                found = [_image(each) for page in pages for each in page["Images"] if each["State"] == "available"]
            except ClientError as error:
                if error_code(error) not in _NO_SUCH_IMAGE:
                    raise
                found = []
        if self._chosen and not found:
            raise Refused(f"there is no image {self._chosen} ([aws] image) in {self._session.region}: name another there, or none")
        return tuple(sorted((image for image in found if self._is_served(image)), key=lambda image: image.created_at))

    def _is_served(self, image: Image) -> bool:
        """Say whether the farm speaks as the image does."""
        is_served = image.protocol in {"", str(protocol.VERSION)}
        if self._chosen and not is_served:
            text = f"the image {image.id} ([aws] image) speaks version {image.protocol} of the protocol, this Kiln {protocol.VERSION}"
            raise Refused(f"{text}: build a new one with `kiln ami build`, and name that, or none")
        return is_served


def _check_driver(instance_type: InstanceType) -> None:
    """Errors: Refused - the driver on the images does not know the type's GPU: its instances would come up and render nothing"""
    gpu = instance_type.gpu
    if not gpu.startswith("NVIDIA ") or gpu.removeprefix("NVIDIA ") in _TOO_OLD:
        text = f"{instance_type.name} has the GPU {gpu}, for which the images have no driver"
        raise Refused(f"{text}: choose a type with one of NVIDIA's that is of 2018 or later (g4dn, g5, g6, g6e)")


def _best(images: Sequence[Image], *, is_gpu: bool) -> Image:
    """The newest; for instances without a GPU one without its drivers, if there is one."""
    return max(images, key=lambda image: ((image.variant == GPU) == is_gpu, image.created_at))


def _lacking(why: str, chosen: str) -> str:
    if chosen:
        return f"{why}, and the image {chosen} ([aws] image) is made for others: name another there, or choose other instance types"
    return f"{why}, and there is no image for them: {build_one()}, or choose other instance types"


def build_one(options: str = "") -> str:
    """What to do where an image lacks."""
    return f"build one on the page “Images”, or with `kiln ami build{f' {options}' if options else ''}`"


def _series(wanted: Wanted) -> str:
    return ".".join(map(str, wanted[:2]))


def _versions(images: Sequence[Image]) -> str:
    versions = {version for image in images for version in image.blenders}
    return ", ".join(sorted(versions, key=_numbers)) or "none"


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))


def _image(shown: Mapping[str, Any]) -> Image:
    tags = tags_of(shown)
    root = shown.get("RootDeviceName", "")
    sizes = {device["DeviceName"]: device.get("Ebs", {}).get("VolumeSize", 0) for device in shown.get("BlockDeviceMappings", ())}
    return Image(
        id=shown["ImageId"],
        name=shown.get("Name", ""),
        architecture=shown["Architecture"],
        variant=tags.get(VARIANT_TAG, "cpu"),
        blenders=tuple(sorted(filter(_VERSION.fullmatch, tags.get(BLENDERS_TAG, "").split()), key=_numbers)),
        protocol=tags.get(PROTOCOL_TAG, ""),
        root_device=root,
        root_gib=sizes.get(root, 0),
        created_at=shown.get("CreationDate", ""),
    )
