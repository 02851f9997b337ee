"""Settings as the database holds them, those of an older farm among them."""

from __future__ import annotations

import json
from decimal import Decimal

import pytest

from supervisor.domain.instance import Market
from supervisor.domain.settings import JobSettings, OutputSettings
from supervisor.domain.workspace import WorkspaceMode
from supervisor.store.encoding import settings_from_json, settings_to_json

WHOLE = JobSettings(
    frames="1-10",
    instances=4,
    market=Market.SPOT,
    max_price_usd_per_h=Decimal("0.45"),
    instance_types=("c7i.4xlarge",),
    workspace_mode=WorkspaceMode.SNAPSHOT,
    scene="Scene",
    camera="Camera",
    blender="4.5",
    output=OutputSettings(name="a_", format="PNG", resolution_pct=50, samples=8),
    persistent_data=False,
)


@pytest.mark.parametrize("settings", [JobSettings(), WHOLE])
def test_settings_come_back_as_they_were_written(settings: JobSettings) -> None:
    assert settings_from_json(json.loads(json.dumps(settings_to_json(settings)))) == settings


def test_settings_of_a_farm_before_it_rented_can_be_read() -> None:
    raw = settings_to_json(JobSettings(frames="1-3"))
    for name in ("workspace_mode", "max_cost_usd", "scout", "blender"):
        del raw[name]
    assert settings_from_json(raw) == JobSettings(frames="1-3")
