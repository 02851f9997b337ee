"""What goes in and out of the HTTP API, as pydantic models: the OpenAPI document, the checks and the client are made from these."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from supervisor.domain.download import DownloadStatus
from supervisor.domain.file import FileStatus
from supervisor.domain.frame import FrameStatus
from supervisor.domain.instance import InstanceStatus, Market
from supervisor.domain.job import JobStatus
from supervisor.domain.scene import DependencyKind, FoundAs
from supervisor.domain.settings import HIGHEST_PRIORITY, USUAL_PRIORITY
from supervisor.domain.workspace import WorkspaceMode

MAX_PAGE = 1000
MAX_PARTS = 10_000  # of one upload: S3's own limit

Name = Annotated[str, StringConstraints(max_length=200)]
Text = Annotated[str, StringConstraints(max_length=4096)]
Series = Annotated[str, StringConstraints(pattern=r"^[0-9]{1,2}\.[0-9]{1,2}$")]
Usd = Annotated[float, Field(gt=0, le=1e6)]
Identifier = Annotated[str, StringConstraints(min_length=1, max_length=1024)]

Action = Literal["submit", "pause", "resume", "cancel", "retry", "render_again", "delete"]


class Body(BaseModel):
    """A request's JSON: unknown fields and values of another type are refused, never guessed."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class Query(BaseModel):
    """A request's query string: a misspelt parameter is refused, never passed over."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Answer(BaseModel):
    """An answer's JSON. A reader ignores fields that it does not know, so that a newer farm may send more."""

    model_config = ConfigDict(frozen=True, extra="ignore", json_schema_serialization_defaults_required=True)


# What clients send.


class NewJob(Body):
    name: Name = Field(default="", description="Empty: named after the main .blend.")


class OutputChange(Body):
    name: Name | None = Field(default=None, description="What precedes the frame number in file names; null: as the file says.")
    format: Name | None = Field(default=None, description="Blender's identifier, such as PNG or OPEN_EXR; null: as the file says.")
    resolution_pct: int | None = Field(default=None, ge=1, le=1000, description="Percent; null: as the file says.")
    samples: int | None = Field(default=None, ge=1, le=65536, description="null: as the file says.")


class SettingsChange(Body):
    """How a job is to be rendered. A field left out stays as it is; null sets it back to the default.

    Where all jobs share a pool of instances (`[pool] mode = "shared"`), instances, market, max_price_usd_per_h, instance_types and
    workspace_mode are kept and have no effect: the pool's own hold.
    """

    frames: Text | None = Field(default=None, description="Such as 1-100, 1-100x5, 1,5,10-20 or -5-5; null: the scene's own.")
    instances: int = Field(default=1, ge=1, description="How many instances render at once.")
    market: Literal["on_demand", "spot"] = "on_demand"
    max_price_usd_per_h: float | None = Field(default=None, gt=0, le=1e6, description="Spot only; null: up to the on-demand price.")
    instance_types: Annotated[list[Name], Field(max_length=100)] = Field(default=[], description="Empty: the farm's choice.")
    workspace_mode: Literal["auto", "s3", "snapshot"] | None = Field(
        default=None,
        description="How the files come to rented instances: s3, each fetches them; snapshot, each gets a copy of a volume that was filled "
        "once; auto, by their size; null: as the farm is configured.",
    )
    scene: Name | None = Field(default=None, description="null: the scene that was current when the file was saved.")
    camera: Name | None = Field(default=None, description="null: the scene's own.")
    blender: Series | None = Field(
        default=None,
        description="Series of Blender such as 4.5, one of the farm's; null: the one that saved the file, else the next newer.",
    )
    output: OutputChange = OutputChange()
    persistent_data: bool | None = Field(default=None, description="Keep render data between frames; null: the farm's default.")
    max_cost_usd: Usd | None = Field(default=None, description="The job's cap: it pauses there; null: the farm's own.")
    priority: int = Field(
        default=USUAL_PRIORITY,
        ge=0,
        le=HIGHEST_PRIORITY,
        description="Of jobs that wait for instances, the higher goes first; among equals, the earlier.",
    )
    scout: bool = Field(default=False, description="Render the first, the middle and the last frame, then wait for a yes to the rest.")


class CapChange(Body):
    max_cost_usd: Usd | None = Field(description="null: the farm's own. Beyond that, an administrator may go.")


class FramesAgain(Body):
    frames: Text | None = Field(default=None, description="Such as 12 or 3,7-9; null: those that are known to be damaged.")


