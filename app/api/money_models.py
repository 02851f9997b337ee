"""What goes in and out of the calls about money: estimates, statistics, the month."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from supervisor.domain.instance import Market

from .models import Answer, Name, Query, Text, Usd


class EstimateQuery(Query):
    """Settings that are to differ from what the job has."""

    frames: Text | None = None
    instances: int | None = Field(default=None, ge=1)
    market: Literal["on_demand", "spot"] | None = None
    max_price_usd_per_h: Usd | None = None
    instance_types: Text | None = Field(default=None, description="By commas.")
    scene: Name | None = None
    resolution_pct: int | None = Field(default=None, ge=1, le=1000)
    samples: int | None = Field(default=None, ge=1, le=65536)


class SecondsRange(Answer):
    low: float
    high: float


class UsdRange(Answer):
    low: float
    high: float


class TypeEstimate(Answer):
    instance_type: str
    usd_per_h: float | None = Field(description="With its root volume; null: not known.")
    boot_s: float
    frame_s: SecondsRange
    wall_s: SecondsRange
    cost_usd: UsdRange | None


class Estimate(Answer):
    """What is left of a job would take. Where the farm has rendered nothing like it, nothing is claimed."""

    frames: int
    instances: int = Field(description="That render at once.")
    basis: Literal["", "job", "file", "name", "similar"] = Field(
        description="What it rests on: frames of this job, of the same file, of an earlier version by name, of other jobs; empty: nothing."
    )
    measured: int = Field(description="Frames that it rests on.")
    frame_s: SecondsRange | None
    wall_s: SecondsRange | None
    cost_usd: UsdRange | None = Field(description="null: no price is known, or no time.")
    types: list[TypeEstimate]
    text: str = Field(description="The same for people.")


class TypeFigures(Answer):
    """What came of one kind of instance in all jobs, deleted ones too."""

    instance_type: str
    market: Market
    jobs: int
    instances: int
    frames: int
    frame_s: float | None = Field(description="That a frame rendered, the mean.")
    frames_per_h: float | None = Field(description="Of one instance, boot and idle included.")
    frames_per_usd: float | None = Field(description="null: it cost nothing.")
    boot_s: float | None
    rendering_pct: float | None = Field(description="Of the time that was paid for.")
    paid_h: float
    cost_usd: float


class MonthJob(Answer):
    job: str = Field(description="Empty: what the farm holds for no job. A deleted job's id leads nowhere.")
    name: str
    cost_usd: float


class Month(Answer):
    """What all jobs cost in this calendar month, in UTC."""

    month: str
    cost_usd: float
    cap_usd: float | None = Field(description="At so much every job pauses; null: never.")
    jobs: list[MonthJob] = Field(description="The dearest first.")


class Statistics(Answer):
    types: list[TypeFigures]
    month: Month | None = Field(description="null: nothing costs anything here.")
