"""The composition root's half for AWS: what a farm that rents instances is put together from. Nothing is asked of AWS while it is."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from time import monotonic

import structlog

from ami.builder import ImageBuilder
from ami.builds import BuildRecords
from ami.hands import BuilderSite
from ami.recipe import Variant
from nodeimage.metadata import Metadata
from supervisor.cloud.agent import publish_agent
from supervisor.cloud.aws.account import AwsAccount
from supervisor.cloud.aws.assembly import AwsPlace, open_own_volumes
from supervisor.cloud.aws.believed import Believed
from supervisor.cloud.aws.checks import AwsDoctor
from supervisor.cloud.aws.compute import Ec2Compute
from supervisor.cloud.aws.identity import Identity, keep_identity
from supervisor.cloud.aws.launch_site import LaunchSite
from supervisor.cloud.aws.own_filling import Fillings
from supervisor.cloud.aws.own_machine import OwnMachine
from supervisor.cloud.aws.own_volumes import OwnVolumes, Processes, Whereabouts
from supervisor.cloud.aws.pool import Ec2Pool
from supervisor.cloud.aws.prices import REFRESH_S, AwsPrices
from supervisor.cloud.aws.session import AwsSession
from supervisor.cloud.aws.setup import AwsSetup, Wishes
from supervisor.cloud.aws.template import base_data
from supervisor.cloud.ports import BlenderFound, Cloud, CloudError, SignedOut
from supervisor.cloud.s3 import S3ObjectStore
from supervisor.cloud.s3_uploads import S3Uploads
from supervisor.config import Config
from supervisor.farm import utc_now
from supervisor.timers import Timer

log = structlog.get_logger(__name__)

#: Keys that an administrator typed on the page, in the data folder.
KEYS_FILE = "aws-keys.json"
#: Seconds between looks at image builds, which take half an hour.
BUILDS_S = 10.0
#: Seconds between looks for a shared pool that the farm has no more.
UNUSED_POOL_S = 600.0
#: The agent is looked for in the bucket no more often than this.
_AGENT_BELIEVED_S = 600.0
#: For what fills volumes on the farm's own instance, in the data folder.
FILLING_FOLDER = "filling"
#: Where there is no metadata service, that is to be known soon.
_METADATA_S = 1.0
#: While AWS can't be asked for the images, it is asked no more often than this.
_ASK_AGAIN_S = 15.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Clocks:
    """What everything on AWS takes the time from."""

    now: Callable[[], datetime] = utc_now
    monotonic: Callable[[], float] = monotonic  #: seconds


def open_session(config: Config, data: Path) -> AwsSession:
    """The farm's way into AWS. Nothing is sent yet."""
    return AwsSession(
        region=config.aws.region,
        profile=config.aws.profile,
        keys_file=data / KEYS_FILE,
        s3_endpoint=config.store.endpoint,
        s3_region=config.store.region if config.store.endpoint else "",
    )


def aws_store(config: Config, data: Path) -> S3ObjectStore:
    """The farm's two buckets. Errors: BadConfig"""
    return _objects(open_session(config, data), keep_identity(data, config.aws))


@dataclass(frozen=True, slots=True, kw_only=True)
class Here:
    """What the farm itself runs on, and what it runs there to fill volumes."""

    machine: Whereabouts
    fillings: Processes


def aws_farm(
    config: Config, data: Path, *, session: AwsSession | None = None, clocks: Clocks | None = None, here: Here | None = None
) -> AwsFarm:
    """Everything on AWS. Shape:   session, here: None: as the configuration says, and the machine is. Errors: BadConfig"""
    session, clocks = session or open_session(config, data), clocks or Clocks()
    parts = _parts(config, data, session, clocks, here or _here(config, data, session, clocks))
    images = ImageBuilder(
        parts.session,
        parts.identity,
        parts.objects,
        _builder_site(config, parts.site),
        records=parts.builds,
        chosen=config.aws.image,
        clock=parts.clocks.now,
    )
    timers = (
        Timer(name="prices", every_s=REFRESH_S, call=partial(_refresh_prices, parts)),
        Timer(name="image builds", every_s=BUILDS_S, call=images.advance_all),
    )
    pool = Ec2Pool(parts.session, parts.identity, pool=config.pool, node=config.node_times, site=parts.site, clock=parts.clocks.monotonic)
    if config.pool.mode == "shared":
        return AwsFarm(cloud=_cloud(config, parts, pool=pool), timers=timers, images=images)
    unused = Timer(name="unused pool", every_s=UNUSED_POOL_S, call=partial(_remove_unused, pool))
    return AwsFarm(cloud=_cloud(config, parts, pool=None), timers=(*timers, unused), images=images)


def _remove_unused(pool: Ec2Pool) -> None:
    """Remove the shared pool of a farm that had one before: its group would go on to have instances. Repeat: safe"""
    try:
        pool.remove()
    except CloudError as error:
        log.warning("unused pool not looked for", error=str(error))


