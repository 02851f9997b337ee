"""The tables. Times are UTC, in ISO 8601; ids are strings with a prefix; JSON columns hold what is only ever read whole."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    JSON,
    Boolean,
    Column,
    Dialect,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
    text,
)


class Utc(TypeDecorator[datetime]):
    """An aware UTC datetime as fixed-width text, so that text order is time order."""

    impl = String(32)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> Any:
        if value is None:
            return None
        assert value.tzinfo is not None, "naive datetimes do not enter the store"
        return value.astimezone(UTC).isoformat(timespec="microseconds")

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:
        return datetime.fromisoformat(value) if value is not None else None


metadata = MetaData()

_JOB = "jobs.id"


def _job_column(**kwargs: Any) -> Column[Any]:
    return Column("job_id", String, ForeignKey(_JOB, ondelete="CASCADE"), **kwargs)


users = Table(
    "users",
    metadata,
    Column("id", String, primary_key=True),
    Column("name", String, nullable=False, unique=True),  # folded to lower case
    Column("password_hash", String, nullable=False),
    Column("role", String, nullable=False),  # admin | artist
    Column("session_epoch", Integer, nullable=False, default=0),  # raised to sign a user out everywhere
    Column("created_at", Utc, nullable=False),
)

tokens = Table(
    "tokens",
    metadata,
    Column("id", String, primary_key=True),
    Column("user_id", String, ForeignKey("users.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("name", String, nullable=False, default=""),
    Column("token_hash", String, nullable=False, unique=True),  # SHA-256 of the token, in hex
    Column("created_at", Utc, nullable=False),
    Column("last_used_at", Utc),
)

jobs = Table(
    "jobs",
    metadata,
    Column("id", String, primary_key=True),
    Column("name", String, nullable=False),
    Column("owner_id", String, ForeignKey("users.id", ondelete="SET NULL")),
    Column("status", String, nullable=False, index=True),
    Column("status_since", Utc, nullable=False),
    Column("reason", Text, nullable=False, default=""),  # of the last move, or what it waits for
    Column("then", String),  # RELEASING only: the status that follows
    Column("then_reason", Text, nullable=False, default=""),
    Column("main_file_id", String),  # chosen by the user or the only .blend
    Column("settings", JSON, nullable=False),  # JobSettings
    Column("version", Integer, nullable=False, default=0),  # grows with every change of the job or anything of it
    Column("frame_total", Integer, nullable=False, default=0),
    Column("order_revision", Integer, nullable=False, default=0),
    Column("order_written", Text, nullable=False, default=""),  # digest of the last order put into the bucket
    Column("journal_ms", Integer, nullable=False, default=0),  # newest journal entry taken in, by the nodes' clocks
    Column("ordered", Boolean, nullable=False, default=False),  # order-dependent: one node, in order
    Column("launch_after", Utc),  # back-off after a launch that got nothing
    Column("launch_failures", Integer, nullable=False, default=0),
    Column("spot_missed_since", Utc),  # since when spot instances have been asked for in vain
    Column("blender_version", String, nullable=False, default=""),
    Column("scout_frames", JSON, nullable=False, default=list),  # rendered first, then a person is asked; empty: all are wanted
    Column("created_at", Utc, nullable=False),
    Column("submitted_at", Utc),
    Column("began_at", Utc),  # first frame begun
    Column("ended_at", Utc),
)

job_events = Table(
    "job_events",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    _job_column(nullable=False, index=True),
    Column("at", Utc, nullable=False),
    Column("from_status", String),  # NULL: an event that is no move
    Column("to_status", String),
    Column("text", Text, nullable=False),
)

problems = Table(
    "problems",
    metadata,
    _job_column(primary_key=True),
    Column("code", String, primary_key=True),  # missing_file, unbaked, movie_format, disk_full, frame_failed …
    Column("about", String, primary_key=True, default=""),  # what it is about: a path, a frame, a node
    Column("severity", String, nullable=False),  # info | warning | error
    Column("text", Text, nullable=False),
    Column("remedy", Text, nullable=False, default=""),
    Column("since", Utc, nullable=False),
)

files = Table(
    "files",
    metadata,
    Column("id", String, primary_key=True),
    _job_column(nullable=False, index=True),
    Column("path", String, nullable=False),  # clean_path
    Column("path_folded", String, nullable=False),  # casefold: names that differ in case only are one name to some systems
    Column("bytes", Integer, nullable=False),
    Column("modified_ms", Integer),  # the client's file time: a resumed upload must be of the same file
    Column("checksum", String, nullable=False, default=""),  # crc32:<hex>, of the content as received
    Column("status", String, nullable=False),
    Column("problem", Text, nullable=False, default=""),
    Column("key", String, nullable=False),
    Column("upload_id", String),
    Column("zip_id", String),  # of what comes out of a zip: that file's id, until all of it is unpacked
    Column("part_bytes", Integer, nullable=False, default=0),
    Column("inspection", JSON),  # Inspection, of .blend files
    Column("created_at", Utc, nullable=False),
    Column("touched_at", Utc, nullable=False),
    UniqueConstraint("job_id", "path_folded"),
    Index("files_by_status", "status", "checksum"),  # what is still to be checked, of all jobs, is looked for each second
)

frames = Table(
    "frames",
    metadata,
    _job_column(primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("status", String, nullable=False),
    Column("attempt", Integer, nullable=False, default=1),  # the current or last one
    Column("node", String),  # that renders or rendered it
    Column("avoid", JSON, nullable=False, default=list),  # nodes that failed it
    Column("persistent_data", Boolean, nullable=False, default=True),  # False: the next attempt goes without
    Column("render_s", Float),
    Column("peak_memory_bytes", Integer),
    Column("outputs", JSON, nullable=False, default=list),  # [[name, bytes, crc32], …]
    Column("has_preview", Boolean, nullable=False, default=False),
    Column("logged_attempt", Integer, nullable=False, default=0),  # newest attempt whose log is in the bucket; 0: none
    Column("reason", Text, nullable=False, default=""),  # of the last failure
    Column("failures", Integer, nullable=False, default=0),  # attempts that count, since the job was last submitted
    Column(
        "frees_claim", Boolean, nullable=False, default=False
    ),  # True: the claim in the bucket may be of an attempt that ended, and must go then
    Column("began_at", Utc),
    Column("received_at", Utc),  # by our clock
    Column("damage", Text, nullable=False, default=""),  # of a received one: what is wrong with its outputs in the store, as far as known
    Index("frames_by_status", "job_id", "status"),
    Index("frames_by_attempt", "job_id", "attempt"),
    Index("frames_by_time", "job_id", "received_at"),
    Index("frames_to_free", "job_id", sqlite_where=text("frees_claim IS 1")),
    Index("frames_damaged", "job_id", "number", sqlite_where=text("damage != ''")),
)

attempts = Table(
    "attempts",
    metadata,
    _job_column(primary_key=True),
    Column("entry", String, primary_key=True),  # the journal entry's name: taking one in twice changes nothing
    Column("frame", Integer),
    Column("attempt", Integer, nullable=False),
    Column("node", String, nullable=False),
    Column("nonce", String, nullable=False, default=""),  # the claim's
    Column("outcome", String, nullable=False),
    Column("failure", String),
    Column("message", Text, nullable=False, default=""),
    Column("render_s", Float, nullable=False, default=0.0),
    Column("at", Utc, nullable=False),  # by the node's clock
    Column("taken_in_at", Utc, nullable=False),  # by ours
    Index("attempts_by_frame", "job_id", "frame"),
    Index("attempts_by_node", "job_id", "node"),
    Index("attempts_by_nonce", "job_id", "nonce"),
)

launches = Table(
    "launches",
    metadata,
    Column("request_id", String, primary_key=True),  # written before the cloud is asked
    _job_column(nullable=False, index=True),
    Column("count", Integer, nullable=False),
    Column("market", String, nullable=False),
    Column("workspace", String, nullable=False, default=""),  # what is asked again with the id must be the same
    Column("granted", Integer),  # NULL: not known yet; asking again with the id is safe
    Column("at", Utc, nullable=False),  # of the last asking
    Column("problem", Text, nullable=False, default=""),
)

instances = Table(
    "instances",
    metadata,
    Column("id", String, primary_key=True),
    _job_column(nullable=True, index=True),  # NULL: of the shared pool
    Column("works_for", String, nullable=False, default="", index=True),  # of the shared pool: the job that its node is at
    Column("request_id", String, nullable=False),
    Column("node", String, nullable=False, index=True),
    Column("status", String, nullable=False),
    Column("market", String, nullable=False),
    Column("instance_type", String, nullable=False, default=""),
    Column("price_usd_per_h", String, nullable=False, default="0"),  # Decimal
    Column("launched_at", Utc, nullable=False),
    Column("ended_at", Utc),
    Column("note", Text, nullable=False, default=""),
    Column("beat", Integer),  # the last heartbeat seen
    Column("beat_etag", String, nullable=False, default=""),
    Column("beat_at", Utc),  # when we saw it change, by our clock
    Column("heartbeat", JSON),  # the Heartbeat itself
    Column("interruption_at", Utc),  # the cloud takes it back then, by its notice
    Column("was_interrupted", Boolean, nullable=False, default=False),  # True: the cloud took it back
    Column("given_back", Boolean, nullable=False, default=False),  # True: we ended it because it was needed no more
    Column("claims_freed", Boolean, nullable=False, default=False),  # True: its node is gone and the frames that it held are queued again
)

#: What is paid for of instances: each from a start to its stop or end.
runs = Table(
    "runs",
    metadata,
    Column("instance_id", String, primary_key=True),
    Column("began_at", Utc, primary_key=True),
    _job_column(nullable=True, index=True),  # NULL: of the shared pool, between jobs
    Column("is_part", Boolean, nullable=False, default=False),  # True: of the shared pool: its time at one job, or between jobs
    Column("price_usd_per_h", String, nullable=False),  # Decimal; at its start
    Column("ready_at", Utc),  # first word of its node
    Column("ended_at", Utc, index=True),  # NULL: it runs
    Column("was_interrupted", Boolean, nullable=False, default=False),
)

#: What is paid for by its size: volumes, snapshots. Some outlive their job, which they bear no foreign key to for that.
holdings = Table(
    "holdings",
    metadata,
    Column("id", String, primary_key=True),
    Column("job_id", String, nullable=False, index=True),  # empty: the farm's own
    Column("kind", String, nullable=False),  # volume | snapshot | instance
    Column("gib", String, nullable=False),  # Decimal
    Column("usd_per_month", String, nullable=False),  # Decimal
    Column("began_at", Utc, nullable=False),
    Column("seen_at", Utc, nullable=False),
    Column("ended_at", Utc, index=True),  # NULL: it is there
)

#: What jobs, deleted ones too, cost in each calendar month (UTC), as it was counted last.
ledger = Table(
    "ledger",
    metadata,
    Column("month", String, primary_key=True),  # 2026-01
    Column("job_id", String, primary_key=True),  # no foreign key: a deleted job's money is spent all the same
    Column("name", String, nullable=False),
    Column("instances_usd", String, nullable=False, default="0"),  # Decimals
    Column("preparing_usd", String, nullable=False, default="0"),
    Column("volumes_usd", String, nullable=False, default="0"),
    Column("snapshots_usd", String, nullable=False, default="0"),
    Column("storage_usd", String, nullable=False, default="0"),
    Index("ledger_by_job", "job_id"),
)

#: What came of jobs, deleted ones too, on each kind of instance: statistics and estimates are made of these.
paces = Table(
    "paces",
    metadata,
    Column("job_id", String, primary_key=True),  # no foreign key
    Column("instance_type", String, primary_key=True),
    Column("market", String, primary_key=True),
    Column("file", String, nullable=False),  # checksum and size of the main .blend
    Column("name", String, nullable=False),  # its name, folded
    Column("scene", String, nullable=False),
    Column("engine", String, nullable=False),
    Column("pixels", Integer, nullable=False),
    Column("samples", Integer),
    Column("instances", Integer, nullable=False),
    Column("frames", Integer, nullable=False),
    Column("render_s", Float, nullable=False),
    Column("paid_s", Float, nullable=False),
    Column("boots", Integer, nullable=False),
    Column("boot_s", Float, nullable=False),
    Column("usd", String, nullable=False),  # Decimal
    Column("at", Utc, nullable=False),
)

downloads = Table(
    "downloads",
    metadata,
    Column("id", String, primary_key=True),
    _job_column(nullable=False, index=True),
    Column("status", String, nullable=False),
    Column("reason", Text, nullable=False, default=""),
    Column("name", String, nullable=False),  # of the zip, as the browser saves it
    Column("frames", Integer, nullable=False, default=0),
    Column("done_bytes", Integer, nullable=False, default=0),
    Column("total_bytes", Integer, nullable=False, default=0),
    Column("created_at", Utc, nullable=False),
    Column("ready_at", Utc),
)

#: What is in a download that is ready. A table of its own: it may have megabytes, and downloads are read often.
download_indexes = Table(
    "download_indexes",
    metadata,
    Column("download_id", String, ForeignKey("downloads.id", ondelete="CASCADE"), primary_key=True),
    Column("body", LargeBinary, nullable=False),  # JSON, compressed
)

#: Deleted jobs that still have something in the bucket or on the disk; a row goes when all of it is gone.
deletions = Table(
    "deletions",
    metadata,
    Column("job_id", String, primary_key=True),  # no foreign key: the job's row is gone already
    Column("uploads", JSON, nullable=False, default=list),  # [[key, upload id], …] to abort
    Column("at", Utc, nullable=False),
)

#: What is true of the farm as a whole, by name.
farm_facts = Table(
    "farm_facts",
    metadata,
    # removed_versions: of the jobs that are gone | tick: the last good one | look: the last one | books: when costs were counted last
    Column("name", String, primary_key=True),
    Column("number", Integer, nullable=False, default=0),
    Column("at", Utc),
)
