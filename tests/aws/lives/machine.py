"""An instance from its inside, and what its program has around it."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol  # Any: moto's models are made at run time

from nodeimage.launch import FileEntry, FileList, LaunchData, node_of_instance
from nodeimage.protocol import files_key
from supervisor.cloud.aws.volumes import WORKSPACE_DEVICE
from tests.aws import happenings
from tests.aws.world import backend_of
from tests.fakes.farm import Clock

from .bucket import Bucket

#: A frame takes so long.
RENDER_S = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What every program has around it."""

    bucket: Bucket
    clock: Clock


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """An instance from its inside."""

    id: str
    told: LaunchData
    is_spot: bool

    @property
    def node(self) -> str:
        return node_of_instance(self.id)

    @property
    def job(self) -> str:
        return self.told.job

    def power_off(self) -> None:
        happenings.power_off(instance=self.id)

    @property
    def volume(self) -> Any:
        """The volume that is attached for the job's files. Returns: None if there is none"""
        device = backend_of().get_instance(self.id).block_device_mapping.get(WORKSPACE_DEVICE)
        return backend_of().get_volume(device.volume_id) if device else None


class Program(Protocol):
    """What a machine runs."""

    def step(self) -> None:
        """Do what is to be done now."""


def problem_of(entry: FileEntry, bucket: Bucket) -> str:
    """What is wrong with a file in the bucket. Empty: nothing"""
    there = bucket.get(entry.key)
    if there is None:
        return f"“{entry.path}” is not in the bucket"
    if len(there.body) != entry.bytes or (entry.checksum and entry.checksum != f"crc32:{zlib.crc32(there.body):08x}"):
        return f"“{entry.path}” is not what was uploaded"
    return ""


def files_of(job: str, bucket: Bucket) -> FileList:
    there = bucket.get(files_key(job))
    assert there is not None, "the list of files is there before an instance is asked for"
    return FileList.from_bytes(there.body)


def problem_of_files(job: str, bucket: Bucket) -> str:
    """What is wrong with the files of a job that a node fetches. Empty: nothing"""
    return next((text for entry in files_of(job, bucket).files if (text := problem_of(entry, bucket))), "")


def problem_of_agent(told: LaunchData, bucket: Bucket) -> str:
    """What is wrong with the agent that the launch tells of. Empty: nothing"""
    agent = bucket.get(told.agent)
    is_it = agent is not None and hashlib.sha256(agent.body).hexdigest() == told.agent_sha256
    return "" if is_it else "the agent is not in the bucket as the launch says"


def running_instances() -> list[Any]:
    """Those that the farm launched. What runs on another is not of this place."""
    return [one for one in all_instances() if one.state == "running" and one.user_data]


def all_instances() -> Iterator[Any]:
    return (one for group in list(backend_of().reservations.values()) for one in list(group.instances))
