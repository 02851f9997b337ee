"""The process that serves: gunicorn with one worker of many threads, which owns the timers, the object store and the nodes.

One worker, because the timers must run once. The master answers for the end: whatever became of the worker, it leaves no process behind.
"""

from __future__ import annotations

import errno
import logging
import os
import signal
import socket
import sys
from pathlib import Path
from typing import Any

import click
import structlog
from flask import Flask
from gunicorn.app.base import BaseApplication
from gunicorn.glogging import Logger

from app import create_app
from app.auth import setup_code
from app.bootstrap import CantStart, OpenFarm, hold_lock, open_database, open_farm, prepare_folder, stop_everything
from app.logs import set_up_logs
from app.worker import PatientWorker
from supervisor.commands import accounts
from supervisor.config import Config
from supervisor.timers import Timers

log = structlog.get_logger(__name__)

#: From SIGTERM to the end: requests in flight, then the nodes (2.5 s), then the object store (3.5 s): 10 s in all at worst.
_REQUESTS_GRACE_S = 2
#: A worker that does not come back to its loop for so long is killed; its start may take a while on a slow disk.
_HUNG_AFTER_S = 300
_BOOT_FAILED = 4  #: gunicorn's exit code of a worker for which there is no use in trying again


class CantListen(Exception):
    """The address can't be listened on; the message says why."""


def serve(config: Config, data: Path, *, host: str | None = None, port: int | None = None) -> None:
    """Serve the farm until SIGTERM or Ctrl-C; then end every process of it within 10 s. Does not return: it exits.

    Errors:  AlreadyServed - another process serves this data folder; CantListen; NewerDatabase, DamagedDatabase; OSError
    """
    data = prepare_folder(data)
    set_up_logs(config.log)
    with hold_lock(data):
        # Before anything is started: what can't be served is best said in one line.
        open_database(data).close()
        listener = _listen(host or config.server.host, config.server.port if port is None else port)
        _Server(config, data, listener).run()


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(256)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            reason = "another program listens there; stop it, or choose another --port"
        elif error.errno == errno.EACCES:
            reason = "ports below 1024 need more rights; choose another --port"
        else:
            reason = error.strerror or str(error)
        raise CantListen(f"can't listen on {host}:{port}: {reason}") from error
    return listener


class _Server(BaseApplication):  # type: ignore[misc]  # gunicorn ships no types
    """The farm as gunicorn runs it: configuration in code, the application made in the worker."""

    def __init__(self, config: Config, data: Path, listener: socket.socket) -> None:
        self._config = config
        self._data = data
        self._host, self._port = listener.getsockname()[:2]
        # From here on gunicorn's: it makes a socket of its own of the number, and closes it.
        self._handle = listener.detach()
        self._open: OpenFarm | None = None
        self._timers: Timers | None = None
        super().__init__()

    @property
    def stalled_s(self) -> float:
        """How long the worker bears with a client that takes and sends nothing."""
        return self._config.server.stalled_s

    def load_config(self) -> None:
        for name, value in self._settings().items():
            self.cfg.set(name, value)

    def _settings(self) -> dict[str, Any]:
        return {
            "bind": f"fd://{self._handle}",
            "workers": 1,
            "worker_class": PatientWorker,
            "threads": self._config.server.threads,
            "worker_connections": 1000,
            "keepalive": 75,
            "timeout": _HUNG_AFTER_S,
            "graceful_timeout": _REQUESTS_GRACE_S,
            "logger_class": _GunicornLog,
            "accesslog": None,
            "control_socket_disable": True,
            # The worker's sign of life is a file: on a full or slow disk it would look hung.
            "worker_tmp_dir": "/dev/shm" if os.access("/dev/shm", os.W_OK) else None,
            "post_worker_init": self._begin,
            "worker_exit": self._end_worker,
            "on_exit": self._end_everything,
        }

    def load(self) -> Flask:
        """Open the farm and make its application; in the worker, whose children the store and the nodes are."""
        try:
            self._open = open_farm(self._config, self._data, serves=True)
        except CantStart as error:
            log.error("the farm can't be served", error=str(error))
            sys.exit(_BOOT_FAILED)
        keys = self._open.secrets
        return create_app(self._open.farm, secret_key=keys.secret_key, link_key=keys.link_key, images=self._open.images)

    def _begin(self, worker: object) -> None:
        assert self._open, "load() comes before"
        # Ctrl-C reaches the worker too. The main process answers it and ends the worker: a second signal at that moment would cut its end
        # short. No SIG_IGN: children would inherit that.
        signal.signal(signal.SIGINT, lambda number, frame: None)
        self._timers = Timers(self._open.farm, upkeep=self._open.upkeep)
        self._timers.start()
        self._open.wake.listen(self._timers.wake)
        self._greet(self._open)

    def _greet(self, opened: OpenFarm) -> None:
        shown = "localhost" if self._host in {"0.0.0.0", "::"} else f"[{self._host}]" if ":" in self._host else self._host
        address = (self._config.server.public_url or f"http://{shown}:{self._port}").rstrip("/")
        click.echo(f"Kiln is ready: {address}")
        if not accounts.has_users(opened.farm):
            click.echo(f"Make the first account: {address}/setup?code={setup_code(self._data)}")
        sys.stdout.flush()

    def _end_worker(self, arbiter: Any, worker: Any) -> None:
        """End what runs in the worker. The store and the nodes live on for the next worker, unless there will be none."""
        if worker.pid != os.getpid():
            return  # gunicorn calls this in the master too, for a worker that it finds gone
        if self._timers:
            self._timers.stop()
        if self._open:
            self._open.close()
        if os.getppid() != worker.ppid:
            log.error("the server's main process is gone; everything is ended")
            self._end_everything(arbiter)

    def _end_everything(self, arbiter: object) -> None:
        stop_everything(self._config, self._data)
        log.info("farm ended")


class _GunicornLog(Logger):  # type: ignore[misc]  # gunicorn ships no types
    """gunicorn's log as part of ours: its warnings, without its chatter."""

    def setup(self, cfg: object) -> None:
        self.error_log.handlers = []
        self.error_log.propagate = True
        self.error_log.setLevel(logging.WARNING)
        self.access_log.handlers = []
        self.access_log.propagate = False

    def exception(self, msg: object, *args: object, **kwargs: Any) -> None:
        if isinstance(sys.exc_info()[1], BlockingIOError):
            log.info("connection given up", because="its client took and sent nothing for [server] stalled_s")
            return
        super().exception(msg, *args, **kwargs)
