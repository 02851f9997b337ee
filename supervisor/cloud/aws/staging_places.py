"""Where a staging instance may be launched: each of its types in each subnet whose zone has it, with the image that fits the type."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from supervisor.cloud.ports import Refused, SignedOut

from .instance_types import InstanceType
from .launch_site import LaunchSite


@dataclass(frozen=True, slots=True, kw_only=True)
class StagingPlace:
    """A type in a subnet, with what an instance there is launched with."""

    instance_type: str
    subnet: str
    data: Mapping[str, Any]  #: parameters of RunInstances: image, profile, security group, user data, metadata options, root volume


class StagingSite:
    """Knows what staging instances of this farm are made of."""

    def __init__(self, site: LaunchSite, *, types: Sequence[str]) -> None:
        """Shape:   types: tried in order"""
        self._site = site
        self._types = types

    def places(self, job: str) -> list[StagingPlace]:
        """Where an instance for the job's files may be launched, in the order in which to try: every type in one zone, then in the next.

        Errors:  Refused - there is no such type, no image, no subnet; Throttled, Unreachable
        """
        types = self._find_types()
        data = {each.architecture: self._site.stage_data(job, architecture=each.architecture) for each in types}
        found = [
            StagingPlace(instance_type=each.name, subnet=subnet.id, data=data[each.architecture])
            for subnet in self._site.subnets()
            for each in types
            if subnet.zone in each.zones
        ]
        if not found:
            zones = ", ".join(sorted({subnet.zone for subnet in self._site.subnets()}))
            raise Refused(f"none of {', '.join(self._types)} ([workspace] staging_instance_type) is offered in {zones}; name others there")
        return found

    def forget(self) -> None:
        """Look everything up again when it is needed next: AWS refused a launch."""
        self._site.forget()

    def _find_types(self) -> Sequence[InstanceType]:
        """Errors: Refused - there is no such type"""
        try:
            return self._site.types.find(self._types)
        except SignedOut:
            raise
        except Refused as error:
            raise Refused(f"{error} (it stands in [workspace] staging_instance_type)") from error
