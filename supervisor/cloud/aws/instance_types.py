"""What instance types are like and where they are offered: asked of EC2 once for each, for neither changes while a farm runs."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import ClientError

from supervisor.cloud.ports import Refused

from .errors import aws_errors, error_code
from .session import AwsSession

#: EC2 takes this many names in one DescribeInstanceTypes, and values in one filter.
_MOST_NAMES = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceType:
    """A type of instance, as far as the farm cares."""

    name: str
    architecture: str  #: x86_64 | arm64
    has_gpu: bool
    vcpus: int
    zones: frozenset[str]  #: availability zones of the region that have it
    gpu: str = ""  #: maker and name, such as `NVIDIA L4`; empty: it has none


class InstanceTypes:
    """The types that were asked for."""

    def __init__(self, session: AwsSession) -> None:
        self._session = session
        self._known: dict[str, InstanceType] = {}
        self._lock = threading.Lock()

    def find(self, names: Sequence[str]) -> tuple[InstanceType, ...]:
        """The types of these names, in their order. Errors: Refused - there is no such type in the region; Throttled, Unreachable"""
        with self._lock:
            unknown = [name for name in dict.fromkeys(names) if name not in self._known]
            for first in range(0, len(unknown), _MOST_NAMES):
                self._known |= self._describe(unknown[first : first + _MOST_NAMES])
            return tuple(self._known[name] for name in dict.fromkeys(names))

    def _describe(self, names: Sequence[str]) -> dict[str, InstanceType]:
        with aws_errors(f"look up the instance types {', '.join(names)}"):
            try:
                shown = self._session.client("ec2").describe_instance_types(InstanceTypes=list(names))["InstanceTypes"]
            except ClientError as error:
                if error_code(error) != "InvalidInstanceType":
                    raise
                raise Refused(_no_such_type(names, error, self._session.region)) from error
            zones = self._zones(names)
        return {each["InstanceType"]: _instance_type(each, zones.get(each["InstanceType"], ())) for each in shown}

    def _zones(self, names: Sequence[str]) -> dict[str, list[str]]:
        filters = [{"Name": "instance-type", "Values": list(names)}]
        pages = (
            self._session.client("ec2")
            .get_paginator("describe_instance_type_offerings")
            .paginate(LocationType="availability-zone", Filters=filters)
        )
        found: dict[str, list[str]] = {}
        for page in pages:
            for offer in page["InstanceTypeOfferings"]:
                found.setdefault(offer["InstanceType"], []).append(offer["Location"])
        return found


def _no_such_type(names: Sequence[str], error: ClientError, region: str) -> str:
    said = str(error.response["Error"].get("Message", ""))
    wrong = [name for name in names if name in said] or list(names)
    word = "type" if len(wrong) == 1 else "types"
    return f"there is no instance {word} {', '.join(wrong)} in {region}: correct it in the job's settings or in [aws] instance_types"


def _instance_type(shown: Mapping[str, Any], zones: Iterable[str]) -> InstanceType:
    architectures = shown["ProcessorInfo"]["SupportedArchitectures"]
    gpus = shown.get("GpuInfo", {}).get("Gpus", ())
    return InstanceType(
        name=shown["InstanceType"],
        # an Intel type names i386 first
        architecture="arm64" if "arm64" in architectures else "x86_64",
        has_gpu=bool(gpus),
        gpu=next((f"{gpu['Manufacturer']} {gpu['Name']}" for gpu in gpus), ""),
        vcpus=shown["VCpuInfo"]["DefaultVCpus"],
        zones=frozenset(zones),
    )
