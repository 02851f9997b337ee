"""Frames: one frame's panel, picture and log. Its outputs come from the API."""

from __future__ import annotations

from flask import Blueprint, Response, redirect, render_template, request, url_for
from werkzeug.wrappers import Response as AnyResponse

from app.current import current_farm
from app.views.frame_regions import panel_region
from supervisor import queries
from supervisor.commands import jobs as commands

blueprint = Blueprint("frames", __name__)


@blueprint.get("/jobs/<job>/frames/<int(signed=True):number>")
def detail(job: str, number: int) -> str:
    region = panel_region(job, number)
    return render_template("frames/detail.html", job=region.context["job"], number=number, panel=region.html())


@blueprint.get("/jobs/<job>/frames/<int(signed=True):number>/panel")
def panel(job: str, number: int) -> Response:
    return panel_region(job, number).answer()


@blueprint.post("/jobs/<job>/frames/<int(signed=True):number>/render-again")
def render_again(job: str, number: int) -> AnyResponse:
    commands.render_again(current_farm(), job, [number])
    if request.headers.get("HX-Request"):
        return panel_region(job, number).answer(changed=True)
    return redirect(url_for("frames.detail", job=job, number=number), 303)


@blueprint.get("/jobs/<job>/frames/<int(signed=True):number>/preview")
def preview(job: str, number: int) -> Response:
    """A WebP picture. Under an address that names the attempt it never changes."""
    answer = Response(queries.frame_preview(current_farm(), job, number), mimetype="image/webp")
    answer.headers["Cache-Control"] = "private, max-age=31536000, immutable" if "attempt" in request.args else "private, no-cache"
    return answer


@blueprint.get("/jobs/<job>/frames/<int(signed=True):number>/log")
def log(job: str, number: int) -> Response:
    """Blender's log as plain text."""
    text = queries.frame_log(current_farm(), job, number, attempt=request.args.get("attempt", type=int))
    return Response(text, content_type="text/plain; charset=utf-8", headers={"Cache-Control": "private, no-cache"})
