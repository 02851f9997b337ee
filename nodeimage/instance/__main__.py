"""`python -m nodeimage.instance`: do what this instance was launched for, then power it off. `--check`: only see that all is there."""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

from nodeimage.agent import AGENT_VERSION
from nodeimage.agent.ending import Ending, EndKind, Stopped
from nodeimage.agent.logs import log_to_stderr
from nodeimage.agent.ports import StoreError
from nodeimage.agent.signals import stop_on_signals
from nodeimage.agent.store import be_patient_for_keys, connect
from nodeimage.launch import LaunchData, Role
from nodeimage.metadata import Metadata, MetadataError
from nodeimage.protocol import VERSION, Heartbeat, NodeState, Unreadable, status_key
from nodeimage.systemd import Systemd

from .deadman import Switch
from .fetch import WORKERS
from .instance import Instance, Pulse, node_config
from .life import MOST_STARTS, note_start
from .machine import Machine
from .notices import Notices, now_ms
from .pool import Pool
from .render import run_render
from .staging import Staging
from .verified import this_boot

log = logging.getLogger("nodeimage.instance")

T = TypeVar("T")

#: The metadata service answers from the first second on, most days.
METADATA_PATIENCE_S = 120.0
#: Connections besides those that fetch files: heartbeat, claims, deliveries.
_OTHER_CONNECTIONS = 8

_ROLES: dict[Role, Callable[[Instance], Ending]] = {
    Role.RENDER: run_render,
    Role.STAGE: lambda instance: Staging(instance).run(),
    Role.POOL: lambda instance: Pool(instance).run(),
}


def main(arguments: Sequence[str]) -> int:
    """Run until the instance has been given back. Returns: exit status; not 0: to be started again"""
    log_to_stderr()
    if list(arguments) == ["--check"]:
        log.info("all is there", extra={"agent": AGENT_VERSION, "protocol": VERSION, "roles": sorted(_ROLES)})
        return 0
    be_patient_for_keys()
    stop = threading.Event()
    stop_on_signals(stop)
    try:
        return _run(Machine.from_env(os.environ), Metadata.from_env(os.environ), Systemd.from_env(os.environ), stop)
    except Stopped as stopped:  # outside of any work: there is nothing to give back
        log.info("told to stop", extra={"why": stopped.ending.reason})
        return 0
    except MetadataError as error:
        log.error("can't tell what this instance is", extra={"why": str(error)})
        return 1


def _run(machine: Machine, metadata: Metadata, systemd: Systemd, stop: threading.Event) -> int:
    pulse = Pulse(systemd)
    life_cycle = _life_cycle(metadata)
    notices = Notices(metadata)
    switch = Switch(machine, life_cycle=life_cycle, interruption_at_ms=notices.at_ms, pulse=pulse)
    try:
        launch = LaunchData.from_bytes(_launch_bytes(machine, metadata))
    except Unreadable as error:
        return switch.end(Ending(kind=EndKind.UNFIT, reason=f"the instance was not launched by a farm that this agent knows: {error}"))
    instance = _instance_id(machine, metadata)
    systemd.ready()
    notices.start()
    life = note_start(machine.home, boot=this_boot(), now_ms=now_ms())
    log.info("instance starts", extra={"instance": instance, "role": str(launch.role), "job": launch.job, "starts": life.starts})
    store = connect(node_config(launch, instance), connections=WORKERS + _OTHER_CONNECTIONS)
    context = Instance(
        id=instance,
        launch=launch,
        life=life,
        machine=machine,
        store=store,
        interruption_at_ms=notices.at_ms,
        stop=stop,
        pulse=pulse,
    )
    work = _ROLES.get(launch.role)
    if work is None:
        return switch.end(_unfit(context, f"This agent knows no work for an instance of the role “{launch.role}”."))
    if life.starts > MOST_STARTS:
        return switch.end(_unfit(context, f"The node's program broke off {life.starts - 1} times; its log says why."))
    return switch.end(work(context))


def _unfit(instance: Instance, why: str) -> Ending:
    """Tell the farm, if the store takes it, why this instance comes to nothing."""
    beat = Heartbeat(
        node=instance.node,
        job=instance.launch.job,
        beat=1,
        at_ms=now_ms(),
        state=NodeState.STARTING,
        agent_version=AGENT_VERSION,
        problem=why,
    )
    try:
        instance.store.put(status_key(instance.node), beat.to_bytes())
    except StoreError as error:
        log.warning("farm not told", extra={"why": str(error)})
    return Ending(kind=EndKind.UNFIT, reason=why)


def _launch_bytes(machine: Machine, metadata: Metadata) -> bytes:
    """What the instance was launched with: as the boot left it, else from the metadata service. Errors: MetadataError"""
    try:
        return machine.launch.read_bytes()
    except FileNotFoundError:
        return _patiently(metadata.user_data) or b""


def _instance_id(machine: Machine, metadata: Metadata) -> str:
    """Errors: MetadataError"""
    try:
        return machine.launch.with_name("instance-id").read_text().strip()
    except FileNotFoundError:
        return _patiently(metadata.instance_id)


def _life_cycle(metadata: Metadata) -> str:
    """How the instance is paid for. Returns: empty if that can't be known; it matters little"""
    try:
        return metadata.life_cycle()
    except MetadataError as error:
        log.warning("not known how the instance is paid for", extra={"why": str(error)})
        return ""


def _patiently(ask: Callable[[], T]) -> T:
    until = time.monotonic() + METADATA_PATIENCE_S
    while True:
        try:
            return ask()
        except MetadataError:
            if time.monotonic() > until:
                raise
        time.sleep(1.0)


if __name__ == "__main__":
    status = main(sys.argv[1:])
    sys.stderr.flush()
    # Threads may be waiting for a store that does not answer: nobody waits for them.
    os._exit(status)
