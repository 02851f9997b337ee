"""What is wrong with how a life went: read off the cloud itself and the farm's database, not off what the farm says of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from enum import StrEnum
from typing import Any  # Any: moto's models are made at run time

from moto.autoscaling.models import autoscaling_backends
from moto.core.models import DEFAULT_ACCOUNT_ID

from nodeimage.launch import Role
from nodeimage.protocol import NODES_PREFIX, JournalEntry, Outcome, frame_name, frames_prefix, journal_prefix
from supervisor import queries
from supervisor.cloud.aws.identity import CONTENT_TAG, JOB_TAG, ROLE_TAG
from supervisor.domain.frame import FrameStatus
from supervisor.domain.job import JobStatus
from supervisor.domain.workspace import WorkspaceMode
from supervisor.farm import Farm
from supervisor.store import frames, instances, runs
from tests.aws.policy_check import beyond_the_policy
from tests.aws.world import REGION, backend_of, world_of

from .account import IDENTITY, Account
from .life import Life
from .machine import all_instances

#: States of instances that cost nothing any more.
GONE = frozenset({"terminated", "shutting-down"})


class Kind(StrEnum):
    """What is wrong."""

    ENDED_WRONG = "ended wrong"
    LEAKED = "leaked"
    DOUBLED = "doubled"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One thing that is wrong."""

    kind: Kind
    text: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.text}"


def tags_of(thing: Any) -> dict[str, str]:
    return {tag["key"]: tag["value"] for tag in thing.get_tags()}


@dataclass
class Doubles:
    """Looks after each call whether more is rented than was asked for."""

    life: Life
    known: frozenset[str]  #: what was there before the life
    doomed: set[str] = field(default_factory=set)  #: instances that are to be replaced before they end: taken back, or silent
    twins: int = 0  #: snapshots made twice because a reply was lost: EC2 takes no token for them
    found: dict[str, Fault] = field(default_factory=dict)

    def look(self) -> None:
        present = [one for one in all_instances() if one.state not in GONE and one.id not in self.doomed]
        roles = Counter(tags_of(one).get(ROLE_TAG, "") for one in present)
        held = Counter({"instances": roles[Role.RENDER] + roles[Role.POOL], "staging instances": roles[Role.STAGE], **_held(self.known)})
        # what the farm could not fill itself is not gone yet when a staging instance is asked for
        volumes = 1 + self.life.is_filled_here
        most = {"instances": self.life.instances, "staging instances": 1, "staging volumes": volumes, "snapshots": 1 + self.twins}
        for what, count in held.items():
            if count > most[what]:
                self.found.setdefault(what, Fault(kind=Kind.DOUBLED, text=f"{count} {what} at once, where {most[what]} were asked for"))


def _held(known: frozenset[str]) -> dict[str, int]:
    backend, hidden = backend_of(), world_of(backend_of()).hidden
    # what a machine that died left behind can't be given back before it is listed
    lost = {id for id, each in backend.volumes.items() if id in hidden and not each.attachment}
    volumes = [each for id, each in backend.volumes.items() if id not in known | lost and not each.snapshot_id]
    staged = [each for each in volumes if tags_of(each).get(ROLE_TAG) == Role.STAGE]
    snapshots = [each for id, each in backend.snapshots.items() if id not in known and CONTENT_TAG in tags_of(each)]
    return {"staging volumes": len(staged), "snapshots": sum(each.status != "error" for each in snapshots)}


