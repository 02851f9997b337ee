"""A studio whose farm rents on AWS, put together on this machine: moto for AWS, SeaweedFS for S3, `kiln serve`, and a data centre."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from click.testing import CliRunner

from app.api import models
from app.cli import main
from app.cli.client import Client
from nodeimage.protocol import JournalEntry, journal_prefix
from supervisor.cloud.aws.identity import FARM_TAG, Identity
from supervisor.cloud.aws.node_policy import node_policy
from supervisor.cloud.aws.policy import Place
from supervisor.cloud.local import processes
from supervisor.cloud.local.disk import write_private
from supervisor.cloud.local.seaweedfs import SeaweedFS
from supervisor.cloud.local.seaweedfs_files import identities
from supervisor.cloud.s3 import S3ObjectStore
from tests.aws.metadata_service import RoleKeys
from tests.aws.moto_server import Moto
from tests.aws.signed_out import NO_FILES
from tests.aws.world import REGION
from tests.waiting import wait_until

from .aws_machines import DataCenter
from .test_serve import Server, served

FARM = "studio"
IDENTITY = Identity(farm=FARM, projects_bucket=f"kiln-{FARM}-projects", received_bucket=f"kiln-{FARM}-received")
#: What an action of IAM's is called in SeaweedFS.
_RIGHTS = {"s3:GetObject": "Read", "s3:PutObject": "Write", "s3:ListBucket": "List"}
#: Ticks as often as on this machine, nodes that are believed dead soon, and no second attempt: one that counts as failed fails the job.
_SETTINGS = {
    "KILN_CLOUD__PROVIDER": "aws",
    "KILN_AWS__FARM": FARM,
    "KILN_AWS__TICK_S": "0.5",
    "KILN_AWS__DESCRIBE_S": "0.5",
    "KILN_NODE__HEARTBEAT_S": "0.5",
    "KILN_NODE__LEASE_S": "10",
    "KILN_NODE__POLL_S": "0.3",
    "KILN_RENDER__MAX_ATTEMPTS": "1",
    "KILN_RENDER__PREVIEW_WIDTH_PX": "64",
}
_PRICES = {"c7i.4xlarge": "0.714", "c7a.4xlarge": "0.821", "c6i.4xlarge": "0.68", "m7i.4xlarge": "0.806", "c7i.xlarge": "0.179"}
_SPOT_PRICES = {"c7i.4xlarge": "0.29", "c7a.4xlarge": "0.31"}
_QUOTAS = {"L-1216C47A": 2048.0, "L-34B43A08": 2048.0}
_PASSWORD = "a long enough one\n"
#: A machine with other things to do takes several times as long.
PATIENCE_S = 150.0

T = TypeVar("T")


class StudioStore(SeaweedFS):
    """An S3 store of the studio's own. A node's keys may do there what the policy of the nodes' role says, in the farm's two buckets."""

    def _flags(self) -> list[str]:
        said = json.loads(identities(self.keys, self._bucket))
        for each in said["identities"]:
            if each["name"] == "node":
                each["actions"] = _node_rights()
        path = self._folder / "rights.json"
        write_private(path, json.dumps(said))
        return [*super()._flags(), f"-s3.config={path}"]


def _node_rights() -> list[str]:
    """The policy of the nodes' role in SeaweedFS's words, such as `Read:bucket/projects/*`."""
    statements = node_policy(Place(identity=IDENTITY, region=REGION))["Statement"]
    granted = [(action, resource) for each in statements for action in each["Action"] for resource in each["Resource"]]
    return [f"{_RIGHTS[action]}:{resource.rpartition(':')[2]}" for action, resource in granted if action in _RIGHTS]


@dataclass(frozen=True, slots=True, kw_only=True)
class Studio:
    """What a test has in hand."""

    moto: Moto
    center: DataCenter
    server: Server
    client: Client
    objects: S3ObjectStore  #: the farm's two buckets
    environment: Mapping[str, str]

    def until(self, condition: Callable[[], T | None], what: str, *, timeout_s: float = PATIENCE_S) -> T:
        """Let the data centre work until something is so. Returns: what the condition says then. Errors: AssertionError"""

        def step() -> T | None:
            self.center.step()
            return condition()

        try:
            found = wait_until(step, timeout_s=timeout_s, what=what, every_s=0.25)
            assert found is not None, "only what is true ends the wait"
            return found
        except AssertionError as error:
            error.add_note(f"the farm's last words:\n{self.server.output[-4000:]}")
            for id, machine in self.center.machines.items():
                error.add_note(f"the last words of {id}:\n{machine.last_words()}")
            raise

    def kiln(self, *words: str, **how: Any) -> str:
        """Run a command on the farm's data. Returns: what it prints"""
        return run_kiln(self.server.data, self.environment, *words, **how)

    def submit(self, blend: Path, **settings: Any) -> str:
        """Upload a .blend to the store itself, as a browser does, and have it rendered. Returns: the job's id"""
        body = blend.read_bytes()
        job = self.client.create_job(blend.stem).id
        plan = self.client.begin_file(job, models.NewFile(path=f"scenes/{blend.name}", bytes=len(body)))
        etags = {}
        for part in plan.parts:
            section = body[(part.number - 1) * plan.part_bytes : part.number * plan.part_bytes]
            etags[part.number] = self.client.put_part(part.url, section, length=len(section))
        self.client.complete_file(job, plan.id, etags)
        self.until(lambda: self.client.job(job).blockers == [], "a job that can be submitted")
        return self.client.submit_job(job, **settings).id

    def journal(self, job: str) -> list[JournalEntry]:
        """What the nodes reported, oldest first."""
        stored = [self.objects.get(listed.key) for listed in self.objects.list(journal_prefix(job))]
        return [JournalEntry.from_bytes(found.body) for found in stored if found]

    def launched(self, role: str, job: str) -> list[str]:
        """Every instance that was ever launched for a job in this role, oldest first."""
        shown = sorted(self.moto.instances(), key=lambda one: one["LaunchTime"])
        tagged = [(one["InstanceId"], {tag["Key"]: tag["Value"] for tag in one["Tags"]}) for one in shown]
        return [id for id, tags in tagged if (tags["kiln:role"], tags["kiln:job"]) == (role, job)]

    def rented(self) -> list[str]:
        """Whatever the farm pays for by the hour, and what launches were made by: instances, volumes, versions of the template."""
        ec2 = self.moto.client("ec2")
        mine = [{"Name": f"tag:{FARM_TAG}", "Values": [FARM]}]
        versions = ec2.describe_launch_template_versions(LaunchTemplateName=IDENTITY.name)["LaunchTemplateVersions"]
        return [
            *(one["InstanceId"] for one in self.moto.instances() if one["State"]["Name"] != "terminated"),
            *(each["VolumeId"] for each in ec2.describe_volumes(Filters=mine)["Volumes"]),
            *(each["VersionDescription"] for each in versions if each["VersionDescription"] != "base"),
        ]

    def snapshots(self) -> list[str]:
        mine = [{"Name": f"tag:{FARM_TAG}", "Values": [FARM]}]
        return [each["SnapshotId"] for each in self.moto.client("ec2").describe_snapshots(Filters=mine)["Snapshots"]]


