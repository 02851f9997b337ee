"""Which image an instance starts from."""

from __future__ import annotations

from typing import Any

import pytest

from supervisor.cloud.aws.images import Images
from supervisor.cloud.aws.instance_types import InstanceType, InstanceTypes
from supervisor.cloud.aws.session import AwsSession
from supervisor.cloud.ports import Refused
from tests.aws.farm import Clock
from tests.aws.happenings import IMAGE
from tests.aws.moto_server import Moto

OLD, NEW, ARM, GPU = "ami-0c0000000000000a1", "ami-0c0000000000000b2", "ami-0c0000000000000c3", "ami-0c0000000000000d4"


@pytest.fixture
def images(moto: Moto, aws_session: AwsSession) -> Images:
    moto.tell("remove_image", image=IMAGE)
    return Images(aws_session, clock=Clock())


@pytest.fixture
def types(aws_session: AwsSession) -> InstanceTypes:
    return InstanceTypes(aws_session)


def add(moto: Moto, image: str, blenders: str = "4.2.23 4.5.15", **how: Any) -> None:
    moto.tell("add_image", image=image, blenders=blenders, **how)


def choice(images: Images, types: InstanceTypes, instance_type: str, wanted: tuple[int, ...]) -> str:
    [found] = types.find([instance_type])
    return images.choose(found, wanted).id


def test_types_are_known_by_processor_gpu_and_zones(moto: Moto, types: InstanceTypes) -> None:
    intel, arm, gpu = types.find(["c7i.4xlarge", "c7g.4xlarge", "g6.xlarge"])
    assert (intel.architecture, intel.has_gpu, intel.vcpus) == ("x86_64", False, 16)
    assert (arm.architecture, arm.has_gpu) == ("arm64", False)
    assert (gpu.architecture, gpu.has_gpu, gpu.gpu) == ("x86_64", True, "NVIDIA L4")
    assert "us-east-1a" in intel.zones
    assert types.find(["g6.xlarge", "c7i.4xlarge", "g6.xlarge"]) == (gpu, intel)
    assert len(moto.calls("DescribeInstanceTypes")) == 1


def test_type_that_does_not_exist_is_named(moto: Moto, types: InstanceTypes) -> None:
    with pytest.raises(Refused, match=r"there is no instance type c7i\.huge in us-east-1: correct it in the job's settings"):
        types.find(["c7i.4xlarge", "c7i.huge"])


def test_newest_image_with_the_series_is_chosen(moto: Moto, images: Images, types: InstanceTypes) -> None:
    add(moto, OLD, age_days=9)
    add(moto, NEW, "4.5.16 5.0.1", age_days=2)
    assert choice(images, types, "c7i.4xlarge", (4, 5)) == NEW
    assert choice(images, types, "c7i.4xlarge", (4, 2)) == OLD
    assert choice(images, types, "c7i.4xlarge", ()) == NEW
    with pytest.raises(Refused, match=r"no image for c7i\.4xlarge has Blender 4\.3 \(there is 4\.2\.23, 4\.5\.15, 4\.5\.16, 5\.0\.1\)"):
        choice(images, types, "c7i.4xlarge", (4, 3))


def test_job_goes_on_with_the_very_blender_that_it_began_with_while_there_is_one(moto: Moto, images: Images, types: InstanceTypes) -> None:
    add(moto, OLD, age_days=9)
    add(moto, NEW, "4.5.16 5.0.1", age_days=2)
    assert choice(images, types, "c7i.4xlarge", (4, 5, 15)) == OLD
    assert choice(images, types, "c7i.4xlarge", (4, 5, 14)) == NEW


def test_gpu_job_whose_blender_is_on_another_variant_alone_is_told_what_to_do(moto: Moto, images: Images, types: InstanceTypes) -> None:
    add(moto, OLD, age_days=9)
    add(moto, GPU, "5.0.1", variant="gpu")
    with pytest.raises(Refused, match=r"for g6\.xlarge has Blender 4\.5 \(there is 5\.0\.1\): .*--variant gpu`, or choose another Blender"):
        choice(images, types, "g6.xlarge", (4, 5, 15))


