"""What JSON columns hold, there and back: settings, inspections, heartbeats; and what is in a zip."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from dataclasses import asdict
from decimal import Decimal
from typing import Any

from nodeimage.protocol import Heartbeat, Unreadable
from supervisor.domain.instance import Market
from supervisor.domain.settings import JobSettings, OutputSettings
from supervisor.domain.workspace import WorkspaceMode
from supervisor.domain.zip_plan import ZipEntry, ZipIndex

# JSON as sqlite gives it back: its keys are checked here, once.

#: Settings that are amounts, which JSON's numbers would not keep.
_MONEY = ("max_price_usd_per_h", "max_cost_usd")


def settings_to_json(settings: JobSettings) -> dict[str, Any]:
    money = {name: None if (amount := getattr(settings, name)) is None else str(amount) for name in _MONEY}
    return asdict(settings) | {"market": str(settings.market)} | money


def settings_from_json(raw: Mapping[str, Any]) -> JobSettings:
    """What an older farm did not write is as it is by default."""
    values = dict(raw)
    values["market"] = Market(values["market"])
    values |= {name: None if (amount := values.get(name)) is None else Decimal(amount) for name in _MONEY}
    values["instance_types"] = tuple(values["instance_types"])
    values["output"] = OutputSettings(**values["output"])
    values["workspace_mode"] = WorkspaceMode(mode) if (mode := values.get("workspace_mode")) else None
    return JobSettings(**values)


def heartbeat_to_json(beat: Heartbeat) -> dict[str, Any]:
    return asdict(beat)


def heartbeat_from_json(raw: Mapping[str, Any] | None) -> Heartbeat | None:
    """Returns: None if there is none, or it was written by another version of the farm."""
    if raw is None:
        return None
    try:
        return Heartbeat.from_json(raw)
    except Unreadable:
        return None


def index_to_bytes(index: ZipIndex) -> bytes:
    """As small as it gets without effort: 1.3 MB for 100,000 frames."""
    # most files bear the same name in the zip as in the store
    rows = [[e.frame, e.output, None if e.name == e.output else e.name, e.bytes, e.crc32] for e in index.entries]
    return zlib.compress(json.dumps({"made_at": index.made_at, "entries": rows}, separators=(",", ":")).encode())


def index_from_bytes(body: bytes) -> ZipIndex:
    raw = json.loads(zlib.decompress(body))
    entries = (
        ZipEntry(frame=frame, output=output, name=output if name is None else name, bytes=length, crc32=crc32)
        for frame, output, name, length, crc32 in raw["entries"]
    )
    return ZipIndex(made_at=tuple(raw["made_at"]), entries=tuple(entries))
