"""The composition root's half for AWS: what a farm that rents instances is put together from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ami.builder import BuilderSite, ImageBuilder
from ami.recipe import Variant
from nodeimage.release import AgentRelease
from supervisor.cloud.agent import publish_agent
from supervisor.cloud.aws import prices as price_keeping
from supervisor.cloud.aws.account import AwsAccount
from supervisor.cloud.aws.assembly import AwsPlace
from supervisor.cloud.aws.checks import AwsDoctor
from supervisor.cloud.aws.compute import Ec2Compute
from supervisor.cloud.aws.identity import keep_identity
from supervisor.cloud.aws.image_builds import UNFINISHED, all_builds
from supervisor.cloud.aws.launch_site import LaunchSite
from supervisor.cloud.aws.prices import AwsPrices
from supervisor.cloud.aws.session import AwsSession
from supervisor.cloud.aws.setup import AwsSetup, Wishes
from supervisor.cloud.aws.template import base_data
from supervisor.cloud.ports import Cloud
from supervisor.cloud.s3 import S3ObjectStore
from supervisor.cloud.s3_uploads import S3Uploads
from supervisor.config import Config

#: Keys that an administrator typed on the page, in the data folder.
KEYS_FILE = "aws-keys.json"
#: Seconds between looks at image builds: they take half an hour.
BUILDS_S = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class AwsFarm:
    """What the composition root gets for a farm on AWS."""

    cloud: Cloud
    images: ImageBuilder
    refresh_prices: Callable[[], object]
    refresh_prices_s: float


def open_session(config: Config, data: Path) -> AwsSession:
    """The farm's way into AWS. Nothing is sent yet."""
    return AwsSession(
        region=config.aws.region,
        profile=config.aws.profile,
        keys_file=data / KEYS_FILE,
        s3_endpoint=config.store.endpoint,
        s3_region=config.store.region if config.store.endpoint else "",
    )


def open_aws(config: Config, data: Path, *, session: AwsSession | None = None) -> AwsFarm:
    """Put the cloud together. Nothing is sent yet: a farm without credentials starts, and says what it lacks.

    Errors:  BadConfig - `[aws] farm` can't be part of names
    """
    session = session or open_session(config, data)
    identity = keep_identity(data, config.aws)
    objects = S3ObjectStore(session.late("s3"), identity.projects_bucket, received_bucket=identity.received_bucket)
    agent = _Published(objects)
    site = LaunchSite(session, identity, aws=config.aws, workspace=config.workspace, node=config.node, agent=agent)
    prices = AwsPrices(session, config.aws, folder=data)
    setup = AwsSetup(session, identity, Wishes.of(config), template_data=partial(base_data, identity))
    doctor = AwsDoctor(
        session, setup=setup, site=site, objects=objects, prices=prices, price_problem=lambda: prices.problem, launch=config.launch
    )
    place = AwsPlace(session=session, identity=identity, site=site, objects=objects, aws=config.aws, workspace=config.workspace)
    workspaces = place.open_workspaces()
    uploads = {bucket: _uploads(session, bucket) for bucket in (identity.projects_bucket, identity.received_bucket)}
    cloud = Cloud(
        objects=objects,
        uploads=uploads[identity.projects_bucket],
        compute=Ec2Compute(session, identity, aws=config.aws, launch=config.launch, site=site, prices=prices),
        workspaces=workspaces,
        premises=place.open_premises(
            workspaces, doctor=doctor, rates=prices, uploads=list(uploads.values()), builds=partial(_unfinished_builds, objects)
        ),
        prices=prices,
        internal_endpoint=config.store.endpoint,
        account=AwsAccount(session, setup),
    )
    return AwsFarm(
        cloud=cloud,
        images=ImageBuilder(session, identity, objects, _builder_site(config, site, agent), chosen=config.aws.image),
        refresh_prices=prices.refresh,
        refresh_prices_s=price_keeping.REFRESH_S,
    )


class _Published:
    """The farm's agent, put into the bucket the first time that something is launched."""

    def __init__(self, objects: S3ObjectStore) -> None:
        self._objects = objects
        self._release: AgentRelease | None = None

    def __call__(self) -> AgentRelease:
        """Errors: as `publish_agent`"""
        if self._release is None:
            self._release = publish_agent(self._objects)
        return self._release


def _uploads(session: AwsSession, bucket: str) -> S3Uploads:
    return S3Uploads(session.late("s3"), bucket, connect=session.s3_at)


def _unfinished_builds(objects: S3ObjectStore) -> frozenset[str]:
    return frozenset(build.id for build in all_builds(objects) if build.status in UNFINISHED)


def _builder_site(config: Config, site: LaunchSite, agent: _Published) -> BuilderSite:
    return BuilderSite(
        subnets=site.subnets,
        security_group=site.security_group,
        agent=agent,
        mirror=config.ami.blender_mirror,
        types={Variant.CPU: config.ami.builder_instance_type, Variant.GPU: config.ami.gpu_builder_instance_type},
    )