def _cloud(config: Config, parts: _Parts, *, pool: Ec2Pool | None) -> Cloud:
    setup = AwsSetup(parts.session, parts.identity, Wishes.of(config), template_data=partial(base_data, parts.identity))
    place = AwsPlace(
        session=parts.session,
        identity=parts.identity,
        site=parts.site,
        objects=parts.objects,
        aws=config.aws,
        workspace=config.workspace,
        own=parts.own,
        clock=parts.clocks.now,
    )
    workspaces = place.open_workspaces()
    return Cloud(
        objects=parts.objects,
        uploads=parts.uploads[0],
        compute=_compute(config, parts),
        workspaces=workspaces,
        premises=place.open_premises(
            workspaces,
            blenders=_Blenders(parts.site.images.blenders, clock=parts.clocks.monotonic),
            doctor=_doctor(config, parts, setup),
            rates=parts.prices,
            uploads=parts.uploads,
            builds=partial(_unfinished, parts.builds),
        ),
        prices=parts.prices,
        pool=pool,
        internal_endpoint=config.store.endpoint,
        account=AwsAccount(parts.session, setup),
    )


def _compute(config: Config, parts: _Parts) -> Ec2Compute:
    return Ec2Compute(
        parts.session,
        parts.identity,
        aws=config.aws,
        launch=config.launch,
        site=parts.site,
        prices=parts.prices,
        clock=parts.clocks.monotonic,
    )


def _doctor(config: Config, parts: _Parts, setup: AwsSetup) -> AwsDoctor:
    return AwsDoctor(
        parts.session,
        setup=setup,
        site=parts.site,
        objects=parts.objects,
        prices=parts.prices,
        price_problem=lambda: parts.prices.problem,
        launch=config.launch,
        own=parts.own,
        clock=parts.clocks.monotonic,
        now=parts.clocks.now,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class AwsFarm:
    """A farm's half on AWS."""

    cloud: Cloud
    timers: tuple[Timer, ...]  #: what is to be done for it at intervals
    images: ImageBuilder


@dataclass(frozen=True, slots=True, kw_only=True)
class _Parts:
    """What several ports are made with."""

    clocks: Clocks
    session: AwsSession
    identity: Identity
    objects: S3ObjectStore
    builds: BuildRecords
    uploads: tuple[S3Uploads, S3Uploads]  #: into the projects bucket, and into the received one
    prices: AwsPrices
    site: LaunchSite
    own: OwnVolumes


def _here(config: Config, data: Path, session: AwsSession, clocks: Clocks) -> Here:
    # botocore's own variables say where the metadata service is, and whether it is to be asked at all
    metadata = Metadata.from_env(os.environ, timeout_s=_METADATA_S)
    machine = OwnMachine(config.aws.region, metadata=metadata, clock=clocks.monotonic)
    return Here(machine=machine, fillings=Fillings(data / FILLING_FOLDER, session))


def _parts(config: Config, data: Path, session: AwsSession, clocks: Clocks, here: Here) -> _Parts:
    identity = keep_identity(data, config.aws)
    objects = _objects(session, identity)
    site = LaunchSite(
        session,
        identity,
        aws=config.aws,
        workspace=config.workspace,
        node=config.node_times,
        agent=Believed(lambda: publish_agent(objects), lasts_s=_AGENT_BELIEVED_S, clock=clocks.monotonic),
        clock=clocks.monotonic,
    )
    return _Parts(
        clocks=clocks,
        session=session,
        identity=identity,
        objects=objects,
        builds=BuildRecords(objects),
        uploads=(_uploads(session, identity.projects_bucket), _uploads(session, identity.received_bucket)),
        prices=AwsPrices(session, config.aws, folder=data, clock=clocks.now),
        site=site,
        own=open_own_volumes(
            session,
            identity,
            site=site,
            workspace=config.workspace,
            machine=here.machine,
            fillings=here.fillings,
            clock=clocks.monotonic,
        ),
    )


def _objects(session: AwsSession, identity: Identity) -> S3ObjectStore:
    return S3ObjectStore(session.late("s3"), identity.projects_bucket, received_bucket=identity.received_bucket)


def _uploads(session: AwsSession, bucket: str) -> S3Uploads:
    return S3Uploads(session.late("s3"), bucket, connect=lambda endpoint: session.late("s3", endpoint=endpoint))


def _unfinished(builds: BuildRecords) -> frozenset[str]:
    return frozenset(build.id for build in builds.unfinished())


def _builder_site(config: Config, site: LaunchSite) -> BuilderSite:
    return BuilderSite(
        subnets=site.subnets,
        security_group=site.security_group,
        agent=site.agent,
        mirror=config.ami.blender_mirror,
        types={Variant.CPU: config.ami.builder_instance_type, Variant.GPU: config.ami.gpu_builder_instance_type},
    )


def _refresh_prices(parts: _Parts) -> None:
    """Errors: SignedOut - so that it is tried again soon: a failure of AWS is waited out for longer"""
    parts.session.source()
    parts.prices.refresh()


class _Blenders:
    """The Blenders on the images; while AWS can't be asked, those that were seen last: pages are shown all the same."""

    def __init__(self, look: Callable[[], Sequence[BlenderFound]], *, clock: Callable[[], float]) -> None:
        self._look = look
        self._clock = clock
        self._seen: Sequence[BlenderFound] = ()
        self._again_at = 0.0

    def __call__(self) -> Sequence[BlenderFound]:
        if self._clock() >= self._again_at:
            try:
                self._seen = self._look()
            except SignedOut:
                pass  # nobody was asked, and keys may be typed at any moment
            except CloudError as error:
                log.warning("images not readable", error=str(error))
                self._again_at = self._clock() + _ASK_AGAIN_S
        return self._seen
