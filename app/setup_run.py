"""Setting the farm's account up in the background, for a page that watches: what is done, and what went wrong.

Nothing of it needs to survive a restart: what was made is seen in the account, and setting up again goes on from there.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass

import structlog
from flask import Flask, current_app

from supervisor.cloud.ports import CloudAccount, CloudError, SetupStep

log = structlog.get_logger(__name__)

_RUN = "setup_run"


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far it is."""

    is_running: bool
    done: tuple[SetupStep, ...]
    problem: str  #: why it ended before its end, for people


class SetupRun:
    """One setting-up at a time; the last one is remembered."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._done: list[SetupStep] = []
        self._problem = ""

    def start(self, account: CloudAccount, *, origin: str) -> None:
        """Begin, unless it is under way. Returns at once."""
        with self._lock:
            if self._is_running():
                return
            self._done, self._problem = [], ""
            self._thread = threading.Thread(target=self._run, args=(account, origin), name="set-up", daemon=True)
            self._thread.start()

    def progress(self) -> Progress:
        with self._lock:
            return Progress(is_running=self._is_running(), done=tuple(self._done), problem=self._problem)

    def _is_running(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def _run(self, account: CloudAccount, origin: str) -> None:
        try:
            for step in account.set_up(origin=origin):
                log.info("set up", thing=step.name, state=str(step.state), text=step.text)
                with self._lock:
                    self._done.append(step)
        except CloudError as error:
            self._fail(str(error))
        except Exception as error:  # a thread that dies in silence would look as if it were done
            log.exception("setting up failed")
            self._fail(f"{type(error).__name__}: {error}; the farm's log says more")

    def _fail(self, problem: str) -> None:
        log.warning("setting up ended early", error=problem)
        with self._lock:
            self._problem = problem


def init_setup_run(app: Flask) -> None:
    app.extensions[_RUN] = SetupRun()


def current_run() -> SetupRun:
    run = current_app.extensions[_RUN]
    assert isinstance(run, SetupRun), "create_app put it there"
    return run
