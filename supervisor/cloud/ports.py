"""What the farm needs of a cloud, in our words.

`cloud.local` and `cloud.aws` implement it; `tests/fakes` too, with the same contract tests.
Assumptions that every caller may make and every adapter must keep:
- Calls may be repeated. What is created bears the request id it was asked with, and asking again with that id creates nothing new.
- What a cloud shows may be late: something just created may not be listed yet, something just ended may still be.
- Errors are sorted by what the caller does next: `NoCapacity`, `Throttled`, `Unreachable` (try again later), `Refused` (a person
  must act), `Full` (no room).
- No call waits for something to come up or go down: it asks, and the next tick observes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import BinaryIO, Protocol

from supervisor.domain.instance import InstanceStatus, Market
from supervisor.domain.workspace import WorkspaceMode


class CloudError(Exception):
    """The cloud did not do it; the message says what was attempted and with which id."""


class NoCapacity(CloudError):
    """There is nothing to rent at present: wait, or ask for something else."""


class Throttled(CloudError):
    """Too many calls: the next tick tries again."""


class Unreachable(CloudError):
    """No answer, or a fault on the cloud's side: the next tick tries again."""


class Refused(CloudError):
    """The cloud will never do this as asked: a person must act."""


#: What `SignedOut` says, and what to do about it, for people.
SIGNED_OUT = "the farm is not signed in to AWS"
SIGN_IN = "an administrator gives it credentials on its AWS page, or by AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in its environment"


class SignedOut(Refused):
    """There are no credentials for the cloud: a person must give some."""


class Full(CloudError):
    """No room left on the store's disk."""


class PartMismatch(CloudError):
    """An upload can't be completed: `number` is the part that is missing or whose ETag is not the one stored."""

    def __init__(self, message: str, *, number: int) -> None:
        super().__init__(message)
        self.number = number


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """An object as a listing shows it."""

    key: str
    bytes: int
    etag: str  #: without quotes
    modified_at: datetime  #: by the store's clock


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredObject:
    """A small object, read whole."""

    body: bytes
    etag: str


