"""Instances on this machine: each is one node process, which outlives the server that started it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import structlog

from nodeimage.protocol import NodeConfig
from supervisor.cloud.ports import Full, LaunchSpec, NoCapacity, Refused, RentedInstance
from supervisor.config import NodeTimes
from supervisor.domain.ids import new_id
from supervisor.domain.instance import InstanceStatus

from . import processes
from .blender import LocalBlender, choose_blender
from .copying import copy_tree
from .instance_files import InstanceFiles, LocalInstance
from .processes import ProcessId

log = structlog.get_logger(__name__)

INSTANCE_TYPE = "local"
#: From SIGTERM to SIGKILL: an agent gives its claims back in half of it.
_GRACE = timedelta(seconds=3)
#: How long an instance that ended is still shown, and its log kept.
_SHOWN_AFTER_END = timedelta(minutes=10)
_PASSED = frozenset({"PATH", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "LD_LIBRARY_PATH", "OCIO"})
#: What graphics drivers read: Blender's environment is made from the agent's.
_PASSED_PREFIXES = ("CUDA_", "NVIDIA_", "LIBGL_", "MESA_", "GALLIUM_", "VK_", "__EGL_", "__GLX_")


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeStore:
    """Where the nodes of this machine find the bucket, and the keys that are theirs."""

    endpoint: str
    region: str
    bucket: str
    access_key: str
    secret_key: str = field(repr=False)


def usable_cores() -> int:
    """Count the cores that this process may use: by affinity, and by the quota of its container."""
    cores = len(os.sched_getaffinity(0))
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return max(1, min(cores, -(-int(quota) // int(period))))
    except (OSError, ValueError):  # no cgroup v2, or "max"
        return cores


class LocalCompute:
    """`Compute` with processes. Only one process may own a folder; others look, and ask for an end. `stop_nodes` works from any."""

    def __init__(
        self,
        nodes: Path,
        *,
        slots: int,
        threads: int,
        store: NodeStore,
        times: NodeTimes,
        blenders: Callable[[], Sequence[LocalBlender]],
        snapshot_folder: Callable[[str], Path],
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        agent: Sequence[str] = (sys.executable, "-m", "nodeimage.agent"),
        is_owner: bool = True,
    ) -> None:
        self._files = InstanceFiles(nodes.absolute())
        self._slots = slots
        self._threads = threads
        self._store = store
        self._times = times
        self._blenders = blenders
        self._snapshot_folder = snapshot_folder
        self._clock = clock
        self._agent = agent
        self._is_owner = is_owner
        self._lock = threading.RLock()
        self._starting: dict[str, Future[None]] = {}
        self._starters = ThreadPoolExecutor(max_workers=2, thread_name_prefix="launch")
        self._instances = {instance.id: instance for instance in self._files.read_all()}
        if is_owner:
            for instance in list(self._instances.values()):
                self._adopt(instance)

    def launch(self, spec: LaunchSpec, *, request_id: str) -> int:
        with self._lock:
            already = sum(1 for instance in self._instances.values() if instance.request_id == request_id)
            if already:
                return already
            granted = min(spec.count, self.free_slots())
            if granted < 1:
                raise NoCapacity(f"can't launch {spec.count} instances for {spec.job}: all {self._slots} slots of this machine are taken")
            blender = choose_blender(self._blenders(), spec.blender_version)
            if blender is None:
                raise Refused(f"can't launch instances for {spec.job}: {_no_blender(self._blenders(), spec.blender_version)}")
            source = self._snapshot_folder(spec.workspace)
            if not source.is_dir():
                raise Refused(f"can't launch instances for {spec.job}: the workspace {spec.workspace} is gone")
            for _ in range(granted):
                instance = self._planned(spec, request_id)
                self._starting[instance.id] = self._starters.submit(self._start, instance.id, source, blender)
            return granted

    def _planned(self, spec: LaunchSpec, request_id: str) -> LocalInstance:
        """Write the instance down before anything of it exists."""
        instance = LocalInstance(
            id=new_id("local"), request_id=request_id, job=spec.job, node=new_id("node"), market=spec.market, launched_at=self._clock()
        )
        try:
            self._files.write(instance)
        except OSError as error:
            raise Full(f"can't launch instances for {spec.job}: {error}") from error
        self._instances[instance.id] = instance
        return instance

    def instances(self) -> Sequence[RentedInstance]:
        with self._lock:
            if not self._is_owner:
                return [_shown(instance) for instance in self._files.read_all()]
            for instance in list(self._instances.values()):
                self._look_at(instance)
            return [_shown(instance) for instance in self._instances.values()]

    def free_slots(self) -> int:
        with self._lock:
            return max(0, self._slots - self._running())

    def _running(self) -> int:
        return sum(1 for instance in self._instances.values() if not instance.ended_at)

    def _share_of_cores(self) -> int:
        """The threads of a node that is started now: a lone one has the whole machine, several launched together divide it."""
        return max(1, usable_cores() // max(1, self._running()))

    def stop(self, ids: Iterable[str]) -> None:
        # A process that was stopped would hold its memory and its slot: like a spot instance, it is ended.
        self.terminate(ids)

    def start(self, ids: Iterable[str]) -> None:
        """Nothing is ever stopped here, so there is nothing to start."""

    def terminate(self, ids: Iterable[str]) -> None:
        with self._lock:
            for id in ids:
                instance = self._instances.get(id)
                if instance is None or instance.ended_at or instance.ending_at:
                    continue
                self._note(replace(instance, ending_at=self._clock()))
                if instance.process:
                    processes.send(instance.process, signal.SIGTERM)

    def release_copies(self, job: str) -> None:
        """Give back the workspace copies of the job's instances that have ended. Repeat: safe"""
        with self._lock:
            for instance in self._instances.values():
                if instance.job == job and instance.ended_at:
                    self._files.remove_copy(instance.id)

    def process_of(self, id: str) -> ProcessId | None:
        """Returns: the instance's agent; None if it was not started yet, or there is no such instance"""
        with self._lock:
            instance = self._instances.get(id)
            return instance.process if instance else None

    def close(self) -> None:
        """Start nothing more, and wait for what is being started, so that it stands on disk. The nodes live on."""
        self._starters.shutdown(wait=True, cancel_futures=True)

    def _start(self, id: str, source: Path, blender: LocalBlender) -> None:
        """Copy the workspace and start the agent; in a thread, because a large copy takes its time."""
        folder = self._files.folder(id)
        try:
            copy_tree(source, folder / "workspace")
            with self._lock:
                instance = self._instances[id]
                if not instance.ending_at:
                    self._note(replace(instance, process=self._spawn(instance, folder, blender)))
        except OSError as error:
            log.warning("node not started", instance=id, error=str(error))
            with self._lock:
                self._end(self._instances[id], f"the node could not be started: {error}")

    def _spawn(self, instance: LocalInstance, folder: Path, blender: LocalBlender) -> ProcessId | None:
        (folder / "home").mkdir(exist_ok=True)
        with (folder / "agent.log").open("ab") as output:
            child = subprocess.Popen(
                self._agent,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=folder,
                env=self._environment(instance, folder, blender),
                start_new_session=True,
            )
        process = processes.identify(child.pid)
        # It is known by number and start time from here on; the object would warn when it is forgotten before the process ends.
        child.returncode = 0
        log.info("node started", instance=instance.id, node=instance.node, job=instance.job, pid=child.pid, blender=blender.version)
        return process

    def _environment(self, instance: LocalInstance, folder: Path, blender: LocalBlender) -> dict[str, str]:
        config = NodeConfig(
            node=instance.node,
            job=instance.job,
            bucket=self._store.bucket,
            endpoint=self._store.endpoint,
            region=self._store.region,
            workspace=str(folder / "workspace"),
            home=str(folder / "home"),
            blender=blender.command,
            blender_kind=blender.kind,
            threads=self._threads or self._share_of_cores(),
            heartbeat_s=self._times.heartbeat_s,
            poll_s=self._times.poll_s,
            idle_s=self._times.idle_s,
            unreachable_s=self._times.unreachable_s,
            max_life_s=self._times.max_life_s,
        )
        passed = {name: value for name, value in os.environ.items() if name in _PASSED or name.startswith(_PASSED_PREFIXES)}
        keys = {"AWS_ACCESS_KEY_ID": self._store.access_key, "AWS_SECRET_ACCESS_KEY": self._store.secret_key}
        return {"PATH": os.defpath, **passed, "HOME": str(folder / "home"), **keys, **config.to_env()}

    def _look_at(self, instance: LocalInstance) -> None:
        """Bring what is known of an instance up to what is so."""
        now = self._clock()
        if instance.ended_at:
            if now - instance.ended_at > _SHOWN_AFTER_END:
                del self._instances[instance.id]
                self._files.remove(instance.id)
            return
        if instance.process is None:
            self._look_at_start(instance)
            return
        processes.reap([instance.process.pid])
        if not instance.process.is_alive():
            self._end(instance, self._files.last_words(instance.id) or "the node's process is gone")
        elif instance.ending_at and now - instance.ending_at > _GRACE:
            log.warning("node did not end in time and is killed", instance=instance.id)
            self._kill_leftovers(instance)

    def _look_at_start(self, instance: LocalInstance) -> None:
        start = self._starting.get(instance.id)
        if start is not None and not start.done():
            return
        self._starting.pop(instance.id, None)
        self._end(instance, "ended before it began" if instance.ending_at else "the server ended while the node was being started")

    def _end(self, instance: LocalInstance, note: str) -> None:
        self._kill_leftovers(instance)
        self._starting.pop(instance.id, None)
        self._note(replace(instance, ended_at=self._clock(), note=note))
        self._files.remove_copy(instance.id)
        log.info("node ended", instance=instance.id, node=instance.node, job=instance.job, note=note)

    def _kill_leftovers(self, instance: LocalInstance) -> None:
        """Kill whatever was started for the instance: the agent, and a Blender that outlived its agent."""
        for process in processes.with_environment(f"HOME={self._files.folder(instance.id)}/"):
            processes.send(process, signal.SIGKILL)

    def _adopt(self, instance: LocalInstance) -> None:
        """Take over an instance of the server before us; one that was started in its very last moment is found by its environment."""
        if instance.process or instance.ended_at:
            return
        for process in processes.with_environment(f"KILN_NODE_NODE={instance.node}\0"):
            self._note(replace(instance, process=process))

    def _note(self, instance: LocalInstance) -> None:
        self._instances[instance.id] = instance
        try:
            self._files.write(instance)
        except OSError as error:
            # A full disk: what is known here stays right; only another server would see an older state, and look for itself.
            log.warning("instance not written down", instance=instance.id, error=str(error))


