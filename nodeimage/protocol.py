"""How farm and nodes talk: the bucket's layout and the messages in it, described once, for both sides.

Both sides import this module and neither writes a key or a message by hand. `nodeimage/README.md` says the same in prose,
with what a node does for each answer of the store. Standard library only: the agent carries it to machines that have nothing else.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any, Self

#: Raised by one when an old node could misread a new message. The farm serves every version that still has a live node.
VERSION = 1

PROJECTS_PREFIX = "projects/"
AGENT_PREFIX = "agent/"
INBOX_PREFIX = "inbox/"
RECEIVED_PREFIX = "received/"  #: may be a bucket of its own
NODES_PREFIX = "received/nodes/"
POOL_KEY = "received/pool.json"  #: what the nodes of the shared pool work on


class Unreadable(ValueError):
    """A message is not JSON, lacks a key, or speaks a version that this side does not know."""


def bucket_of(key: str, bucket: str, received_bucket: str = "") -> str:
    """The bucket that a key (or a prefix) belongs into: what nodes deliver may have one of its own."""
    return received_bucket or bucket if key.startswith(RECEIVED_PREFIX) else bucket


def frame_name(frame: int) -> str:
    """Name a frame in a key: eight characters whatever the number, so that a flat listing keeps its shape (`-0000005`, `00000012`)."""
    return f"{frame:08d}"


def project_key(job: str, path: str) -> str:
    return f"{PROJECTS_PREFIX}{job}/{path}"


def order_key(job: str) -> str:
    return f"received/{job}/order.json"


def files_key(job: str) -> str:
    """Where the list of the job's files is, for instances that fetch them: beside the files, as a studio may have the store delete what was
    received long ago, and a job may be paused for longer.
    """
    return f"{PROJECTS_PREFIX}{job}.files.json"


def staging_key(job: str) -> str:
    """Where the instance that fills the job's volume says how far it is."""
    return f"received/{job}/staging.json"


def claims_prefix(job: str) -> str:
    return f"received/{job}/claims/"


def claim_key(job: str, frame: int) -> str:
    return claims_prefix(job) + frame_name(frame)


def frames_prefix(job: str) -> str:
    return f"received/{job}/frames/"


def output_key(job: str, frame: int, name: str) -> str:
    return f"{frames_prefix(job)}{frame_name(frame)}/{name}"


def split_output_key(key: str) -> tuple[int, str]:
    """Say which frame an output key belongs to, with the output's name (which may contain `/`: File Output nodes have folders)."""
    _, _, rest = key.partition("/frames/")
    frame, _, name = rest.partition("/")
    return int(frame), name


def preview_key(job: str, frame: int) -> str:
    return f"received/{job}/previews/{frame_name(frame)}.webp"


def log_key(job: str, frame: int, attempt: int) -> str:
    return f"received/{job}/logs/{frame_name(frame)}-{attempt}.txt"


def journal_prefix(job: str) -> str:
    return f"received/{job}/journal/"


def journal_key(job: str, *, at_ms: int, node: str, n: int) -> str:
    """Name a journal entry so that a listing is in time order (by the node's clock: readers must allow for skew)."""
    return f"{journal_prefix(job)}{at_ms:013d}-{node}-{n:06d}.json"


def journal_cursor(job: str, *, at_ms: int) -> str:
    """The key just before every entry written at or after `at_ms`, to list the journal from there."""
    return f"{journal_prefix(job)}{max(at_ms, 0):013d}"


def journal_at_ms(key: str) -> int:
    return int(key.rpartition("/")[2][:13])


def status_key(node: str) -> str:
    return f"{NODES_PREFIX}{node}/status.json"


class Action(StrEnum):
    """What the farm wants of a job's nodes."""

    RENDER = "render"  #: claim frames, render them, deliver them
    DRAIN = "drain"  #: finish and deliver the current frame, take no more, exit
    STOP = "stop"  #: end Blender at once, give the claims back as interrupted, exit