class ObjectStore(Protocol):
    """Objects in the farm's bucket. Keys are those of `nodeimage.protocol`."""

    def put(self, key: str, body: bytes, *, if_absent: bool = False) -> bool:
        """Write a small object. Returns: False if `if_absent` and there is one already. Errors: Full, Unreachable"""

    def put_stream(self, key: str, source: BinaryIO) -> None:
        """Write an object of any size from a file-like; memory does not grow with it. Nothing is there if it fails.
        Errors: Full, Unreachable"""

    def get(self, key: str, *, unless_etag: str | None = None) -> StoredObject | None:
        """Read a small object. Returns: None if there is none, or if it still has `unless_etag`."""

    def open(self, key: str, *, first_byte: int = 0) -> BinaryIO:
        """Read an object as a stream, from a byte on. The caller closes it. Errors: FileNotFoundError, Unreachable"""

    def list(self, prefix: str, *, after: str = "") -> Iterator[Listed]:
        """List objects, keys ascending within one folder, from the first key greater than `after`."""

    def delete(self, keys: Iterable[str]) -> None:
        """Make the objects be gone; those that are not there are no error."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadedPart:
    """A part of a multipart upload, as the store has it."""

    number: int  #: from 1
    etag: str  #: without quotes
    bytes: int


class Uploads(Protocol):
    """Multipart uploads into the bucket."""

    def begin(self, key: str) -> str:
        """Begin an upload. Returns: its id. Errors: Full, Unreachable"""

    def part_url(self, key: str, upload_id: str, number: int, *, endpoint: str) -> str:
        """A presigned URL to PUT one part to, valid for six hours, on the store's address as the client sees it."""

    def put_part(self, key: str, upload_id: str, number: int, source: BinaryIO, *, length: int) -> str:
        """Stream one part into the store, never holding it in memory. Returns: its ETag.
        Errors: Refused - there is no such upload, or `source` ended before `length` bytes; Full, Unreachable"""

    def parts(self, key: str, upload_id: str) -> Sequence[UploadedPart] | None:
        """The parts received, by number. Returns: None if there is no such upload (any more)."""

    def complete(self, key: str, upload_id: str, parts: Sequence[tuple[int, str]]) -> None:
        """Make the object of (number, ETag). Repeat: safe.
        Errors: PartMismatch - a part is missing or has another ETag; the upload stays. Refused - there is no such upload (any more)"""

    def abort(self, key: str, upload_id: str) -> None:
        """Delete the upload and its parts. Repeat: safe."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LaunchSpec:
    """Instances to launch for a job."""

    job: str
    count: int  #: >= 1
    market: Market
    max_price_usd_per_h: Decimal | None  #: None: the on-demand price
    instance_types: tuple[str, ...]  #: empty: the provider's choice
    workspace: str  #: what `Workspaces.snapshot` made
    workspace_bytes: int = 0  #: of the files in it
    blender_version: tuple[int, ...]  #: that renders the job: 4.5.15, or another of that series; two numbers: any of the series


@dataclass(frozen=True, slots=True, kw_only=True)
class RentedInstance:
    """An instance as the cloud shows it."""

    id: str
    request_id: str  #: that it was launched with
    job: str  #: empty: it is of the shared pool
    node: str  #: the id under which its agent reports
    status: InstanceStatus
    instance_type: str
    market: Market
    price_usd_per_h: Decimal
    launched_at: datetime
    note: str = ""  #: why it ended, where the cloud or its agent says so
    was_interrupted: bool = False  #: True: the cloud took it back
    zone: str = ""  #: where it is, as far as prices differ by it


class Compute(Protocol):
    """Instances. Locally: node processes on this machine."""

    def launch(self, spec: LaunchSpec, *, request_id: str) -> int:
        """Ask for instances; return before they are up. Returns: how many were granted (fewer than asked is normal).
        Repeat: safe by request_id. Errors: NoCapacity, Refused, Throttled, Unreachable"""

    def instances(self) -> Sequence[RentedInstance]:
        """Every instance of this farm that exists, and those that ended a short while ago. One call a tick."""

    def free_slots(self) -> int | None:
        """How many more instances can be launched at present. Returns: None where nobody knows before asking."""

    def stop(self, ids: Iterable[str]) -> None:
        """Ask for instances to stop so that they can be started again; where that makes no sense (spot, local, not running yet),
        terminate. Repeat: safe"""

    def start(self, ids: Iterable[str]) -> None:
        """Ask for stopped instances to start. Repeat: safe; those that run or are gone are no error.
        Errors: NoCapacity, Refused - these can't be started: the caller ends them and launches others; Throttled, Unreachable"""

    def terminate(self, ids: Iterable[str]) -> None:
        """Ask for instances to end for good. Repeat: safe; unknown ids are no error."""


