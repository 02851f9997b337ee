"""What is kept of an instance on disk, so that another start of the server finds the nodes that the last one left running."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from supervisor.domain.instance import Market

from .disk import last_lines, write_private
from .processes import ProcessId

#: The field in which an agent's last line says why it ends (`nodeimage.agent.logs`).
_REASON = re.compile(r"""\bwhy=(['"])(.*)\1\s*$""")
_TIME = re.compile(r"^\d{4}-\d\d-\d\d [\d:,]+ ")


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalInstance:
    """A node process, from before it is started until its folder is removed."""

    id: str
    request_id: str
    job: str
    node: str
    market: Market
    launched_at: datetime
    process: ProcessId | None = None  #: None: not started yet
    ending_at: datetime | None = None  #: when it was asked to end
    ended_at: datetime | None = None  #: when it was seen to have ended
    note: str = ""


class InstanceFiles:
    """`<data>/nodes/<instance>/`: `instance.json`, `agent.log`, the node's `workspace` and `home`."""

    def __init__(self, nodes: Path) -> None:
        self.nodes = nodes

    def folder(self, id: str) -> Path:
        return self.nodes / id

    def write(self, instance: LocalInstance) -> None:
        write_private(self.folder(instance.id) / "instance.json", json.dumps(asdict(instance), default=str))

    def read_all(self) -> Iterator[LocalInstance]:
        """Read every instance written down; what a crash cut off is passed over."""
        for path in sorted(self.nodes.glob("*/instance.json")):
            with suppress(OSError, ValueError, KeyError, TypeError):
                yield _decode(json.loads(path.read_text()))

    def last_words(self, id: str) -> str:
        """Why an agent ended, by its log's last line: the reason it gave, else the line without its time. Empty: it said nothing."""
        line = last_lines(self.folder(id) / "agent.log", 1)
        reason = _REASON.search(line)
        return (reason[2] if reason else _TIME.sub("", line))[:300]

    def remove_copy(self, id: str) -> None:
        """Give back the instance's copy of the workspace. Repeat: safe"""
        shutil.rmtree(self.folder(id) / "workspace", ignore_errors=True)

    def remove(self, id: str) -> None:
        """Repeat: safe"""
        shutil.rmtree(self.folder(id), ignore_errors=True)


def _decode(raw: dict[str, Any]) -> LocalInstance:
    times = {name: datetime.fromisoformat(raw[name]) if raw[name] else None for name in ("launched_at", "ending_at", "ended_at")}
    process = ProcessId(**raw["process"]) if raw["process"] else None
    return LocalInstance(**{**raw, **times, "market": Market(raw["market"]), "process": process})
