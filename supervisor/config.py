"""Read the farm's configuration: defaults, then `config.toml`, then the environment. Nobody else reads either."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

ENV_PREFIX = "KILN_"


class BadConfig(Exception):
    """The configuration can't be used; the message names each key and what is wrong with it."""


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ServerConfig(_Section):
    host: str = "127.0.0.1"
    port: int = Field(default=8000, ge=0, le=65535)
    threads: int = Field(default=32, ge=4, le=256)
    stalled_s: float = Field(default=60.0, ge=1)
    public_url: str = ""
    trusted_proxies: int = Field(default=0, ge=0)
    secure_cookies: bool = False


class LogConfig(_Section):
    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["text", "json"] = "text"


class CloudConfig(_Section):
    provider: Literal["local", "aws"] = "local"


class StoreConfig(_Section):
    endpoint: str = ""
    public_endpoint: str = ""
    bucket: str = "kiln"
    region: str = "us-east-1"
    min_free_gib: float = Field(default=2.0, ge=0)


class AwsConfig(_Section):
    region: str = "us-east-1"
    profile: str = ""
    farm: str = ""
    projects_bucket: str = ""
    received_bucket: str = ""
    image: str = ""
    instance_types: str = "c7i.4xlarge, c7a.4xlarge, c6i.4xlarge, m7i.4xlarge"
    subnets: str = ""
    root_volume_gib: int = Field(default=30, ge=8)
    tick_s: float = Field(default=2.0, gt=0)
    describe_s: float = Field(default=2.0, ge=0)
    expire_frames_days: int = Field(default=0, ge=0)


class WorkspaceConfig(_Section):
    mode: Literal["auto", "s3", "snapshot"] = "auto"
    snapshot_from_gib: float = Field(default=5.0, ge=0)
    keep_hours: float = Field(default=72.0, ge=0)
    filled_by: Literal["auto", "staging_instance", "farm"] = "auto"
    staging_instance_type: str = "c7i.xlarge, c7a.xlarge, m7i.xlarge, c6i.xlarge"
    volume_throughput_mib_s: int = Field(default=250, ge=125, le=2000)
    initialization_mib_s: int = Field(default=0, ge=0, le=300)


class LaunchConfig(_Section):
    max_instances: int = Field(default=64, ge=1)
    fallback_minutes: float = Field(default=0.0, ge=0)


class MoneyConfig(_Section):
    max_usd_per_job: float = Field(default=0.0, ge=0)
    max_usd_per_month: float = Field(default=500.0, ge=0)
    warn_pct: int = Field(default=80, ge=1, le=100)


class PoolConfig(_Section):
    mode: Literal["job", "shared"] = "job"
    market: Literal["on_demand", "spot"] = "on_demand"
    min_instances: int = Field(default=0, ge=0)
    max_instances: int = Field(default=8, ge=1)


class AmiConfig(_Section):
    blender_mirror: str = "https://download.blender.org/release"
    builder_instance_type: str = "c7i.xlarge"
    gpu_builder_instance_type: str = "g6.xlarge"


class LocalConfig(_Section):
    slots: int = Field(default=2, ge=1, le=256)
    threads_per_node: int = Field(default=0, ge=0)


class BlenderConfig(_Section):
    command: str = ""
    bpy_python: str = ".bpy/bin/python"
    memory_limit_gib: float = Field(default=0.0, ge=0)


class RenderConfig(_Section):
    max_attempts: int = Field(default=3, ge=1, le=20)
    frame_timeout_s: float = Field(default=3600, gt=0)
    max_frames: int = Field(default=100_000, ge=1)
    max_instances: int = Field(default=64, ge=1)
    persistent_data: bool = True
    preview_width_px: int = Field(default=480, ge=64, le=1920)


class _NodeLimits(_Section):
    idle_s: float = Field(default=300.0, gt=0)
    unreachable_s: float = Field(default=900.0, gt=0)
    max_life_s: float = Field(default=86400.0, gt=0)


class NodeTimes(_NodeLimits):
    """The times that hold for nodes."""

    heartbeat_s: float = Field(default=2.0, gt=0)
    lease_s: float = Field(default=60.0, gt=0)
    poll_s: float = Field(default=1.0, gt=0)