class Pool(Protocol):
    """The shared pool: a group of instances that belong to no job, as large as the farm says. `Compute.instances` shows them, without a
    job; their nodes take the pool's order and choose for themselves.

    The cloud puts another instance in the place of one that ends, for as long as the group is to be that large.
    """

    def resize(self, wanted: int, *, until: datetime) -> None:
        """Have so many instances, as far as there are any to be had; return before they are up. None is ended that is there.

        Shape:   until: the group is empty from then on, unless it is resized again: the farm may have died meanwhile
        Repeat:  safe, and cheap where nothing changes
        Errors:  Refused, Throttled, Unreachable
        """

    def release(self, ids: Iterable[str]) -> None:
        """End instances, and have the group smaller by them. Repeat: safe; those that are not in it are no error."""

    def let_go(self, ids: Iterable[str]) -> None:
        """Have others in the place of instances that the cloud is about to take back. They stay, outside of the group. Repeat: safe"""

    def problem(self) -> str:
        """Why the group has fewer than it is to have, in the cloud's words. Empty: there is no reason that anybody knows of"""

    def remove(self) -> None:
        """End the group with all its instances. Repeat: safe; there may be none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StagedFile:
    """A file that belongs into a workspace."""

    path: str  #: relative
    key: str  #: in the bucket
    bytes: int
    checksum: str  #: `crc32:<8 hex digits>` of its content, as received; empty: only the size is verified


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkspaceState:
    """How far a workspace is."""

    staged_bytes: int = 0
    total_bytes: int = 0
    is_staged: bool = False  #: every file is there and verified
    snapshot: str | None = None  #: id of the frozen copy
    problem: str = ""  #: why staging ended, in a sentence that says what to do; empty while it goes on
    doing: str = ""  #: what goes on, for people, such as `the volume is being filled: 43 %`; empty: nothing that they need to know


class Workspaces(Protocol):
    """The job's files as Blender will see them, and frozen copies of them."""

    def stage(self, job: str, files: Sequence[StagedFile], *, request_id: str, mode: WorkspaceMode | None = None) -> None:
        """Begin (or go on) to bring the files into the job's workspace; return at once. What is there and verified is not fetched again.

        Repeat:  safe, and needed: asking again goes on, until `state` shows an end; after a problem it begins anew
        Shape:   mode: None: as the farm is configured; a cloud that knows one way only ignores it
        """

    def state(self, job: str) -> WorkspaceState | None:
        """How far the workspace is. Returns: None if there is none (any more)."""

    def snapshot(self, job: str, *, request_id: str) -> None:
        """Begin (or go on) to freeze the staged workspace. Repeat: as with `stage`, until `state` shows the snapshot"""

    def release_copies(self, job: str) -> bool:
        """Give back what was made for instances of the job that are gone, and what an unfinished staging rents; the snapshot stays.
        Repeat: safe, and needed until all is gone
        Returns: whether it is; False: some of it is on its way, and may still be paid for"""

    def delete(self, job: str) -> None:
        """Give back everything of the job's workspace. Repeat: safe."""

    def jobs(self) -> Sequence[str]:
        """Jobs that have a workspace: the sweep compares them with the database."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BlenderFound:
    """A Blender that instances of this cloud can use."""

    version: str  #: such as 4.5.15
    where: str  #: command line, or the image that has it


@dataclass(frozen=True, slots=True, kw_only=True)
class Holding:
    """Something that costs money for as long as it is there, by its size, or by what it is where no row of an instance counts it."""

    id: str
    job: str  #: that it was made for
    kind: str  #: volume | snapshot | instance: one that prepares a job, or builds an image
    gib: Decimal
    usd_per_month: Decimal
    since: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class JobNeeds:
    """What a job is about to ask of the cloud, to be checked before anything is rented for it."""

    instances: int
    market: Market
    max_price_usd_per_h: Decimal | None
    instance_types: tuple[str, ...]  #: empty: the provider's choice
    bytes: int  #: of its files
    blender_version: tuple[int, ...]  #: as in LaunchSpec
    workspace_mode: WorkspaceMode | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """A finding of the doctor."""

    name: str  #: what was looked at
    is_ok: bool
    text: str  #: what is so
    remedy: str = ""  #: what to do; empty when ok
    is_warning: bool = False  #: not ok, and yet nothing that keeps a job from being rendered


class Premises(Protocol):
    """The place as a whole: what it can render with, whether it has room, whether it is well."""

    def blenders(self) -> Sequence[BlenderFound]:
        """The Blenders that can be used, newest last; empty: none. Cheap: probed once, at start."""

    def free_bytes(self) -> int | None:
        """Room left where uploads and frames go. Returns: None: without limit."""

    def checks(self) -> Sequence[Check]:
        """What `kiln doctor` prints for this cloud."""

    def job_checks(self, needs: JobNeeds) -> Sequence[Check]:
        """The cheap half of the doctor, for one job, before it is submitted: only what would keep it from rendering. Seconds at most."""

    def holdings(self) -> Sequence[Holding]:
        """What costs money by its size at present. Called about once a minute."""

    def orphans(self, known_jobs: frozenset[str], known_uploads: frozenset[str] | None = None) -> Mapping[str, str]:
        """Things that bear the farm's mark and no known job owns: id -> what it is.

        Shape:   known_uploads: ids of the uploads of files that somebody may go on with; None: those of known jobs are all left alone
        """

    def remove_orphans(self, known_jobs: frozenset[str], known_uploads: frozenset[str] | None = None) -> Mapping[str, str]:
        """Remove them. Returns: what was removed. Repeat: safe."""


class Prices(Protocol):
    """What things cost, in dollars. Answers come from a cache that the cloud's side keeps fresh; no call waits long."""

    def instance_usd_per_h(self, instance_type: str, *, market: Market, zone: str = "") -> Decimal | None:
        """The price of an hour at present; of spot the dearest zone's, where none is named. Returns: None if it is not known"""

    def instance_types(self) -> Sequence[str]:
        """The types that a job gets where it names none. Empty: there is nothing to choose."""

    def stored_usd_per_gib_month(self) -> Decimal:
        """Objects in the bucket."""

    def root_volume_usd_per_h(self) -> Decimal:
        """What an instance's root volume adds to its hour."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedIn:
    """Who the farm is to the cloud."""

    account: str  #: the account's number
    name: str  #: of the user or role, as the cloud names it
    source: str  #: where its credentials come from, in words
    has_typed_keys: bool  #: they were typed on the page, so they can be forgotten there


class StepState(StrEnum):
    """What is true of a thing that the farm needs in its account."""

    ABSENT = "absent"  #: it is not there; setting up makes it
    DIFFERS = "differs"  #: it is there and not as it must be; setting up changes it
    READY = "ready"  #: it is as it must be
    BLOCKED = "blocked"  #: it can't be made before a person did what `SetupStep.text` says


@dataclass(frozen=True, slots=True, kw_only=True)
class SetupStep:
    """A thing that the farm needs in its account, as it is now."""

    name: str  #: what it is, with its name there
    state: StepState
    text: str  #: what is so, and what setting up would do


class RemovalState(StrEnum):
    """What became of a thing that setting up made."""

    REMOVED = "removed"  #: it is gone, or would be
    STAYS = "stays"  #: it is left, for the reason that the text says


@dataclass(frozen=True, slots=True, kw_only=True)
class Removal:
    """A thing of the farm's in its account, when everything is taken down."""

    name: str
    state: RemovalState
    text: str = ""


