"""Links to zips that need no login: signed, so that nobody can guess one, and dated, so that they end."""

from __future__ import annotations

from datetime import timedelta
from urllib.parse import quote

from itsdangerous import BadSignature, SignatureExpired, URLSafeTimedSerializer

from app.current import base_url, current_link_key
from supervisor.queries import DownloadView

_SALT = "kiln.download"  # a signature made for something else with the same key is none for a download


class LinkWrong(Exception):
    """The token is not one that this farm signed."""


class LinkExpired(Exception):
    """The link was good once; its days are over."""


def sign_download(download: str, *, link_key: str) -> str:
    """Make the token that stands in a download's link. Two made in the same second are equal."""
    token = URLSafeTimedSerializer(link_key, salt=_SALT).dumps(download)
    assert isinstance(token, str), "itsdangerous: dumps of a text serializer"
    return token


def read_download(token: str, *, link_key: str, good_for: timedelta) -> str:
    """The download that a token names. Errors: LinkWrong, LinkExpired"""
    try:
        download = URLSafeTimedSerializer(link_key, salt=_SALT).loads(token, max_age=int(good_for.total_seconds()))
    except SignatureExpired as error:
        raise LinkExpired("the link has expired") from error
    except BadSignature as error:
        raise LinkWrong("the link is not one of this farm's") from error
    return str(download)


def download_url(download: DownloadView) -> str:
    """A fresh link to a download, absolute. Works in a request only."""
    token = sign_download(download.id, link_key=current_link_key())
    return f"{base_url()}/d/{token}/{quote(download.name)}"