def test_image_fits_processor_and_gpu(moto: Moto, images: Images, types: InstanceTypes) -> None:
    add(moto, OLD, age_days=9)
    with pytest.raises(Refused, match=r"c7g\.4xlarge has arm64 processors, and there is no image for them: .*kiln ami build"):
        choice(images, types, "c7g.4xlarge", (4, 5))
    with pytest.raises(Refused, match=r"g6\.xlarge has a GPU, and there is no image with drivers for it: .*kiln ami build --variant gpu"):
        choice(images, types, "g6.xlarge", (4, 5))
    add(moto, ARM, architecture="arm64")
    add(moto, GPU, variant="gpu")
    images.forget()
    assert choice(images, types, "c7g.4xlarge", (4, 5)) == ARM
    assert choice(images, types, "g6.xlarge", (4, 5)) == GPU
    assert choice(images, types, "c7i.4xlarge", (4, 5)) == OLD
    assert images.newest().id == OLD


@pytest.mark.parametrize("gpu", ["AMD Radeon Pro V520", "NVIDIA V100"])
def test_gpu_that_the_images_have_no_driver_for_is_refused(moto: Moto, images: Images, gpu: str) -> None:
    add(moto, GPU, variant="gpu")
    old = InstanceType(name="p3.2xlarge", architecture="x86_64", has_gpu=True, gpu=gpu, vcpus=8, zones=frozenset())
    with pytest.raises(Refused, match=f"p3.2xlarge has the GPU {gpu}, for which the images have no driver: choose"):
        images.choose(old, (4, 5))


def test_images_of_another_protocol_or_without_our_tags_are_passed_over(moto: Moto, images: Images, types: InstanceTypes) -> None:
    add(moto, NEW, protocol="2")
    with pytest.raises(Refused, match="kiln ami build"):
        choice(images, types, "c7i.4xlarge", (4, 5))
    with pytest.raises(Refused, match="no image for x86_64"):
        images.newest()
    assert images.blenders() == []


def test_listing_is_believed_for_a_minute(moto: Moto, aws_session: AwsSession) -> None:
    clock = Clock()
    images = Images(aws_session, clock=clock)
    assert [image.id for image in images.all()] == [IMAGE]
    add(moto, NEW)
    assert [image.id for image in images.all()] == [IMAGE]
    clock.now_s += 61
    assert len(images.all()) == 2


def test_blenders_on_the_images_are_told_newest_last(moto: Moto, images: Images) -> None:
    add(moto, OLD, "4.2.9 4.2.23 nonsense", age_days=9)
    add(moto, NEW, "4.2.23 5.0.1")
    assert [(blender.version, blender.where) for blender in images.blenders()] == [("4.2.9", OLD), ("4.2.23", NEW), ("5.0.1", NEW)]


def test_configured_image_is_used_whatever_else_there_is(moto: Moto, aws_session: AwsSession, types: InstanceTypes) -> None:
    add(moto, OLD, age_days=9)
    images = Images(aws_session, chosen=OLD)
    assert choice(images, types, "c7i.4xlarge", (4, 5)) == OLD
    assert choice(images, types, "g6.xlarge", (4, 5)) == OLD
    with pytest.raises(Refused, match=rf"{OLD} \(\[aws\] image\) has no Blender 5\.0 \(it has 4\.2\.23, 4\.5\.15\)"):
        choice(images, types, "c7i.4xlarge", (5, 0))
    with pytest.raises(Refused, match=rf"the image {OLD} \(\[aws\] image\) is made for others"):
        choice(images, types, "c7g.4xlarge", (4, 5))


def test_configured_image_that_is_not_there_or_speaks_otherwise_is_refused(moto: Moto, aws_session: AwsSession) -> None:
    with pytest.raises(Refused, match=r"there is no image ami-0c9999999999999ff \(\[aws\] image\) in us-east-1"):
        Images(aws_session, chosen="ami-0c9999999999999ff").all()
    add(moto, NEW, protocol="2")
    with pytest.raises(Refused, match="speaks version 2 of the protocol, this Kiln 1: build a new one"):
        Images(aws_session, chosen=NEW).all()
