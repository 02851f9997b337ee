"""Volumes that are asked for, attached and detached by calls of their own: on AWS each takes seconds, with moto none.

Those that come with an instance are its own affair: moto makes them as the instance is made.
"""

from __future__ import annotations

from typing import Any

from moto.core.responses import ActionResult
from moto.ec2.exceptions import EC2ClientError
from moto.ec2.models.elastic_block_store import Volume
from moto.ec2.responses import EC2Response

from .patching import Method, mend
from .world import world_of


def repair() -> None:
    mend(EC2Response, "create_volume", _creating)
    mend(EC2Response, "attach_volume", _attaching)
    mend(EC2Response, "detach_volume", _detaching)
    mend(Volume, "status", lambda original: property(_status))


def settle(backend: Any) -> None:
    """Let every volume arrive where it is on its way to."""
    for volume in list(backend.volumes.values()):
        volume.__dict__.pop("kiln_creating", None)
        attachment = volume.attachment
        if attachment and attachment.status == "attaching":
            attachment.status = "attached"
        elif attachment and attachment.status == "detaching":
            backend.detach_volume(volume.id, attachment.instance.id, attachment.device)


def _status(volume: Any) -> str:
    if volume.__dict__.get("kiln_creating"):
        return "creating"
    return "in-use" if volume.attachment else "available"


def _creating(original: Method) -> Method:
    def create_volume(self: Any) -> Any:
        if code := world_of(self.ec2_backend).volume_error:
            raise EC2ClientError(code, "There is no volume to be had, by the test's wish.")
        answer = original(self)
        if world_of(self.ec2_backend).is_slow:
            answer.result.kiln_creating = True
        return answer

    return create_volume


def _attaching(original: Method) -> Method:
    def attach_volume(self: Any) -> Any:
        volume = self.ec2_backend.get_volume(self._get_param("VolumeId"))
        if volume.status == "creating":
            raise EC2ClientError("IncorrectState", f"Volume '{volume.id}' is in the 'creating' state.")
        taken = self.ec2_backend.get_instance(self._get_param("InstanceId")).block_device_mapping
        if self._get_param("Device") in taken:
            text = f"Invalid value '{self._get_param('Device')}' for unixDevice. Attachment point is already in use"
            raise EC2ClientError("InvalidParameterValue", text)
        answer = original(self)
        if world_of(self.ec2_backend).is_slow:
            volume.attachment.status = "attaching"
        return answer

    return attach_volume


def _detaching(original: Method) -> Method:
    def detach_volume(self: Any) -> Any:
        volume = self.ec2_backend.get_volume(self._get_param("VolumeId"))
        wanted = self._get_param("InstanceId")
        if volume.attachment is None or wanted not in {None, volume.attachment.instance.id}:
            raise EC2ClientError("IncorrectState", f"Volume '{volume.id}' is not attached to '{wanted}'.")
        if not world_of(self.ec2_backend).is_slow:
            return original(self)
        if volume.attachment.status == "detaching":
            raise EC2ClientError("IncorrectState", f"Volume '{volume.id}' is in the 'detaching' state.")
        volume.attachment.status = "detaching"
        return ActionResult({"VolumeId": volume.id, "InstanceId": volume.attachment.instance.id, "State": "detaching"})

    return detach_volume
