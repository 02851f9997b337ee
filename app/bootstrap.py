"""The composition root: the one place that picks the cloud and opens the database. Read it top to bottom to see what a farm is made of."""

from __future__ import annotations

import json
import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, field
from datetime import datetime
from fcntl import LOCK_EX, LOCK_NB, flock
from functools import cache, partial
from pathlib import Path
from time import monotonic, sleep

import structlog

from ami.builder import ImageBuilder
from app.bootstrap_aws import AwsFarm, aws_farm, aws_store
from supervisor.cloud.local.blender import find_blenders
from supervisor.cloud.local.compute import LocalCompute, NodeStore, stop_nodes
from supervisor.cloud.local.premises import LocalPremises
from supervisor.cloud.local.prices import LocalPrices
from supervisor.cloud.local.processes import start_time
from supervisor.cloud.local.seaweedfs import SeaweedFS, StoreDidNotStart
from supervisor.cloud.local.workspaces import LocalWorkspaces, snapshot_folder
from supervisor.cloud.ports import Cloud, ObjectStore, Unreachable
from supervisor.cloud.s3 import S3ObjectStore
from supervisor.cloud.s3_client import ambient_keys, connect_s3, prepare_bucket
from supervisor.cloud.s3_uploads import S3Uploads
from supervisor.config import Config
from supervisor.farm import Farm, utc_now
from supervisor.store.database import Database
from supervisor.store.migrate import migrate
from supervisor.timers import Timer

log = structlog.get_logger(__name__)

CHECKOUT = Path(__file__).resolve().parent.parent
#: Seconds between looks at the object store's process.
STORE_CHECK_S = 2.0
#: Keys for nodes where the store is not the farm's own: the profile of this name in botocore's files, else the farm's.
NODE_PROFILE = "kiln-node"
#: How long to wait for the rest of a server that was killed to notice it.
_LOCK_PATIENCE_S = 10.0


class CantStart(Exception):
    """A part of the farm did not come up; the message says which, and why."""


