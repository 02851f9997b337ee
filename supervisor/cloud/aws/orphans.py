"""Gives back what bears the farm's tag and nobody owns: looked up in one sweep over everything, removed one thing at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any, TypeVar

import structlog

from supervisor.cloud.ports import CloudError, Refused
from supervisor.cloud.s3_uploads import S3Uploads
from supervisor.cloud.stray_uploads import stray_uploads

from .errors import aws_errors, suppress_absent
from .inventory import Inventory
from .own_volumes import OwnVolumes
from .session import AwsSession
from .staging_hands import StagingHands
from .strays import GRACE, Kind, Needed, Owners, Stock, Stray, strays_in
from .template_versions import TemplateVersions

log = structlog.get_logger(__name__)

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Claims:
    """Who can say what is needed."""

    needed: Callable[[frozenset[str]], Needed]  #: known jobs -> what their workspaces need
    builds: Callable[[], frozenset[str]]  #: unfinished builds of images


@dataclass(frozen=True, slots=True, kw_only=True)
class _Orphan:
    id: str
    what: str
    remove: Callable[[], object]


class Orphans:
    """Finds and removes what nobody owns."""

    def __init__(
        self,
        session: AwsSession,
        *,
        inventory: Inventory,
        hands: StagingHands,
        own: OwnVolumes,
        versions: TemplateVersions,
        uploads: Sequence[S3Uploads],
        claims: Claims,
        clock: Callable[[], datetime],
    ) -> None:
        """Shape:   uploads: of each bucket"""
        self._session = session
        self._inventory = inventory
        self._hands = hands
        self._own = own
        self._versions = versions
        self._uploads = uploads
        self._claims = claims
        self._clock = clock
        self._unused_since: dict[str, datetime] = {}  #: security group -> since when no launch is seen to use it

    def find(self, known_jobs: frozenset[str], known_uploads: frozenset[str] | None) -> Mapping[str, str]:
        """Say what nobody owns: id -> what it is. Errors: CloudError"""
        return {orphan.id: orphan.what for orphan in self._find(known_jobs, known_uploads)}

    def remove(self, known_jobs: frozenset[str], known_uploads: frozenset[str] | None) -> Mapping[str, str]:
        """Remove what nobody owns; what can't be removed now is left for the next time.

        Returns: what was removed
        Errors:  CloudError - there was no looking: nothing was removed
        """
        removed = {}
        for orphan in self._find(known_jobs, known_uploads):
            try:
                orphan.remove()
            except CloudError as error:
                log.warning("orphan not removed yet", id=orphan.id, what=orphan.what, error=str(error))
            else:
                removed[orphan.id] = orphan.what
        return removed

    def _find(self, known_jobs: frozenset[str], known_uploads: frozenset[str] | None) -> list[_Orphan]:
        now = self._clock()
        # what there is before who owns it: an owner is written down before anything is asked for in its name
        stock = self._stock(now)
        owners = Owners(jobs=known_jobs, needed=self._claims.needed(known_jobs), builds=self._claims.builds())
        strays = [self._orphan(stray, stock) for stray in strays_in(stock, owners, now=now)]
        return [*strays, *self._of_uploads(known_jobs, known_uploads, now)]

    def _stock(self, now: datetime) -> Stock:
        """What costs money must be seen, or nothing is decided; what does not is passed over where the farm may not look at it."""
        inventory = self._inventory
        return Stock(
            instances=inventory.instances(),
            volumes=inventory.volumes(),
            snapshots=inventory.snapshots(),
            fleets=_if_allowed(inventory.fleets, []),
            templates=_if_allowed(self._versions.jobs, {}),
            image_snapshots=_if_allowed(inventory.image_snapshots, None),
            old_groups=_if_allowed(partial(self._old_groups, now), frozenset()),
        )

    def _old_groups(self, now: datetime) -> frozenset[str]:
        """Security groups of the farm's beside the one that launches use: left when the farm moved to another network.

        EC2 does not say when one was made, and a new one is made before launches use it: only what was seen unused for a while counts.
        """
        groups = self._inventory.security_groups()
        if len(groups) < 2:
            return frozenset()
        try:
            used = self._versions.security_group()
        except Refused:
            return frozenset()  # the farm is not set up at present
        self._unused_since = {id: self._unused_since.get(id, now) for id in groups - {used}}
        return frozenset(id for id, since in self._unused_since.items() if now - since > GRACE)

    def _orphan(self, stray: Stray, stock: Stock) -> _Orphan:
        removals: dict[Kind, Callable[[], object]] = {
            Kind.INSTANCE: lambda: self._hands.end([stray.id], stock.volumes),
            Kind.FLEET: lambda: self._delete_fleet(stray.id),
            Kind.HELD_VOLUME: lambda: self._let_go(stray.id, stock),
            Kind.VOLUME: lambda: self._hands.delete_volumes([stray.id]),
            Kind.SNAPSHOT: lambda: self._hands.delete_snapshots([stray.id]),
            Kind.TEMPLATE: lambda: self._versions.delete(stray.id),
            Kind.GROUP: lambda: self._delete_group(stray.id),
        }
        id = f"launch templates of {stray.id}" if stray.kind is Kind.TEMPLATE else stray.id
        return _Orphan(id=id, what=stray.what, remove=removals[stray.kind])

    def _of_uploads(self, known_jobs: frozenset[str], known_uploads: frozenset[str] | None, now: datetime) -> Iterator[_Orphan]:
        for uploads in self._uploads:
            for upload in stray_uploads(uploads, known_jobs, known_uploads, begun_before=now - GRACE):
                yield _Orphan(
                    id=f"upload {upload.upload_id}",
                    what=f"an unfinished upload of {upload.key}",
                    remove=partial(uploads.abort, upload.key, upload.upload_id),
                )

    @property
    def _ec2(self) -> Any:  # Any: boto3's clients are made at run time
        return self._session.client("ec2")

    def _let_go(self, id: str, stock: Stock) -> None:
        """Errors: Refused - it can't be detached yet"""
        if self._own.let_go(each for each in stock.volumes if each.id == id):
            raise Refused(f"{id} can't be detached yet")

    def _delete_fleet(self, id: str) -> None:
        with aws_errors(f"delete the fleet {id}"), suppress_absent():
            # an instant fleet is deleted with its instances or not at all; the job is gone, so they are strays too
            self._ec2.delete_fleets(FleetIds=[id], TerminateInstances=True)

    def _delete_group(self, id: str) -> None:
        with aws_errors(f"delete the security group {id}"), suppress_absent():
            self._ec2.delete_security_group(GroupId=id)


def _if_allowed(look: Callable[[], _T], otherwise: _T) -> _T:
    try:
        return look()
    except Refused as error:
        log.warning("not looked for orphans everywhere", error=str(error))
        return otherwise