@dataclass
class Ledger:
    """Counts what was ever rented: what is forgotten by the cloud, or deleted, counts too."""

    known: frozenset[str]
    launched: dict[str, str] = field(default_factory=dict)  #: instance -> its role
    volumes: set[str] = field(default_factory=set)  #: made to be filled
    snapshots: set[str] = field(default_factory=set)

    def look(self) -> None:
        backend = backend_of()
        new = [one for one in all_instances() if one.id not in self.launched and one.id not in self.known]
        self.launched |= {one.id: tags_of(one).get(ROLE_TAG, "") for one in new}
        for id, each in backend.volumes.items():
            if id not in self.known and id not in self.volumes and tags_of(each).get(ROLE_TAG) == Role.STAGE and not each.snapshot_id:
                self.volumes.add(id)
        self.snapshots |= {id for id, each in backend.snapshots.items() if id not in self.known and CONTENT_TAG in tags_of(each)}

    def counts(self, life: Life) -> Iterator[tuple[str, int, int]]:
        """What was rented in all: what, how many, how many there was reason for."""
        roles = Counter(self.launched.values())
        yield "instances", roles[life.role], life.most_launched
        yield "staging instances", roles[Role.STAGE], life.most_staged
        yield "other instances", roles.total() - roles[life.role] - roles[Role.STAGE], 0
        # when the farm was dead for long, a staging instance fills another
        yield "staging volumes", len(self.volumes), life.most_staged + life.is_filled_here
        yield "snapshots", len(self.snapshots), min(life.most_staged, 1)


def everything() -> frozenset[str]:
    """Ids of all that is there and costs money, or would."""
    backend = backend_of()
    alive = [one.id for one in all_instances() if one.state not in GONE]
    return frozenset([*alive, *backend.volumes, *backend.snapshots, *_versions(backend), *_addresses(backend), *groups()])


def _versions(backend: Any) -> Iterator[str]:
    for template in backend.launch_templates.values():
        for version in template.versions:
            if version.number not in template.__dict__.get("kiln_deleted", ()):
                yield f"{template.name} version {version.number} ({version.description})"


def _addresses(backend: Any) -> Iterator[str]:
    return iter(backend.addresses)


def groups() -> Mapping[str, Any]:
    """The Auto Scaling groups, by name."""
    found: Mapping[str, Any] = autoscaling_backends[DEFAULT_ACCOUNT_ID][REGION].autoscaling_groups
    return found


def is_pool_empty() -> bool:
    """Whether no group has an instance, or is about to have one in the place of one that ended."""
    is_wanted = any(group.desired_capacity for group in groups().values())
    return not is_wanted and all(one.state in GONE for one in all_instances())


def active_fleets(job: str) -> list[str]:
    """Records of fleets of a job that nobody ended."""
    fleets = world_of(backend_of()).fleets.values()
    return [each["FleetId"] for each in fleets if each["FleetState"] == "active" and {"Key": JOB_TAG, "Value": job} in each["Tags"]]