class AlreadyServed(Exception):
    """Another process serves this data folder; the message names it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Secrets:
    """Keys of the web face, made at the first start."""

    secret_key: str = field(repr=False)  #: signs sessions
    link_key: str = field(repr=False)  #: signs download links


class Wake:
    """`Farm.wake`: asks whoever listens to look at once; nobody does until the timers run."""

    def __init__(self) -> None:
        self._listener: Callable[[], object] = lambda: None

    def __call__(self) -> None:
        self._listener()

    def listen(self, listener: Callable[[], object]) -> None:
        """Let `listener` be called from now on. It must return at once."""
        self._listener = listener


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenFarm:
    """A farm with what only its owner needs."""

    farm: Farm
    secrets: Secrets
    wake: Wake
    upkeep: tuple[Timer, ...]
    images: ImageBuilder | None  #: None: this cloud has no images
    close: Callable[[], None]  #: gives back threads and the database; the store and the nodes live on


def build_farm(config: Config, data: Path) -> Farm:
    """Open the farm beside a server or without one: for commands that read or write the database, or look at the cloud.

    Nothing is started: calls to the object store find it only while the farm is served.
    Errors:  BadConfig, NewerDatabase, DamagedDatabase, OSError
    """
    return open_farm(config, data, serves=False).farm


def open_farm(
    config: Config,
    data: Path,
    *,
    serves: bool,
    open_aws: Callable[[Config, Path], AwsFarm] = aws_farm,
    now: Callable[[], datetime] = utc_now,
) -> OpenFarm:
    """Build the farm. With `serves` it is this process's own (it holds the lock): the object store is started.

    Shape:   open_aws: puts the cloud together, where that is AWS
    Errors:  BadConfig; NewerDatabase, DamagedDatabase; CantStart; OSError - the data folder can't be written
    """
    data = prepare_folder(data)
    with ExitStack() as parts:
        db = open_database(data)
        parts.callback(db.close)
        aws = open_aws(config, data) if config.cloud.provider == "aws" else None
        cloud, upkeep = (aws.cloud, aws.timers) if aws else _local_parts(config, data, parts, serves=serves)
        wake = Wake()
        farm = Farm(config=config, data=data, db=db, cloud=cloud, wake=wake, now=now)
        if serves:
            _empty(farm.scratch_folder)
            _remove_old_zips(data / "downloads")
            log.info("blenders found", versions=[blender.version for blender in cloud.premises.blenders()])
        images, kept = aws.images if aws else None, keep_secrets(data)
        return OpenFarm(farm=farm, secrets=kept, wake=wake, upkeep=upkeep, images=images, close=parts.pop_all().close)


def prepare_folder(data: Path) -> Path:
    """Make the data folder exist. Returns: its absolute path"""
    data = data.expanduser().absolute()
    if not data.exists():
        data.mkdir(parents=True, mode=0o700)
    return data


def open_database(data: Path) -> Database:
    """Open the farm's database, brought up to date.

    Errors:  NewerDatabase - a newer Kiln made it; DamagedDatabase
    """
    path = data / "kiln.db"
    db = Database.open(path)
    try:
        migrate(db, path)
    except BaseException:
        db.close()
        raise
    return db


def keep_secrets(data: Path) -> Secrets:
    """Read the farm's secrets; make them at the first start, for their owner's eyes alone."""
    path = data / "secrets.json"
    made = Secrets(secret_key=secrets.token_urlsafe(32), link_key=secrets.token_urlsafe(32))
    # Written whole beside it and linked into place: of two that start at once, one wins and both read the same.
    draft = path.with_name(f"{path.name}.{secrets.token_hex(4)}.new")
    if not path.exists():
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(json.dumps(asdict(made)))
        with suppress(FileExistsError):
            os.link(draft, path)
        draft.unlink()
    return Secrets(**json.loads(path.read_text()))


@contextmanager
def hold_lock(data: Path) -> Iterator[None]:
    """Be the one process that serves this data folder.

    Errors:  AlreadyServed - another one is, or it was killed and a part of it is still there
    """
    with (prepare_folder(data) / "kiln.lock").open("a+") as file:
        deadline = monotonic() + _LOCK_PATIENCE_S
        while not _lock(file.fileno()):
            file.seek(0)
            owner = file.read().strip()
            if _is_running(owner) or monotonic() > deadline:
                raise AlreadyServed(f"{data} is already served by process {owner or 'unknown'}; stop that one first, or use another --data")
            sleep(0.1)
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield


def is_served(data: Path) -> bool:
    """Say whether some process serves the data folder at present."""
    try:
        with (data / "kiln.lock").open() as file:
            return not _lock(file.fileno())
    except FileNotFoundError:
        return False


@contextmanager
def running_store(config: Config, data: Path) -> Iterator[ObjectStore]:
    """Keep the object store of a data folder that nobody serves running for the time being.

    Errors:  AlreadyServed; Unreachable - it did not come up
    """
    with hold_lock(data):
        if config.cloud.provider == "aws":
            yield aws_store(config, data)
            return
        if config.store.endpoint:
            yield _foreign_store(config, serves=True)[1]
            return
        weed = SeaweedFS(data.absolute(), bucket=config.store.bucket, region=config.store.region)
        try:
            weed.start()
            yield _own_store(config, weed)[1]
        except StoreDidNotStart as error:
            raise Unreachable(str(error)) from error
        finally:
            weed.stop()


def stop_everything(config: Config, data: Path) -> None:
    """End the nodes and the object store of the data folder, whichever process started them. Within 8 s. Repeat: safe.

    What is rented goes on: the next start takes it up.
    """
    if config.cloud.provider == "aws":
        return
    stop_nodes(data / "nodes", grace_s=2.5)
    SeaweedFS(data, bucket=config.store.bucket).stop(grace_s=3.5)


def _lock(handle: int) -> bool:
    try:
        flock(handle, LOCK_EX | LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_running(pid: str) -> bool:
    return pid.isdigit() and start_time(int(pid)) is not None


def _empty(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)


def _remove_old_zips(folder: Path) -> None:
    """Zips lay there before they were made as they are fetched."""
    for pattern in ("download_*.zip", "download_*.part"):
        for path in folder.glob(pattern):
            path.unlink(missing_ok=True)
    with suppress(OSError):  # not there, or something else lies in it
        folder.rmdir()


def _local_parts(config: Config, data: Path, parts: ExitStack, *, serves: bool) -> tuple[Cloud, tuple[Timer, ...]]:
    if config.store.endpoint:
        store, objects, uploads = _foreign_store(config, serves=serves)
        upkeep: tuple[Timer, ...] = ()
    else:
        weed = SeaweedFS(data, bucket=config.store.bucket, region=config.store.region)
        _start(weed) if serves else weed.attach()
        store, objects, uploads = _own_store(config, weed)
        upkeep = (Timer(name="object store", every_s=STORE_CHECK_S, call=weed.ensure_running),)
    return _local_cloud(config, data, parts, store=store, objects=objects, uploads=uploads, serves=serves), upkeep


def _start(weed: SeaweedFS) -> None:
    try:
        weed.start()
    except StoreDidNotStart as error:
        raise CantStart(str(error)) from error


def _own_store(config: Config, weed: SeaweedFS) -> tuple[NodeStore, S3ObjectStore, S3Uploads]:
    bucket, client, keys = config.store.bucket, weed.connect(), weed.keys
    return (
        NodeStore(
            endpoint=weed.endpoint, region=config.store.region, bucket=bucket, access_key=keys.node_access, secret_key=keys.node_secret
        ),
        S3ObjectStore(client, bucket, is_full=weed.is_full),
        S3Uploads(client, bucket, connect=weed.connect, is_full=weed.is_full),
    )


def _foreign_store(config: Config, *, serves: bool) -> tuple[NodeStore, S3ObjectStore, S3Uploads]:
    store = config.store
    client = connect_s3(store.endpoint, region=store.region)
    if serves:
        prepare_bucket(client, store.bucket)
    access_key, secret_key = ambient_keys(NODE_PROFILE)
    return (
        NodeStore(endpoint=store.endpoint, region=store.region, bucket=store.bucket, access_key=access_key, secret_key=secret_key),
        S3ObjectStore(client, store.bucket),
        S3Uploads(client, store.bucket, connect=partial(connect_s3, region=store.region)),
    )


def _local_cloud(
    config: Config, data: Path, parts: ExitStack, *, store: NodeStore, objects: S3ObjectStore, uploads: S3Uploads, serves: bool
) -> Cloud:
    search = cache(partial(find_blenders, config.blender, root=CHECKOUT, cache=data / "blenders.json"))
    compute = LocalCompute(
        data / "nodes",
        slots=config.local.slots,
        threads=config.local.threads_per_node,
        store=store,
        times=config.node_times,
        blenders=lambda: search().found,
        snapshot_folder=partial(snapshot_folder, data / "workspaces"),
        is_owner=serves,
    )
    parts.callback(compute.close)
    workspaces = LocalWorkspaces(data / "workspaces", objects, release_copies=compute.release_copies)
    parts.callback(workspaces.close)
    premises = LocalPremises(
        data,
        search=search,
        slots=config.local.slots,
        min_free_bytes=int(config.store.min_free_gib * (1 << 30)),
        objects=objects,
        uploads=uploads,
        compute=compute,
        workspaces=workspaces,
    )
    return Cloud(
        objects=objects,
        uploads=uploads,
        compute=compute,
        workspaces=workspaces,
        premises=premises,
        prices=LocalPrices(),
        internal_endpoint=store.endpoint,
    )