def run_kiln(data: Path, environment: Mapping[str, str], *words: str, typed: str = "") -> str:
    ended = CliRunner().invoke(main, [*words, "--data", str(data)], env=dict(environment), input=typed)
    assert ended.exit_code == 0, ended.output
    return ended.stdout


@contextmanager
def open_studio(moto: Moto, folder: Path) -> Iterator[Studio]:
    """Set a farm up on AWS, and serve it."""
    moto.reset()
    moto.change(on_demand_prices=_PRICES, spot_prices=_SPOT_PRICES, quotas=_QUOTAS)
    store = StudioStore(folder / "store", bucket="kiln")
    store.start()
    try:
        environment = _environment(moto, store)
        data = folder / "data"
        run_kiln(data, environment, "aws", "setup", "--yes")
        with served(data, environment=environment) as server:
            yield from _opened(moto, folder, store, server, environment)
            server.end()
    finally:
        store.stop()


def _opened(moto: Moto, folder: Path, store: SeaweedFS, server: Server, environment: Mapping[str, str]) -> Iterator[Studio]:
    run_kiln(server.data, environment, "user", "add", "ada", "--role", "admin", typed=_PASSWORD)
    client = Client(f"http://127.0.0.1:{server.port}", run_kiln(server.data, environment, "token", "create", "ada").strip())
    keys = RoleKeys(access_key=store.keys.node_access, secret_key=store.keys.node_secret)
    center = DataCenter(moto, folder / "center", keys=keys)
    objects = S3ObjectStore(store.connect(), IDENTITY.projects_bucket, received_bucket=IDENTITY.received_bucket)
    try:
        yield Studio(moto=moto, center=center, server=server, client=client, objects=objects, environment=environment)
    finally:
        center.close()
        client.close()
    wait_until(lambda: not processes.with_environment(f"{folder / 'center'}/"), what="the end of everything on the machines")


def _environment(moto: Moto, store: SeaweedFS) -> dict[str, str]:
    """What the farm's processes have around them: one pair of keys, which moto takes for AWS's and SeaweedFS for its own."""
    return {
        **os.environ,
        **moto.environment,
        "AWS_ACCESS_KEY_ID": store.keys.farm_access,
        "AWS_SECRET_ACCESS_KEY": store.keys.farm_secret,
        **NO_FILES,
        "KILN_STORE__ENDPOINT": store.endpoint,
        "KILN_STORE__PUBLIC_ENDPOINT": store.endpoint,
        **_SETTINGS,
    }
