"""What the farm's own runs say: frames by hour and by dollar of each kind of instance, and where the month's money went."""

from __future__ import annotations

from flask import Blueprint, render_template

from app.current import current_farm
from supervisor import queries

blueprint = Blueprint("statistics", __name__)

JOBS_SHOWN = 30


@blueprint.get("/statistics")
def index() -> str:
    farm = current_farm()
    month = queries.month(farm)
    return render_template(
        "statistics/index.html",
        types=queries.statistics(farm),
        month=month,
        jobs=month.jobs[:JOBS_SHOWN] if month else (),
        hidden=max(0, len(month.jobs) - JOBS_SHOWN) if month else 0,
        known={job.id for job in queries.job_list(farm, limit=1000)} if month else set(),
    )