class Outcome(StrEnum):
    """What a journal entry tells."""

    OPENED = "opened"  #: Blender has the .blend open; `findings` says what it noticed. No frame.
    FINISHED = "finished"  #: the frame's outputs are in the bucket, checked; written last
    FAILED = "failed"  #: the attempt failed and counts; `failure` says how
    INTERRUPTED = "interrupted"  #: the attempt was given up through no fault of the frame's; it does not count


class Failure(StrEnum):
    """Why an attempt failed."""

    OPEN = "open"  #: Blender could not open the .blend
    ERROR = "error"  #: Blender reported an error
    CRASH = "crash"  #: the Blender process died
    HANG = "hang"  #: no progress for frame_timeout_s
    OUT_OF_MEMORY = "out_of_memory"  #: Blender ran out of memory or was killed for it
    BAD_OUTPUT = "bad_output"  #: no output, or one that is empty, does not open or has the wrong size
    DEVICE = "device"  #: the node must render on its GPU, and Blender can't use it or did not
    DELIVERY = "delivery"  #: rendered, but could not be delivered (disk full on the node, store refuses)


class NodeState(StrEnum):
    """What a node is doing, as its heartbeat says."""

    STARTING = "starting"  #: the agent runs; Blender does not yet, and the job's files may still be on their way (`phase` says how far)
    OPENING = "opening"  #: Blender is opening the .blend
    RENDERING = "rendering"  #: `frame` is being rendered
    DELIVERING = "delivering"  #: nothing renders; outputs are still being uploaded
    IDLE = "idle"  #: no frame is left to claim
    GONE = "gone"  #: the agent has ended in good order: its last heartbeat


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """JSON with a version. Unknown keys are ignored, so that a newer writer may add some without raising VERSION."""

    version: int = VERSION

    def to_bytes(self) -> bytes:
        return json.dumps(asdict(self), separators=(",", ":"), sort_keys=True).encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Read the message.

        Errors:  Unreadable - not this message, or a version newer than ours
        """
        try:
            raw = json.loads(data)
        except ValueError as error:
            raise Unreadable(f"not a {cls.__name__}: {error!r}") from error
        return cls.from_json(raw)

    @classmethod
    def from_json(cls, raw: Any) -> Self:
        """Read the message from what its JSON stands for.

        Errors:  Unreadable - as from_bytes
        """
        try:
            if raw["version"] > VERSION:
                raise Unreadable(f"{cls.__name__} of version {raw['version']}; this side speaks {VERSION}")
            return cls._from_dict(raw)
        except Unreadable:
            raise
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise Unreadable(f"not a {cls.__name__}: {error!r}") from error

    @classmethod
    def _from_dict(cls, raw: Mapping[str, Any]) -> Self:
        return cls(**known_fields(cls, raw))


def known_fields(cls: type, raw: Mapping[str, Any]) -> dict[str, Any]:
    """Those keys of a message that this side knows."""
    return {name: raw[name] for name in cls.__dataclass_fields__ if name in raw}  # type: ignore[attr-defined]


@dataclass(frozen=True, slots=True, kw_only=True)
class RenderSettings:
    """How Blender is to render a job's frames."""

    main_file: str  #: the main .blend, relative to the workspace
    scene: str | None = None  #: None: the scene that was current when the file was saved
    camera: str | None = None  #: None: the scene's own, marker cameras included
    view_layers: tuple[str, ...] = ()  #: empty: those switched on in the file
    output_name: str | None = None  #: what precedes the frame number; None: the file's own output name
    file_format: str | None = None  #: Blender's name (`PNG`, `OPEN_EXR`, …); None: the file's own, PNG for a movie
    resolution_pct: int | None = None  #: None: the file's own
    samples: int | None = None  #: None: the file's own
    persistent_data: bool = True  #: keep render data between frames (Blender's Persistent Data)
    frame_timeout_s: float = 3600.0  #: a frame without progress for so long is hung
    memory_limit_bytes: int | None = None  #: address space of the Blender process; None: unlimited
    preview_width_px: int = 480


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """The frames that one node is handed to begin with, in the order in which it takes them."""

    node: str | None  #: None: not handed to anybody yet; nodes without a task take from these first
    frames: tuple[tuple[int, int, int], ...]  #: runs of (first, last, step), last inclusive, step >= 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Requeued:
    """What the next attempt at a frame must know."""

    attempt: int  #: the number that attempt bears; the first one is 1
    avoid: tuple[str, ...] = ()  #: nodes that failed it: they leave it to others
    persistent_data: bool = True  #: False: render it in a fresh process without persistent data


