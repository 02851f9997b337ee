"""Zips through their links: signed, without a login, resumable."""

from __future__ import annotations

from datetime import timedelta

from flask import Blueprint, Response, make_response, render_template, send_file

from app.current import current_farm, current_link_key
from app.links import LinkExpired, LinkWrong, read_download
from supervisor.commands import downloads
from supervisor.domain.errors import NotFound

blueprint = Blueprint("downloads", __name__)


@blueprint.get("/d/<token>/<path:name>")
def file(token: str, name: str) -> Response:
    """The zip, or the part of it that Range asks for.

    Shape:   name: for people who look at the link, and not believed: whoever passes a link on could make it say anything
    """
    farm = current_farm()
    good_for = timedelta(days=farm.config.downloads.link_days)
    try:
        download = read_download(token, link_key=current_link_key(), good_for=good_for)
        zip_file, saved_as = downloads.download_file(farm, download), downloads.download(farm, download).name
    except LinkExpired:
        return _gone(410, "This link has expired", "Whoever sent it can make a fresh one on the job's page; the frames are still there.")
    except LinkWrong:
        return _gone(404, "This link is not complete", "A part of it may have been lost on the way. Copy the whole link, to its very end.")
    except NotFound as error:
        return _gone(404, "This zip is gone", str(error))
    answer = send_file(zip_file, mimetype="application/zip", as_attachment=True, download_name=saved_as, conditional=True, max_age=0)
    answer.headers["Cache-Control"] = "private, no-transform"
    answer.headers["X-Robots-Tag"] = "noindex"
    return answer


def _gone(status: int, title: str, advice: str) -> Response:
    return make_response(render_template("downloads/gone.html", title=title, advice=advice), status)