@dataclass
class Verdict:
    """What is wrong with a life at its end, and when its files are kept no more."""

    account: Account
    life: Life
    known: frozenset[str]  #: what was there before the life
    ledger: Ledger
    is_calm: bool = True  #: nothing befell the cloud: nothing is rendered or rented again

    def of_the_end(self, farm: Farm, job: str) -> Iterator[Fault]:
        """The job has ended as it should, with every frame received once; and everything is given back."""
        seen = queries.job_summary(farm, job)
        if seen.status in self.life.ends:
            yield from self._of_frames(farm, job, is_whole=seen.status is JobStatus.COMPLETED)
        else:
            yield Fault(kind=Kind.ENDED_WRONG, text=f"the job is {seen.status}: {seen.reason}")
        yield from _of_the_books(farm, job, seen.cost_usd)
        yield from self._of_renting()

    def _of_frames(self, farm: Farm, job: str, *, is_whole: bool) -> Iterator[Fault]:
        with farm.db.read() as connection:
            received = frames.numbers(connection, job, FrameStatus.RECEIVED)
        if is_whole and received != list(self.life.frames):
            yield Fault(kind=Kind.ENDED_WRONG, text=f"frames {received} are received of {list(self.life.frames)}")
        told = Counter(entry.frame for entry in self._journal(job) if entry.outcome is Outcome.FINISHED)
        if sorted(frame for frame in told if frame is not None) != received:
            yield Fault(kind=Kind.ENDED_WRONG, text=f"frames {received} are received, and nodes delivered {sorted(map(str, told))}")
        lacking = [number for number in received if not self.account.bucket.names(f"{frames_prefix(job)}{frame_name(number)}/")]
        if lacking:
            yield Fault(kind=Kind.ENDED_WRONG, text=f"frames {lacking} are received, and are not in the bucket")
        if self.is_calm:
            again = {frame: count for frame, count in told.items() if count > 1}
            again |= {number: attempt for number in received if (attempt := queries.job_frame(farm, job, number).attempt) > 1}
            if again:
                yield Fault(kind=Kind.DOUBLED, text=f"rendered more than once: {again}")

    def _journal(self, job: str) -> list[JournalEntry]:
        bucket = self.account.bucket
        return [JournalEntry.from_bytes(stored.body) for key in bucket.names(journal_prefix(job)) if (stored := bucket.get(key))]

    def _of_renting(self) -> Iterator[Fault]:
        """Everything is given back, but for the snapshot that is kept; and no more was ever rented than there was reason to."""
        kept = {id for id, each in backend_of().snapshots.items() if CONTENT_TAG in tags_of(each)} - self.known
        is_staged = self.life.mode is WorkspaceMode.SNAPSHOT
        if len(kept) != int(is_staged):
            yield Fault(kind=Kind.LEAKED if kept else Kind.ENDED_WRONG, text=f"snapshots are kept: {sorted(kept)}")
        left = everything() - self.known - kept - self._of_the_pool()
        if left:
            yield Fault(kind=Kind.LEAKED, text=", ".join(sorted(left)))
        for what, count, most in self.ledger.counts(self.life) if self.is_calm else ():
            if count > most:
                yield Fault(kind=Kind.DOUBLED, text=f"{count} {what} were rented in all, where there was reason for {most}")

    def _of_the_pool(self) -> frozenset[str]:
        """What a farm with a shared pool keeps for the next job: the empty group, and what it would launch by."""
        if not self.life.is_shared:
            return frozenset()
        return frozenset([*groups(), *(name for name in _versions(backend_of()) if "(shared-pool-" in name)])

    def of_rights(self) -> Iterator[Fault]:
        """Nothing was asked of AWS that the policy of `kiln aws policy` does not allow."""
        for text in beyond_the_policy(self.account.asked, IDENTITY):
            yield Fault(kind=Kind.ENDED_WRONG, text=f"not allowed: {text}")

    def of_what_is_left(self, job: str) -> Iterator[Fault]:
        """Nothing is left at all, when the job is deleted or its files were kept for long enough."""
        bucket = self.account.bucket
        left = [*sorted(everything() - self.known), *(f"an unfinished upload of {key}" for key in bucket.unfinished_uploads())]
        if self.life.is_deleted:
            left += [f"{id}, a fleet of a job that is deleted" for id in active_fleets(job)]
            left += [key for key in bucket.names() if job in key]
        else:
            left += bucket.names(NODES_PREFIX)
        if left:
            yield Fault(kind=Kind.LEAKED, text=f"long after the end: {', '.join(left[:10])}")


def _of_the_books(farm: Farm, job: str, cost_usd: Decimal) -> Iterator[Fault]:
    """What the farm believes to be rented, and to have been paid for."""
    with farm.db.read() as connection:
        mine = instances.instances_of(connection, job)
        open_runs = [run.instance for run in runs.runs_of(connection, job) if run.ended_at is None]
        in_doubt = [launch.request_id for launch in instances.launches_of(connection, job) if launch.granted is None]
    rented = {one.id for one in mine if one.is_rented} | set(open_runs)
    if rented:
        yield Fault(kind=Kind.ENDED_WRONG, text=f"the farm believes that {sorted(rented)} are rented still")
    if in_doubt:
        yield Fault(kind=Kind.ENDED_WRONG, text=f"launches are in doubt still: {in_doubt}")
    if mine and not cost_usd and not all(one.was_interrupted for one in mine):
        yield Fault(kind=Kind.ENDED_WRONG, text="it cost nothing, as the farm has it")
