"""What this instance is and was launched for, and how its agents are set up."""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from nodeimage.agent.blender import Blender
from nodeimage.agent.ending import Ending
from nodeimage.agent.loop import Agent
from nodeimage.agent.surroundings import CannotPrepare, Surroundings, Watcher
from nodeimage.hardware import expected_device
from nodeimage.launch import LaunchData, Role, node_of_instance
from nodeimage.protocol import NodeConfig, NodeState
from nodeimage.systemd import Systemd

from .life import Life
from .machine import Machine, NoBlender
from .notices import now_ms
from .workspace import FileStore, Workspace

#: systemd is told that work goes on no more often than this.
_PULSE_S = 5.0


def free_bytes(folder: Path) -> int:
    """Room on the disk of a folder."""
    return shutil.disk_usage(folder).free


class Pulse:
    """Tells systemd that work goes on, however often it is called."""

    def __init__(self, systemd: Systemd) -> None:
        self._systemd = systemd
        self._beat_at = 0.0

    def __call__(self) -> None:
        if time.monotonic() - self._beat_at > _PULSE_S:
            self._beat_at = time.monotonic()
            self._systemd.alive()


@dataclass(frozen=True, slots=True, kw_only=True)
class Instance:
    """One rented instance, and what its program works with."""

    id: str
    launch: LaunchData
    life: Life
    machine: Machine
    store: FileStore
    interruption_at_ms: Callable[[], int]  #: when the cloud takes the instance back (UTC); 0: nobody said so
    stop: threading.Event  #: set by a signal: end at once
    pulse: Callable[[], None]  #: to be called again and again while work goes on
    environment: Mapping[str, str] = field(default_factory=lambda: os.environ)  #: of which Blender gets a little

    @property
    def node(self) -> str:
        return node_of_instance(self.id)

    def left_s(self) -> float:
        """How long this instance may still live."""
        return self.life.left_s(self.launch.max_life_s, now_ms=now_ms())

    def work(self, config: NodeConfig, *, series: str, prepare: Callable[[Watcher], None], last_state: NodeState) -> Ending:
        """Run the agent on a job until it has a reason to end. Shape: `prepare` brings the job's files, `series` is of Blender"""

        def prepare_all(watcher: Watcher) -> None:
            try:
                self.machine.blender_command(series)
            except NoBlender as error:
                raise CannotPrepare(str(error)) from error
            prepare(watcher)

        def start_blender(number: int) -> Blender:
            command = self.machine.blender_command(series)
            return Blender(replace(config, blender=command), number=number, environment=self.environment)

        Path(config.home).mkdir(parents=True, exist_ok=True)
        around = Surroundings(
            start_blender=start_blender,
            first_blender=None,  # the job's files come first
            stop=self.stop,
            now_ms=now_ms,
            free_bytes=free_bytes,
            prepare=prepare_all,
            interruption_at_ms=self.interruption_at_ms,
            alive=self.pulse,
            is_rented=True,
            is_of_pool=self.launch.role is Role.POOL,
            last_state=last_state,
        )
        return Agent(config, self.store, around).run()

    def workspace(self, folder: Path, *, job: str, make_room: Callable[[int], None] = lambda needed: None) -> Workspace:
        """The files of a job, to be had in `folder`."""
        return Workspace(
            folder,
            job=job,
            kind=self.launch.workspace,
            store=self.store,
            boot=self.life.boot,
            is_mounted=self.machine.is_workspace_mounted,
            free_bytes=free_bytes,
            make_room=make_room,
        )

    def config(self, *, job: str, home: Path, workspace: Path, idle_s: float) -> NodeConfig:
        """The agent's own words for what the launch says. Blender's command line is found when it starts."""
        return replace(
            node_config(self.launch, self.id),
            job=job,
            workspace=str(workspace),
            home=str(home),
            blender_kind=self.machine.blender_kind,
            device=expected_device(),
            idle_s=idle_s,
            max_life_s=max(0.0, self.left_s()),
        )


def node_config(launch: LaunchData, instance: str) -> NodeConfig:
    """The agent's own words for what every instance is told."""
    return NodeConfig(
        node=node_of_instance(instance),
        job=launch.job,
        bucket=launch.projects_bucket,
        received_bucket=launch.received_bucket,
        endpoint=launch.endpoint,
        region=launch.region,
        heartbeat_s=launch.heartbeat_s,
        poll_s=launch.poll_s,
        idle_s=launch.idle_s,
        unreachable_s=launch.unreachable_s,
        max_life_s=launch.max_life_s,
    )
