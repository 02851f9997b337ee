"""What JSON columns hold, there and back: settings, inspections, heartbeats."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from decimal import Decimal
from typing import Any

from nodeimage.protocol import Heartbeat, Unreadable
from supervisor.domain.instance import Market
from supervisor.domain.settings import JobSettings, OutputSettings

# JSON as sqlite gives it back: its keys are checked here, once.


def settings_to_json(settings: JobSettings) -> dict[str, Any]:
    raw = asdict(settings)
    price = settings.max_price_usd_per_h
    return raw | {"market": str(settings.market), "max_price_usd_per_h": None if price is None else str(price)}


def settings_from_json(raw: Mapping[str, Any]) -> JobSettings:
    values = dict(raw)
    values["market"] = Market(values["market"])
    price = values["max_price_usd_per_h"]
    values["max_price_usd_per_h"] = None if price is None else Decimal(price)
    values["instance_types"] = tuple(values["instance_types"])
    values["output"] = OutputSettings(**values["output"])
    return JobSettings(**values)


def heartbeat_to_json(beat: Heartbeat) -> dict[str, Any]:
    return asdict(beat)


def heartbeat_from_json(raw: Mapping[str, Any] | None) -> Heartbeat | None:
    """Returns: None if there is none, or it was written by another version of the farm."""
    if raw is None:
        return None
    try:
        return Heartbeat.from_bytes(json.dumps(raw).encode())
    except Unreadable:
        return None