@dataclass(frozen=True, slots=True, kw_only=True)
class Order(Message):
    """The farm's standing order to the nodes of one job: `received/<job>/order.json`. Only the supervisor writes it."""

    job: str
    revision: int  #: grows with each order written
    action: Action
    settings: RenderSettings
    tasks: tuple[Task, ...]  #: together: every frame that is not received, failed for good, or skipped
    requeued: Mapping[int, Requeued] = field(default_factory=dict)  #: frame -> what differs from a first attempt
    ordered: bool = False  #: True: the scene depends on the frames before: only tasks[0].node renders, in order, evaluating every frame

    @classmethod
    def _from_dict(cls, raw: Mapping[str, Any]) -> Self:
        values = known_fields(cls, raw)
        settings = known_fields(RenderSettings, values["settings"])
        settings["view_layers"] = tuple(settings.get("view_layers", ()))
        values["settings"] = RenderSettings(**settings)
        values["action"] = Action(values["action"])
        values["tasks"] = tuple(
            Task(node=task["node"], frames=tuple((first, last, step) for first, last, step in task["frames"])) for task in values["tasks"]
        )
        values["requeued"] = {
            int(frame): Requeued(**{**known_fields(Requeued, entry), "avoid": tuple(entry.get("avoid", ()))})
            for frame, entry in values.get("requeued", {}).items()
        }
        return cls(**values)


def runs_of(frames: Iterable[int]) -> tuple[tuple[int, int, int], ...]:
    """Shorten frames to runs (first, last, step) that give them back in the same order. Descending neighbours become runs of one."""
    runs: list[tuple[int, int, int]] = []
    for frame in frames:
        if runs:
            first, last, step = runs[-1]
            if first == last and frame > last:
                runs[-1] = (first, frame, frame - first)
                continue
            if first != last and frame == last + step:
                runs[-1] = (first, frame, step)
                continue
        runs.append((frame, frame, 1))
    return tuple(runs)


