"""Calls about what jobs would take, and what the farm's own past says."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

from app.current import current_farm
from supervisor import queries
from supervisor.config import words
from supervisor.domain.estimate import Estimate, Range, TypeEstimate
from supervisor.domain.instance import Market
from supervisor.domain.settings import JobSettings
from supervisor.estimating import in_words
from supervisor.queries import MonthView, TypeFigures

from . import money_models as models
from .jobs import amount

_S_PER_H = 3600


def estimate_job(job: str, query: models.EstimateQuery) -> models.Estimate:
    farm = current_farm()
    found = queries.job_estimate(farm, job, _asked(queries.job_detail(farm, job).settings, query))
    if found is None:
        text = "nobody can tell yet what would be rendered: upload a .blend"
        return models.Estimate(frames=0, instances=0, basis="", measured=0, frame_s=None, wall_s=None, cost_usd=None, types=[], text=text)
    return _answer(found)


def _asked(kept: JobSettings, query: models.EstimateQuery) -> JobSettings:
    """The settings that the job has, with those that the query names."""
    output = {name: value for name in ("resolution_pct", "samples") if (value := getattr(query, name)) is not None}
    plain = {name: value for name in ("frames", "instances", "scene") if (value := getattr(query, name)) is not None}
    settings = replace(kept, **plain, output=replace(kept.output, **output))
    if query.market is not None:
        settings = replace(settings, market=Market(query.market), max_price_usd_per_h=None)
    if query.max_price_usd_per_h is not None:
        settings = replace(settings, max_price_usd_per_h=amount(query.max_price_usd_per_h))
    if query.instance_types is not None:
        settings = replace(settings, instance_types=words(query.instance_types))
    return settings


def _answer(found: Estimate) -> models.Estimate:
    return models.Estimate(
        frames=found.frames,
        instances=found.instances,
        basis=found.basis.value if found.basis else "",
        measured=found.measured,
        frame_s=_seconds(found.frame_s),
        wall_s=_seconds(found.wall_s),
        cost_usd=_usd(found.usd),
        types=[_type(each) for each in found.types],
        text=in_words(found),
    )


def _type(each: TypeEstimate) -> models.TypeEstimate:
    price = each.offer.usd_per_h
    return models.TypeEstimate(
        instance_type=each.offer.instance_type,
        usd_per_h=None if price is None else float(price),
        boot_s=each.offer.boot_s,
        frame_s=models.SecondsRange(low=each.frame_s.low, high=each.frame_s.high),
        wall_s=models.SecondsRange(low=each.wall_s.low, high=each.wall_s.high),
        cost_usd=_usd(each.usd),
    )


def _seconds(found: Range[float] | None) -> models.SecondsRange | None:
    return models.SecondsRange(low=found.low, high=found.high) if found else None


def _usd(found: Range[Decimal] | None) -> models.UsdRange | None:
    return models.UsdRange(low=round(float(found.low), 4), high=round(float(found.high), 4)) if found else None


def show_statistics() -> models.Statistics:
    farm = current_farm()
    month = queries.month(farm)
    return models.Statistics(types=[_figures(each) for each in queries.statistics(farm)], month=_month(month) if month else None)


def _figures(each: TypeFigures) -> models.TypeFigures:
    return models.TypeFigures(
        instance_type=each.instance_type,
        market=Market(each.market),
        jobs=each.jobs,
        instances=each.instances,
        frames=each.frames,
        frame_s=each.frame_s,
        frames_per_h=each.frames_per_h,
        frames_per_usd=each.frames_per_usd,
        boot_s=each.boot_s,
        rendering_pct=each.rendering_pct,
        paid_h=each.paid_s / _S_PER_H,
        cost_usd=float(each.usd),
    )


def _month(month: MonthView) -> models.Month:
    return models.Month(
        month=month.month,
        cost_usd=float(month.cost.total_usd),
        cap_usd=None if month.cap_usd is None else float(month.cap_usd),
        jobs=[models.MonthJob(job=each.job, name=each.name, cost_usd=float(each.cost.total_usd)) for each in month.jobs],
    )