class NodeSettings(_NodeLimits):
    """What the configuration says of them. 0: as it suits the cloud"""

    heartbeat_s: float = Field(default=0.0, ge=0)
    lease_s: float = Field(default=0.0, ge=0)
    poll_s: float = Field(default=0.0, ge=0)


#: On AWS each heartbeat, and each look at the order, is a request that is paid for.
_ON_AWS = {"heartbeat_s": 5.0, "poll_s": 2.0}
#: A node may miss so many heartbeats before it is given up, where nobody said otherwise.
_MISSED_HEARTBEATS = 18


class SupervisorConfig(_Section):
    tick_s: float = Field(default=0.5, gt=0)


class UploadsConfig(_Section):
    part_mib: int = Field(default=16, ge=5, le=1024)
    max_file_gib: float = Field(default=200.0, gt=0)
    max_job_gib: float = Field(default=500.0, gt=0)
    max_files: int = Field(default=20_000, ge=1)
    max_zip_ratio: float = Field(default=200.0, gt=1)
    stale_days: float = Field(default=7.0, gt=0)


class InspectionConfig(_Section):
    timeout_s: float = Field(default=120, gt=0)
    memory_mib: int = Field(default=2048, ge=128)


class DownloadsConfig(_Section):
    link_days: float = Field(default=7.0, gt=0)
    keep_days: float = Field(default=14.0, gt=0)


class Config(_Section):
    """The whole configuration; code receives the section it needs, not this."""

    server: ServerConfig = ServerConfig()
    log: LogConfig = LogConfig()
    cloud: CloudConfig = CloudConfig()
    store: StoreConfig = StoreConfig()
    aws: AwsConfig = AwsConfig()
    workspace: WorkspaceConfig = WorkspaceConfig()
    launch: LaunchConfig = LaunchConfig()
    money: MoneyConfig = MoneyConfig()
    pool: PoolConfig = PoolConfig()
    ami: AmiConfig = AmiConfig()
    local: LocalConfig = LocalConfig()
    blender: BlenderConfig = BlenderConfig()
    render: RenderConfig = RenderConfig()
    node: NodeSettings = NodeSettings()
    supervisor: SupervisorConfig = SupervisorConfig()
    uploads: UploadsConfig = UploadsConfig()
    inspection: InspectionConfig = InspectionConfig()
    downloads: DownloadsConfig = DownloadsConfig()

    @property
    def tick_s(self) -> float:
        """Seconds between the supervisor's ticks: on AWS each one costs requests."""
        return self.aws.tick_s if self.cloud.provider == "aws" else self.supervisor.tick_s

    @property
    def node_times(self) -> NodeTimes:
        """The times that hold for nodes: those that are set, else those that suit the cloud."""
        suits = _ON_AWS if self.cloud.provider == "aws" else {}
        times = NodeTimes(**{**suits, **{name: value for name, value in self.node if value}})
        if self.node.lease_s:
            return times
        return times.model_copy(update={"lease_s": max(times.lease_s, _MISSED_HEARTBEATS * times.heartbeat_s)})


def load_config(path: Path | None = None, env: Mapping[str, str] = os.environ) -> Config:
    """Build the configuration from `path` (None: defaults only) and `KILN_<SECTION>__<KEY>` in `env`.

    Errors:  BadConfig - unreadable file, unknown key, or a value of the wrong type or out of range; names each key
    """
    raw = _read_file(path) if path else {}
    for name, value in env.items():
        section, _, key = name.removeprefix(ENV_PREFIX).lower().partition("__")
        if name.startswith(ENV_PREFIX) and key:
            raw.setdefault(section, {})[key] = value
    try:
        return Config.model_validate(raw)
    except ValidationError as error:
        lines = [f"{'.'.join(map(str, e['loc']))}: {_reason(e)}" for e in error.errors()]
        raise BadConfig(f"the configuration{f' in {path}' if path else ''} can't be used:\n  " + "\n  ".join(lines)) from error


def words(text: str) -> tuple[str, ...]:
    """Split a setting that lists several things, by commas or spaces."""
    return tuple(text.replace(",", " ").split())


def _read_file(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text())
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise BadConfig(f"can't read the configuration {path}: {error}") from error


def _reason(error: Any) -> str:
    if error["type"] == "extra_forbidden":
        return "there is no such key"
    return f"{error['msg']} (got {error['input']!r})"