def frames_in(runs: Iterable[tuple[int, int, int]]) -> list[int]:
    """List the frames of runs, in their order."""
    return [frame for first, last, step in runs for frame in range(first, last + 1, step)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim(Message):
    """A node's word that it renders a frame: put with `If-None-Match: *`, so exactly one node wins.

    A reply lost on the way makes the retry see 412 for one's own claim: read it back and compare the nonce.
    """

    node: str
    frame: int
    attempt: int
    nonce: str
    at_ms: int  #: UTC, the node's clock


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """One file of a frame. `name` may contain `/`."""

    name: str
    bytes: int
    crc32: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Something Blender noticed about the file, for a person to read. The farm acts on `unbaked` only."""

    #: missing_file, unbaked, scripts_blocked, freestyle_script, movie_format, linked_id, gpu_absent, software_gl, outputs_redirected …
    code: str
    text: str  #: one sentence, with the name of what it is about


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalEntry(Message):
    """What happened to a frame on a node, or (`opened`) what Blender found in the file. Written last, never changed."""

    outcome: Outcome
    node: str
    at_ms: int  #: UTC, the node's clock
    frame: int | None = None
    attempt: int = 1
    nonce: str = ""  #: the claim's
    outputs: tuple[Output, ...] = ()  #: all files of the frame
    has_preview: bool = False
    render_s: float = 0.0  #: wall time inside Blender, frame change and saving included
    open_s: float = 0.0  #: `opened`: start of the process to the file being open
    peak_memory_bytes: int = 0  #: of the Blender process so far
    failure: Failure | None = None
    message: str = ""  #: what went wrong, or why interrupted, in a sentence
    blender_version: str = ""
    device: str = ""  #: what renders: CPU, or the GPU's name
    findings: tuple[Finding, ...] = ()
    persistent_data: bool = True  #: how this attempt was rendered

    @classmethod
    def _from_dict(cls, raw: Mapping[str, Any]) -> Self:
        values = known_fields(cls, raw)
        values["outcome"] = Outcome(values["outcome"])
        values["failure"] = Failure(values["failure"]) if values.get("failure") else None
        values["outputs"] = tuple(Output(**known_fields(Output, entry)) for entry in values.get("outputs", ()))
        values["findings"] = tuple(Finding(**known_fields(Finding, entry)) for entry in values.get("findings", ()))
        return cls(**values)


@dataclass(frozen=True, slots=True, kw_only=True)
class Heartbeat(Message):
    """A node's status object, rewritten every `heartbeat_s` and at every change of state."""

    node: str
    job: str
    beat: int  #: grows with each one
    at_ms: int  #: UTC, the node's clock
    state: NodeState
    frame: int | None = None
    attempt: int = 1
    elapsed_s: float = 0.0  #: since the frame began
    phase: str = ""  #: what Blender says it does, shortened
    sample: int | None = None
    samples: int | None = None
    uploading: tuple[int, ...] = ()  #: frames rendered and not delivered yet
    finished: int = 0  #: frames this node has delivered
    log_tail: tuple[str, ...] = ()  #: last lines of Blender's log, at most 20
    agent_version: str = ""
    blender_version: str = ""
    device: str = ""
    problem: str = ""  #: what keeps the node from working, in a sentence
    interruption_at_ms: int = 0  #: UTC; above 0: the cloud takes the instance back then, and no more frames are taken

    @classmethod
    def _from_dict(cls, raw: Mapping[str, Any]) -> Self:
        values = known_fields(cls, raw)
        values["state"] = NodeState(values["state"])
        for name in ("uploading", "log_tail"):
            values[name] = tuple(values.get(name, ()))
        return cls(**values)


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeConfig:
    """What an agent is told at its start, through the environment. Names and ids only, plus the store's keys on this machine.

    Each field is read from `KILN_NODE_<FIELD>`.
    """

    node: str
    job: str
    bucket: str
    endpoint: str = ""  #: empty: Amazon S3
    region: str = "us-east-1"
    received_bucket: str = ""  #: bucket of `received/`; empty: the same one
    workspace: str = ""  #: folder that holds the job's files
    home: str = ""  #: the agent's own folder: outbox, Blender's output, logs
    blender: str = ""  #: command line of Blender (`blender`) or of a Python that has bpy, split as a shell splits words
    blender_kind: str = "blender"  #: `blender` or `bpy`
    threads: int = 0  #: CPU threads for Blender; 0: all
    device: str = (
        ""  #: `gpu`: what the CPU rendered is a failure; `cpu`: whatever the file asks for; empty: as the file asks, if it can be had
    )
    heartbeat_s: float = 2.0
    poll_s: float = 1.0  #: how often an idle node looks at the order
    idle_s: float = 120.0  #: exits after so long with nothing to claim
    unreachable_s: float = 900.0  #: exits after so long without an answer from the store
    max_life_s: float = 86400.0

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> Self:
        """Read `KILN_NODE_*`.

        Errors:  Unreadable - a name is missing or a number is none
        """
        values: dict[str, Any] = {}
        for name, spec in cls.__dataclass_fields__.items():
            text = env.get(f"KILN_NODE_{name.upper()}")
            if text is None:
                continue
            kind = {"float": float, "int": int}.get(str(spec.type), str)
            try:
                values[name] = kind(text)
            except ValueError as error:
                raise Unreadable(f"KILN_NODE_{name.upper()}={text!r} is not a number") from error
        try:
            return cls(**values)
        except TypeError as error:
            raise Unreadable(f"the node's environment is incomplete: {error}") from error

    def to_env(self) -> dict[str, str]:
        return {f"KILN_NODE_{name.upper()}": str(value) for name, value in asdict(self).items()}
