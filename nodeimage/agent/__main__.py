"""`python -m nodeimage.agent`: run one node. Configured by the environment alone: KILN_NODE_*, and the store's keys."""

from __future__ import annotations

import importlib
import logging
import os
import shutil
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from nodeimage.protocol import NodeConfig, Unreadable

from .blender import Blender
from .ending import Stopped
from .logs import log_to_stderr
from .loop import Agent
from .signals import stop_on_signals
from .surroundings import Surroundings

log = logging.getLogger("nodeimage.agent")


def main() -> int:
    """Run the agent until it ends. Returns: exit status 0; 2 if the environment is wrong"""
    log_to_stderr()
    try:
        config = NodeConfig.from_env(os.environ)
    except Unreadable as error:
        log.error("can't start", extra={"why": str(error)})
        return 2
    Path(config.home).mkdir(parents=True, exist_ok=True)
    stop = threading.Event()
    stop_on_signals(stop)

    def start_blender(number: int) -> Blender:
        return Blender(config, number=number, environment=os.environ)

    try:
        first = _first_blender(start_blender)
        # Imported only now: boto3 takes a third of a second, and Blender starts meanwhile.
        store = importlib.import_module("nodeimage.agent.store").connect(config)
        around = Surroundings(
            start_blender=start_blender,
            first_blender=first,
            stop=stop,
            now_ms=lambda: time.time_ns() // 1_000_000,
            free_bytes=lambda folder: shutil.disk_usage(folder).free,
        )
        ending = Agent(config, store, around).run()
    except Stopped as stopped:  # before the agent could take care of it: nothing is claimed yet, and Blender ends with us
        ending = stopped.ending
    log.info("agent ends", extra={"node": config.node, "job": config.job, "why": ending.reason})
    return 0


def _first_blender(start_blender: Callable[[int], Blender]) -> Blender | None:
    """Start Blender before anything else. Returns: None if that fails; the agent tries again and tells the farm"""
    try:
        return start_blender(1)
    except OSError as error:
        log.warning("blender does not start", extra={"why": str(error)})
        return None


if __name__ == "__main__":
    status = main()
    sys.stderr.flush()
    # Threads may be waiting for a store that does not answer: nobody waits for them.
    os._exit(status)
