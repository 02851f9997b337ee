"""The end of a farm on AWS: remove what setting up made, once nothing is rented any more."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from supervisor.cloud.ports import Refused, Removal, RemovalState

from .errors import aws_errors
from .identity import FARM_TAG
from .setup import AwsSetup

_LIVING = ["pending", "running", "stopping", "stopped"]
_SHOWN = 8


def tear_down(setup: AwsSetup, *, with_data: bool, dry_run: bool) -> Iterator[Removal]:
    """Remove everything that setting up made; yield each thing that is gone, or that stays, and why. Repeat: safe.

    Shape:   with_data: the buckets too, with the projects and frames in them; dry_run: only say so
    Errors:  Refused - something of the farm is still rented; Throttled, Unreachable
    """
    images, kept = _images(setup)
    rented = _rented(setup, kept)
    if rented:
        shown = ", ".join(rented[:_SHOWN]) + (f" and {len(rented) - _SHOWN} more" if len(rented) > _SHOWN else "")
        raise Refused(
            f"the farm still has {shown}. Cancel the jobs that render; delete ended jobs (their snapshots are kept for retries), "
            "or give back what nobody owns with `kiln sweep`; then repeat this"
        )
    # Each thing before what it uses.
    for remove in (setup.template(setup.security_group()).remove, setup.profile().remove, setup.role().remove):
        yield from _gone(remove(dry_run=dry_run))
    yield from _gone(setup.security_group().remove(dry_run=dry_run))
    for bucket in setup.buckets():
        yield from _gone(bucket.remove(with_data=with_data, dry_run=dry_run))
    for image in images:
        yield Removal(name=f"image {image}", state=RemovalState.STAYS, text="`kiln ami prune --all` removes the farm's images")
    yield Removal(name="keys of the farm", state=RemovalState.STAYS, text="delete their user in the AWS console if nothing else uses it")


def _gone(found: Removal | None) -> Iterator[Removal]:
    if found:
        yield found


def _ours(setup: AwsSetup) -> list[dict[str, Any]]:
    return [{"Name": f"tag:{FARM_TAG}", "Values": [setup.identity.farm]}]


def _images(setup: AwsSetup) -> tuple[list[str], frozenset[str]]:
    """Returns: the farm's images; the snapshots that they are made of"""
    with aws_errors("look for the farm's images"):
        found = setup.session.client("ec2").describe_images(Owners=["self"], Filters=_ours(setup))["Images"]
    snapshots = {
        device["Ebs"]["SnapshotId"] for image in found for device in image["BlockDeviceMappings"] if "SnapshotId" in device.get("Ebs", {})
    }
    return [image["ImageId"] for image in found], frozenset(snapshots)


def _rented(setup: AwsSetup, kept: frozenset[str]) -> list[str]:
    """What costs money and bears the farm's tag, but for the snapshots of images."""
    ec2, ours = setup.session.client("ec2"), _ours(setup)
    with aws_errors("look for what the farm rents"):
        living = [*ours, {"Name": "instance-state-name", "Values": _LIVING}]
        instances = [
            one["InstanceId"]
            for page in ec2.get_paginator("describe_instances").paginate(Filters=living)
            for group in page["Reservations"]
            for one in group["Instances"]
        ]
        volumes = [one["VolumeId"] for page in ec2.get_paginator("describe_volumes").paginate(Filters=ours) for one in page["Volumes"]]
        snapshots = [
            one["SnapshotId"]
            for page in ec2.get_paginator("describe_snapshots").paginate(OwnerIds=["self"], Filters=ours)
            for one in page["Snapshots"]
            if one["SnapshotId"] not in kept
        ]
    return [*instances, *volumes, *snapshots]
