"""Whether the farm is well, for whatever watches it."""

from __future__ import annotations

from flask import Blueprint, Response, current_app, jsonify

from app.current import current_farm
from supervisor import queries

blueprint = Blueprint("health", __name__)


@blueprint.get("/healthz")
def healthz() -> Response:
    """200 while the supervisor ticks; 503 when it has stopped."""
    health = queries.health(current_farm())
    answer = jsonify(
        status="ok" if health.is_alive else "stopped",
        version=current_app.config["KILN_VERSION"],
        provider=health.provider,
        last_tick_s=None if health.last_tick_s is None else round(health.last_tick_s, 3),
    )
    answer.status_code = 200 if health.is_alive else 503
    answer.headers["Cache-Control"] = "no-store"
    return answer