def stop_nodes(nodes: Path, *, grace_s: float = 3.0) -> bool:
    """End every node process of the farm, and whatever it started: asked, given `grace_s` in all, then killed.

    Repeat:  safe; from any process, whichever one started them
    Returns: whether all are gone
    """
    files = InstanceFiles(nodes.absolute())
    agents = [instance.process for instance in files.read_all() if instance.process and not instance.ended_at]
    processes.end_all(agents, grace_s=grace_s)
    return processes.end_all(processes.with_environment(f"HOME={files.nodes}/"), grace_s=0)


def _shown(instance: LocalInstance) -> RentedInstance:
    return RentedInstance(
        id=instance.id,
        request_id=instance.request_id,
        job=instance.job,
        node=instance.node,
        status=_status(instance),
        instance_type=INSTANCE_TYPE,
        market=instance.market,
        price_usd_per_h=Decimal(0),
        launched_at=instance.launched_at,
        note=instance.note,
    )


def _status(instance: LocalInstance) -> InstanceStatus:
    if instance.ended_at:
        return InstanceStatus.TERMINATED
    if instance.ending_at:
        return InstanceStatus.TERMINATING
    return InstanceStatus.RUNNING if instance.process else InstanceStatus.PENDING


def _no_blender(there: Sequence[LocalBlender], wanted: tuple[int, ...]) -> str:
    if not there:
        return "there is no Blender on this machine; `kiln doctor` says what to do"
    series = ".".join(map(str, wanted[:2]))
    return f"it is rendered with Blender {series}, and this machine has {', '.join(blender.version for blender in there)} now"