class JobChange(Body):
    """Fields left out stay as they are; they are applied in the order main_file, settings, priority, name."""

    name: Name | None = None
    main_file: Identifier | None = Field(default=None, description="Path or id of the .blend to render, of those in the job.")
    settings: SettingsChange | None = None
    priority: int | None = Field(
        default=None, ge=0, le=HIGHEST_PRIORITY, description="Of a job that has not ended; what renders already goes on."
    )


class NewFile(Body):
    path: Text = Field(description="Relative to the job, with forward slashes.")
    bytes: int = Field(ge=0, le=2**53, description="Size of the whole file.")
    modified_ms: int | None = Field(
        default=None, ge=-(2**53), le=2**53, description="The file's time, in Unix milliseconds: an upload goes on only with the same file."
    )


class SentPart(Body):
    number: int = Field(ge=1, le=MAX_PARTS)
    etag: Annotated[str, StringConstraints(min_length=1, max_length=256)] = Field(description="As the PUT answered it, quotes or not.")


class FinishedUpload(Body):
    parts: Annotated[list[SentPart], Field(max_length=MAX_PARTS)]


class JobsQuery(Query):
    after: Identifier | None = Field(default=None, description="Id of the last job of the page before.")
    limit: int = Field(default=100, ge=1, le=MAX_PAGE)


class FilesQuery(Query):
    after: Text = Field(default="", description="Path of the last file of the page before.")
    limit: int = Field(default=MAX_PAGE, ge=1, le=MAX_PAGE)


class FramesQuery(Query):
    after: int | None = Field(default=None, ge=-(2**31), le=2**31, description="Number of the last frame of the page before.")
    limit: int = Field(default=MAX_PAGE, ge=1, le=MAX_PAGE)


class LogQuery(Query):
    attempt: int | None = Field(default=None, ge=1, le=1000, description="Which attempt; left out: the newest.")


class UploadQuery(Query):
    through: Literal["app"] | None = Field(default=None, description="app: parts go through the app although the store seems reachable.")


# What the farm answers.


class Frames(Answer):
    total: int
    received: int
    rendering: int
    failed: int
    queued: int


class Output(Answer):
    name: str
    bytes: int
    crc32: int
    url: str = Field(description="Needs the same Authorization; answers Range.")


class Frame(Answer):
    number: int
    status: FrameStatus
    attempt: int
    instance: str | None
    node: str | None
    render_s: float | None
    outputs: list[Output]
    preview_url: str | None
    log_url: str | None
    reason: str = Field(description="Why its last failed attempt failed; empty: none did.")
    damage: str = Field(default="", description="What is wrong with its outputs in the store, as far as known; empty: nothing.")
    progress_pct: float | None
    elapsed_s: float | None


class MarkerCamera(Answer):
    frame: int
    camera: str


class Scene(Answer):
    """A scene as the inspection found it in the .blend."""

    name: str
    camera: str | None
    cameras: list[str]
    marker_cameras: list[MarkerCamera]
    view_layers: list[str]
    frame_start: int
    frame_end: int
    frame_step: int
    fps: float
    width_px: int
    height_px: int
    resolution_pct: int
    engine: str
    samples: int | None
    file_format: str
    output_path: str
    is_movie: bool = Field(description="The file names a movie format: PNG frames are rendered instead.")


class Dependency(Answer):
    """An external file that a .blend of the job names."""

    path: str = Field(description="As saved in the .blend.")
    kind: DependencyKind
    used_by: str
    in_file: str = Field(description="Path of the .blend that names it.")
    found: FoundAs
    at: str = Field(description="Where it is in the job; empty where it is not.")


class Inspection(Answer):
    """What a .blend says of itself."""

    blender_version: str
    is_compressed: bool
    scenes: list[Scene]
    current_scene: str | None
    warnings: list[str]


class File(Answer):
    id: str
    path: str
    bytes: int
    status: FileStatus
    problem: str = Field(description="Of a bad file: what is wrong and what to do.")
    is_main: bool
    inspection: Inspection | None = Field(description="Of a .blend that is ready.")


class ReceivedPart(Answer):
    number: int
    etag: str
    bytes: int


class PartUrl(Answer):
    number: int
    url: str


class UploadPlan(Answer):
    id: str = Field(description="Of the file.")
    part_bytes: int = Field(description="Size of every part but the last.")
    parts: list[PartUrl] = Field(description="PUT each missing part to its url and keep the ETag. Urls work for six hours.")
    received: list[ReceivedPart] = Field(description="Parts that need not be sent again.")


