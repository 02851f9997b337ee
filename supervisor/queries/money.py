"""What jobs would take, what the month costs, and what the farm's own past says of each kind of instance."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

from supervisor.domain.budget import Standing, standing
from supervisor.domain.cost import month_of
from supervisor.domain.estimate import Estimate, Pace
from supervisor.domain.settings import JobSettings
from supervisor.domain.submission import check_settings
from supervisor.estimating import estimate_job
from supervisor.farm import Farm
from supervisor.readiness import limits_of
from supervisor.spending import is_counted, month_cap_usd, month_spent, sum_of
from supervisor.store import files, paces

from .jobs import found_job
from .models import MonthView, TypeFigures

_S_PER_H = 3600


def job_estimate(farm: Farm, job: str, settings: JobSettings | None = None) -> Estimate | None:
    """What is left of a job would take; None: with the settings that it has.

    Returns: None if nobody can tell what would be rendered: there is no main file yet
    Errors:  NotFound; Rejected - by field, settings that the job can't be rendered with
    """
    with farm.db.read() as connection:
        found = found_job(connection, job)
        wanted = settings or found.settings
        main_id = files.main_file_id(connection, job)
        main = files.file_by_id(connection, main_id, job=job) if main_id else None
        check_settings(wanted, limits_of(farm), main=main.inspection if main else None)
        return estimate_job(farm, connection, found, wanted)


def month(farm: Farm) -> MonthView | None:
    """What this calendar month costs so far. Returns: None on a farm where nothing costs anything"""
    if not is_counted(farm):
        return None
    now, cap = farm.now(), month_cap_usd(farm.config.money)
    with farm.db.read() as connection:
        entries = month_spent(connection, now=now)
    cost = sum_of(entries)
    stands = standing(spent_usd=cost.total_usd, ahead_usd=Decimal(0), cap_usd=cap, warn_pct=farm.config.money.warn_pct)
    return MonthView(
        month=month_of(now),
        cost=cost,
        cap_usd=cap,
        is_near=stands is not Standing.FINE,
        is_reached=stands in {Standing.REACHED, Standing.PASSED},
        jobs=tuple(entry for entry in entries if entry.cost.total_usd),
    )


def statistics(farm: Farm) -> list[TypeFigures]:
    """What the farm's own runs say of each kind of instance, the one with the most frames first."""
    with farm.db.read() as connection:
        known = paces.newest_paces(connection)
    kinds: dict[tuple[str, str], list[Pace]] = {}
    for pace in known:
        kinds.setdefault((pace.instance_type, pace.market), []).append(pace)
    return sorted((_figures(kind, mine) for kind, mine in kinds.items()), key=lambda figures: (-figures.frames, figures.instance_type))


def _figures(kind: tuple[str, str], mine: Sequence[Pace]) -> TypeFigures:
    frames, boots = sum(pace.frames for pace in mine), sum(pace.boots for pace in mine)
    render_s, paid_s = sum(pace.render_s for pace in mine), sum(pace.paid_s for pace in mine)
    usd = sum((pace.usd for pace in mine), Decimal(0))
    return TypeFigures(
        instance_type=kind[0],
        market=kind[1],
        jobs=len(mine),
        instances=sum(pace.instances for pace in mine),
        frames=frames,
        frame_s=render_s / frames if frames else None,
        frames_per_h=frames * _S_PER_H / paid_s if paid_s else None,
        frames_per_usd=float(frames / usd) if usd else None,
        boot_s=sum(pace.boot_s for pace in mine) / boots if boots else None,
        rendering_pct=min(100 * render_s / paid_s, 100.0) if paid_s else None,
        paid_s=paid_s,
        usd=usd,
    )