class CloudAccount(Protocol):
    """The account that the farm rents in: who it is there, and what it needs there before it can rent."""

    def who(self) -> SignedIn:
        """Ask the cloud who we are. Errors: SignedOut; Refused - the credentials are wrong; Unreachable"""

    def change_keys(self, access_key: str, secret_key: str) -> None:
        """Sign in with these keys from now on, once the cloud knows them; two empty ones: forget those that were given.
        Errors: Refused - the cloud does not know them, and nothing was changed; Unreachable"""

    def policy(self, *, part: str = "") -> Mapping[str, object]:
        """What the credentials must allow, and no more. Asks nobody.

        Shape:   part: `run`, `setup`, `build`, `pool` or `fill`: what that takes alone; empty: all that this farm does
        """

    def plan(self, *, origin: str = "") -> Sequence[SetupStep]:
        """What is there of what the farm needs. Changes nothing.

        Shape:   origin: where browsers see the farm, if the configuration does not say; they may upload from there
        """

    def set_up(self, *, origin: str = "") -> Iterator[SetupStep]:
        """Make what is lacking, step by step; yield each when it is done, or when it can't be. Repeat: safe, after a crash too.
        Errors: those of the step that failed; what came before it stays"""

    def tear_down(self, *, with_data: bool, dry_run: bool) -> Iterator[Removal]:
        """Remove what setting up made; yield each thing that is gone, or that stays. Repeat: safe.
        Errors: Refused - something of the farm is still rented, and nothing was removed"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cloud:
    """One cloud: all ports together, built by `app.bootstrap`."""

    objects: ObjectStore
    uploads: Uploads
    compute: Compute
    workspaces: Workspaces
    premises: Premises
    prices: Prices
    internal_endpoint: str  #: the store's address as seen from this machine
    pool: Pool | None = None  #: None: each job has instances of its own
    account: CloudAccount | None = None  #: None: the cloud rents nothing, and needs no account