class OutputSettings(Answer):
    name: str | None
    format: str | None
    resolution_pct: int | None
    samples: int | None


class Settings(Answer):
    frames: str | None
    instances: int
    market: Market
    max_price_usd_per_h: float | None
    instance_types: list[str]
    workspace_mode: WorkspaceMode | None
    scene: str | None
    camera: str | None
    blender: str | None = None
    output: OutputSettings
    persistent_data: bool | None
    max_cost_usd: float | None = None
    priority: int = USUAL_PRIORITY
    scout: bool = False


class Instance(Answer):
    id: str
    node: str
    status: InstanceStatus
    market: Market
    instance_type: str
    price_usd_per_h: float
    launched_at: datetime
    ended_at: datetime | None
    taken_back_at: datetime | None = Field(description="When the cloud took it back, or will by its notice.")
    doing: str
    frame: int | None
    progress_pct: float | None
    finished: int = Field(description="Frames that it delivered.")
    device: str
    note: str
    problem: str


class JobProblem(Answer):
    """Something that a person should know about a job."""

    code: str
    about: str
    severity: Literal["info", "warning", "error"]
    text: str
    remedy: str
    since: datetime


class JobFiles(Answer):
    count: int
    bytes: int
    uploading: int


class JobSummary(Answer):
    id: str
    name: str
    owner: str
    status: JobStatus
    reason: str
    status_since: datetime
    created_at: datetime
    submitted_at: datetime | None
    ended_at: datetime | None
    frames: Frames
    instances_running: int
    eta_s: float | None
    cost: float = Field(default=0.0, description="USD so far.")
    version: int = Field(description="Grows with every change of the job.")
    url: str = Field(description="The job's page.")


class Costs(Answer):
    """What a job costs so far, in USD, by what it is spent on."""

    rendering_usd: float = Field(default=0.0, description="Instances, while they rendered frames that were received.")
    booting_usd: float = Field(default=0.0, description="Instances, until their node spoke first.")
    idle_usd: float = Field(default=0.0, description="Instances, the rest: opening the file, waiting, attempts that came to nothing.")
    preparing_usd: float = Field(default=0.0, description="Instances that filled its workspace.")
    volumes_usd: float = Field(default=0.0, description="Root and workspace volumes.")
    snapshots_usd: float = 0.0
    storage_usd: float = Field(default=0.0, description="Its files and frames in the bucket.")


class Scouting(Answer):
    """The frames of a job that are rendered before a person is asked for the rest."""

    frames: list[int]
    received: list[int]
    has_ended: bool = Field(description="true: the rest waits for a yes; `resume` is that.")


class Job(JobSummary):
    main_file: str | None = Field(description="Path of the .blend that is rendered.")
    main_candidates: list[str] = Field(description="Paths of the .blend files that could be it: with two or more a person picks.")
    frames_spec: str
    scene: Scene | None
    settings: Settings
    dependencies: list[Dependency]
    files: JobFiles
    instances: list[Instance]
    costs: Costs = Costs()
    cap_usd: float | None = Field(default=None, description="At so much it pauses; null: never.")
    scouting: Scouting | None = Field(default=None, description="null: it is not scouted, or somebody said yes to the rest.")
    problems: list[JobProblem]
    blockers: list[str] = Field(description="Of a draft: why it can't be submitted yet.")
    blender_version: str = Field(description="That renders it, or would render a draft; empty: not known yet.")
    blender_words: str = Field(default="", description="A sentence where that is of another series than the one that saved the file.")
    seconds_per_frame: float | None
    actions: list[Action] = Field(description="What its status allows, to whoever asks.")


class Download(Answer):
    id: str
    job: str
    status: DownloadStatus
    reason: str = Field(description="Why it failed; what packing waits for; of a ready one, what broke the last transfer off.")
    name: str
    frames: int
    done_bytes: int = Field(description="Of the frames, those found in the store so far.")
    total_bytes: int = Field(description="Of the frames; of a ready one, the zip's own size.")
    created_at: datetime
    ready_at: datetime | None
    url: str | None = Field(description="Of a ready one: signed, needs no login, answers Range.")


class FieldError(Answer):
    field: str
    detail: str


class Problem(Answer):
    """RFC 9457 problem details."""

    type: str
    title: str
    status: int
    detail: str
    errors: list[FieldError]
