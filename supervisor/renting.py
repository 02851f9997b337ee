"""By which of a job's settings its instances are rented: those of a shared pool are the pool's, whatever a job asks for."""

from __future__ import annotations

from dataclasses import replace

from supervisor.domain.instance import Market
from supervisor.domain.settings import JobSettings
from supervisor.domain.workspace import WorkspaceMode
from supervisor.farm import Farm


def as_rented(farm: Farm, settings: JobSettings) -> JobSettings:
    """The settings as they hold here. With a shared pool instances, market, price, types and the way of the files are the pool's."""
    if farm.cloud.pool is None:
        return settings
    return replace(
        settings,
        instances=most_of_pool(farm),
        market=Market(farm.config.pool.market),
        max_price_usd_per_h=None,
        instance_types=(),
        workspace_mode=WorkspaceMode.S3,
    )


def most_of_pool(farm: Farm) -> int:
    """How many instances the shared pool has at most."""
    return min(farm.config.pool.max_instances, farm.config.launch.max_instances)
