"""Remember submissions whose upload is not finished, so that the same command run again goes on with them."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from .project import LocalFile


def state_folder() -> Path:
    """Where they are remembered: `$XDG_STATE_HOME/kiln`, else `~/.local/state/kiln`."""
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "kiln"


class Unfinished:
    """What one submission has sent so far. It is a convenience: where it can't be kept, the upload begins anew."""

    def __init__(self, folder: Path, *, server: str, main: Path, name: str) -> None:
        key = hashlib.sha256(json.dumps([server, str(main.absolute()), name]).encode()).hexdigest()[:32]
        self._path = folder / f"{key}.json"
        self.job: str | None = None
        self._sent: dict[str, list[int]] = {}
        self._load()

    def _load(self) -> None:
        try:
            kept: Any = json.loads(self._path.read_text())
            self.job, self._sent = str(kept["job"]), dict(kept["sent"])
        except (OSError, ValueError, KeyError, TypeError):
            self.begin(None)

    def begin(self, job: str | None) -> None:
        """Remember a new job, or None: forget the old one."""
        self.job, self._sent = job, {}
        if job:
            self._save()

    def add(self, file: LocalFile) -> None:
        self._sent[file.path] = [file.bytes, file.modified_ms]
        self._save()

    def has(self, file: LocalFile) -> bool:
        """Say whether the file, as it is now, has been sent."""
        return self._sent.get(file.path) == [file.bytes, file.modified_ms]

    def forget(self) -> None:
        self.begin(None)
        self._path.unlink(missing_ok=True)

    def _save(self) -> None:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            scratch = self._path.with_suffix(f".{os.getpid()}")
            scratch.write_text(json.dumps({"job": self.job, "sent": self._sent}))
            scratch.replace(self._path)
        except OSError:
            return
