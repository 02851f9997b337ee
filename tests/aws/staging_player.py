"""The program on staging instances, played: it reads what a real one reads, writes what a real one writes, and shuts its instance down."""

from __future__ import annotations

import base64
import zlib
from typing import Any

from nodeimage.launch import FileEntry, FileList, LaunchData, StagingReport, StagingState
from nodeimage.protocol import files_key, staging_key
from supervisor.cloud.ports import ObjectStore

from .moto_server import Moto


class StagingPlayer:
    """Works on every staging instance that runs, one step at a time."""

    def __init__(self, moto: Moto, objects: ObjectStore) -> None:
        self._moto = moto
        self._objects = objects

    def staging_instances(self, *states: str) -> list[dict[str, Any]]:
        return [one for one in self._moto.instances(*states) if _tags(one).get("kiln:role") == "stage"]

    def work(self) -> None:
        """Let every staging instance that runs do all that it has to do."""
        for one in self.staging_instances("running"):
            self.finish(one["InstanceId"])

    def report(self, instance: str, state: StagingState, *, done: int = 0, message: str = "") -> None:
        """Let an instance say how far it is."""
        self.report_as(instance, self.launch_data(instance).job, state, done=done, message=message)

    def report_as(self, who: str, job: str, state: StagingState, *, done: int = 0, message: str = "") -> None:
        """Let whoever fills the volume of a job say how far it is: an instance, or a process of the farm's, in the name of the volume."""
        files = self._files(job)
        report = StagingReport(
            state=state,
            instance=who,
            content=files.content,
            at_ms=0,
            done_bytes=done,
            total_bytes=sum(file.bytes for file in files.files),
            message=message,
        )
        self._objects.put(staging_key(job), report.to_bytes())

    def finish(self, instance: str) -> None:
        """Let an instance verify the files, tell the outcome, and shut down."""
        self.verify_as(instance, self.launch_data(instance).job)
        self._moto.tell("power_off", instance=instance)

    def verify_as(self, who: str, job: str) -> None:
        """Let whoever fills the volume of a job verify the files, and tell the outcome."""
        files = self._files(job)
        problem = next((text for file in files.files if (text := self._problem_of(file))), "")
        if problem:
            self.report_as(who, job, StagingState.FAILED, message=problem)
        else:
            self.report_as(who, job, StagingState.DONE, done=sum(file.bytes for file in files.files))

    def launch_data(self, instance: str) -> LaunchData:
        """What the instance was told at its launch."""
        asked = self._moto.client("ec2").describe_instance_attribute(InstanceId=instance, Attribute="userData")
        return LaunchData.from_bytes(base64.b64decode(asked["UserData"]["Value"]))

    def _files(self, job: str) -> FileList:
        there = self._objects.get(files_key(job))
        assert there is not None, "the list of files is there before an instance is asked for"
        return FileList.from_bytes(there.body)

    def _problem_of(self, file: FileEntry) -> str:
        there = self._objects.get(file.key)
        if there is None:
            return f"“{file.path}” is no longer in the bucket; upload it again"
        if file.checksum and file.checksum != f"crc32:{zlib.crc32(there.body):08x}":
            return f"“{file.path}” does not match its checksum; upload it again"
        return ""


def _tags(one: dict[str, Any]) -> dict[str, str]:
    return {tag["Key"]: tag["Value"] for tag in one.get("Tags", ())}
