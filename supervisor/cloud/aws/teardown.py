"""The end of a farm on AWS: remove what setting up made, once nothing is rented any more."""

from __future__ import annotations

from collections.abc import Iterator

from supervisor.cloud.ports import Refused, Removal, RemovalState

from .errors import aws_errors
from .identity import FARM_TAG
from .inventory import Inventory
from .pool import remove_group
from .setup import AwsSetup

_SHOWN = 8


def tear_down(setup: AwsSetup, *, with_data: bool, dry_run: bool) -> Iterator[Removal]:
    """Remove everything that setting up made; yield each thing that is gone, or that stays, and why. Repeat: safe.

    Shape:   with_data: the buckets too, with the projects and frames in them; dry_run: only say so
    Errors:  Refused - something of the farm is still rented; Throttled, Unreachable
    """
    rented = _rented(setup)
    if rented:
        shown = ", ".join(rented[:_SHOWN]) + (f" and {len(rented) - _SHOWN} more" if len(rented) > _SHOWN else "")
        raise Refused(
            f"the farm still has {shown}. Cancel the jobs that render; delete ended jobs (their snapshots are kept for retries), "
            "or give back what nobody owns with `kiln sweep`; a shared pool ends when `[pool] mode` is `job` and "
            "the farm is started again; then repeat this"
        )
    # Each thing before what it uses.
    yield from _gone(remove_group(setup.session, setup.identity.name, dry_run=dry_run))
    for remove in (setup.template(setup.security_group()).remove, setup.profile().remove, setup.role().remove):
        yield from _gone(remove(dry_run=dry_run))
    yield from _gone(setup.security_group().remove(dry_run=dry_run))
    for bucket in setup.buckets():
        yield from _gone(bucket.remove(with_data=with_data, dry_run=dry_run))
    for image in _images(setup):
        yield Removal(
            name=f"image {image}",
            state=RemovalState.STAYS,
            text="deregister it in the AWS console, and delete its snapshot, if you want it no more",
        )
    yield Removal(name="keys of the farm", state=RemovalState.STAYS, text="delete their user in the AWS console if nothing else uses it")


def _gone(found: Removal | None) -> Iterator[Removal]:
    if found:
        yield found


def _images(setup: AwsSetup) -> list[str]:
    ours = [{"Name": f"tag:{FARM_TAG}", "Values": [setup.identity.farm]}]
    with aws_errors("look for the farm's images"):
        found = setup.session.client("ec2").describe_images(Owners=["self"], Filters=ours)["Images"]
    return [image["ImageId"] for image in found]


def _rented(setup: AwsSetup) -> list[str]:
    """What costs money and bears the farm's tag, but for images: they are kept on purpose."""
    inventory = Inventory(setup.session, farm=setup.identity.farm)
    return [
        *(instance.id for instance in inventory.instances() if not instance.is_ending),
        *(volume.id for volume in inventory.volumes() if not volume.is_ending),
        *(snapshot.id for snapshot in inventory.snapshots() if not snapshot.image),
    ]
