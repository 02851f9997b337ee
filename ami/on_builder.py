"""What runs on the instance that becomes an image: fetch the bundle, run the provisioners, tell how far they are, stop.

Sent as one file within the instance's user data; it has Debian's Python and boto3, and nothing of ours. Restarted by its unit when the
machine restarts in the middle. Takes its orders from `orders.json` beside it; everything of its own is gone when the machine stops.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import subprocess
import threading
import time
from collections import deque
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config

log = logging.getLogger("kiln-build")

REBOOT = 100  #: exit status of the provisioners that asks for a restart
REPORT_EVERY_S = 5.0
TAIL_LINES = 40
LINE_CHARACTERS = 400
#: A report that the store does not take is written again so often before the machine stops: without it the build counts as lost.
LAST_REPORT_TRIES = 60


class Builder:
    """One build, from its bundle to its report."""

    def __init__(self, folder: Path, orders: dict[str, str], store: Any) -> None:  # Any: boto3's clients are made at run time
        self._folder = folder
        self._orders = orders
        self._store = store
        self._log = folder / "build.log"
        self._tail: deque[str] = deque(maxlen=TAIL_LINES)
        self._progress = "starting"
        self._lock = threading.Lock()

    def run(self) -> int:
        """Build. Returns: the provisioners' exit status"""
        ended = threading.Event()
        teller = threading.Thread(target=self._tell_on, args=(ended,), daemon=True)
        teller.start()
        try:
            status, failure = self._build()
        except Exception as error:  # noqa: BLE001 - whatever went wrong is what the farm is to hear
            status, failure = 1, f"the builder could not work: {error}"
        ended.set()
        teller.join()
        if status != REBOOT:
            self._send_log()
            self._tell_the_end("done" if status == 0 else "failed", failure)
        return status

    def _build(self) -> tuple[int, str]:
        bundle = self._folder / "bundle"
        if not bundle.exists():
            self._fetch(bundle)
        failure = ""
        with self._log.open("ab") as log:
            running = subprocess.Popen(
                ["bash", str(bundle / "provisioners" / "run")], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL
            )
            assert running.stdout is not None, "it is a pipe"
            for raw in running.stdout:
                log.write(raw)
                line = raw.decode(errors="replace").rstrip()
                failure = line.removeprefix("kiln-failed ") if line.startswith("kiln-failed ") else failure
                self._note(line)
        return running.wait(), failure

    def _fetch(self, bundle: Path) -> None:
        body = self._store.get_object(Bucket=self._orders["bucket"], Key=self._orders["bundle"])["Body"].read()
        if hashlib.sha256(body).hexdigest() != self._orders["bundle_sha256"]:
            raise ValueError("what came as the bundle is not what the farm put there")
        draft = bundle.with_suffix(".new")
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir()
        subprocess.run(["tar", "-xzf", "-", "-C", str(draft)], input=body, check=True)
        draft.rename(bundle)

    def _note(self, line: str) -> None:
        with self._lock:
            if line.startswith("kiln-progress "):
                self._progress = line.removeprefix("kiln-progress ")
            if line:
                self._tail.append(line[:LINE_CHARACTERS])

    def _tell_on(self, ended: threading.Event) -> None:
        while True:
            self._tell("running", "")
            if ended.wait(REPORT_EVERY_S):
                return

    def _tell_the_end(self, state: str, message: str) -> None:
        for _ in range(LAST_REPORT_TRIES):
            if self._tell(state, message):
                return
            time.sleep(REPORT_EVERY_S)

    def _tell(self, state: str, message: str) -> bool:
        """Write the report, `nodeimage.launch.BuildReport`. Returns: whether the store took it"""
        with self._lock:
            report = {
                "version": 1,
                "state": state,
                "build": self._orders["build"],
                "at_ms": time.time_ns() // 1_000_000,
                "progress": self._progress,
                "message": message,
                "tail": list(self._tail),
            }
        try:
            self._store.put_object(Bucket=self._orders["received_bucket"], Key=self._orders["report"], Body=json.dumps(report).encode())
        except Exception as error:  # noqa: BLE001 - the next report tries again
            log.warning("report not written: %s", error)
            return False
        return True

    def _send_log(self) -> None:
        try:
            self._store.upload_file(str(self._log), self._orders["received_bucket"], self._orders["log"])
        except Exception as error:  # noqa: BLE001 - the report has the log's end
            log.warning("log not sent: %s", error)


def main() -> None:
    """Run the build, then restart or stop the machine; how is the environment's to say, for those who try this elsewhere."""
    logging.basicConfig(level=logging.INFO)
    folder = Path(__file__).resolve().parent
    orders = json.loads((folder / "orders.json").read_text())
    retries = Config(retries={"mode": "standard", "total_max_attempts": 6})
    store = boto3.client("s3", region_name=orders["region"], endpoint_url=orders["endpoint"] or None, config=retries)
    if Builder(folder, orders, store).run() == REBOOT:
        subprocess.run(os.environ.get("KILN_REBOOT", "systemctl reboot").split(), check=True)
        return
    # Nothing of the build stays in the image.
    for unit in Path(os.environ.get("KILN_UNITS", "/etc/systemd/system")).glob("**/kiln-build.service"):
        unit.unlink(missing_ok=True)
    shutil.rmtree(folder)
    subprocess.run(os.environ.get("KILN_POWEROFF", "systemctl poweroff").split(), check=True)


if __name__ == "__main__":
    main()
