"""Puts together what a farm's workspaces on AWS are made of, and its premises, which share much of it: for the composition root."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from supervisor.cloud.ports import BlenderFound, ObjectStore
from supervisor.cloud.s3_uploads import S3Uploads
from supervisor.config import AwsConfig, WorkspaceConfig, words

from .holdings import Rates
from .identity import Identity
from .inventory import Inventory
from .launch_site import LaunchSite
from .orphans import Claims, Orphans
from .own_volumes import OwnVolumes, Processes, Whereabouts
from .premises import AwsPremises, Doctor
from .session import AwsSession
from .staging_hands import StagingHands
from .staging_places import StagingSite
from .staging_sight import Sight
from .workspace_records import Records
from .workspaces import AwsWorkspaces


def open_own_volumes(
    session: AwsSession,
    identity: Identity,
    *,
    site: LaunchSite,
    workspace: WorkspaceConfig,
    machine: Whereabouts,
    fillings: Processes,
    clock: Callable[[], float],
) -> OwnVolumes:
    """The volumes that the farm fills itself, one of them in a process. Units:   clock: monotonic seconds"""
    return OwnVolumes(
        session,
        farm=identity.farm,
        filled_by=workspace.filled_by,
        machine=machine,
        fillings=fillings,
        told=site.told_to_stage,
        throughput_mib_s=workspace.volume_throughput_mib_s,
        clock=clock,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class AwsPlace:
    """What workspaces and premises of one farm share."""

    session: AwsSession
    identity: Identity
    site: LaunchSite
    objects: ObjectStore
    aws: AwsConfig
    workspace: WorkspaceConfig
    own: OwnVolumes
    clock: Callable[[], datetime] = lambda: datetime.now(UTC)

    def open_workspaces(self) -> AwsWorkspaces:
        """The farm's workspaces. One process of the farm advances them: the one that serves it."""
        records = Records(self.objects, clock=self.clock)
        return AwsWorkspaces(
            objects=self.objects,
            records=records,
            sight=Sight(self._inventory(), self.objects, clock=self.clock),
            hands=self._hands(),
            own=self.own,
            config=self.workspace,
            believed_s=self.aws.describe_s,
            release_template=self.site.versions.delete,
            clock=self.clock,
        )

    def open_premises(
        self,
        workspaces: AwsWorkspaces,
        *,
        blenders: Callable[[], Sequence[BlenderFound]],
        doctor: Doctor,
        rates: Rates,
        uploads: Sequence[S3Uploads],
        builds: Callable[[], frozenset[str]],
    ) -> AwsPremises:
        """The farm's premises.

        Shape:   blenders: those on the images, newest last; uploads: of each bucket; builds: ids of unfinished builds of images
        """
        orphans = Orphans(
            self.session,
            inventory=self._inventory(),
            hands=self._hands(),
            own=self.own,
            versions=self.site.versions,
            uploads=uploads,
            claims=Claims(needed=workspaces.needed, builds=builds),
            clock=self.clock,
        )
        return AwsPremises(blenders=blenders, doctor=doctor, inventory=self._inventory(), rates=rates, orphans=orphans)

    def _inventory(self) -> Inventory:
        return Inventory(self.session, farm=self.identity.farm)

    def _hands(self) -> StagingHands:
        return StagingHands(
            self.session,
            farm=self.identity.farm,
            site=StagingSite(self.site, types=words(self.workspace.staging_instance_type)),
            throughput_mib_s=self.workspace.volume_throughput_mib_s,
        )
