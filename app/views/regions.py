"""Regions: the parts of a page that update in place. First paint, poll and action all render one through here, so they can't differ."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from flask import Response, make_response, render_template, request
from markupsafe import Markup

from supervisor.domain.job import ACTIVE, JobStatus

#: Event on the page's body that makes every region of a job look again.
CHANGED = "job-changed"
#: `hx-trigger` of a region while its job can change by itself, and while only a person can change it.
POLLS = f"every 2s, {CHANGED} from:body"
POLLS_SLOWLY = f"every 10s, {CHANGED} from:body"
WAITS = f"{CHANGED} from:body"


@dataclass(frozen=True, slots=True, kw_only=True)
class Region:
    """One partial with what it shows."""

    template: str
    version: str  #: changes exactly when what it shows does, but for what a person typed: that is shown by the answer to it alone
    context: Mapping[str, Any]

    def html(self) -> Markup:
        return Markup(render_template(self.template, version=self.version, **self.context))

    def answer(self, *, status: int = 200, changed: bool = False) -> Response:
        """The region, or 204 where the page has seen this version.

        Shape:   changed: an action answers with it, so the other regions should look again
        """
        if request.method == "GET" and request.args.get("seen") == self.version:
            return Response(status=204)
        answer = make_response(self.html(), status)
        if changed:
            answer.headers["HX-Trigger-After-Settle"] = CHANGED
        return answer


def region(template: str, *, shows: object, **context: Any) -> Region:
    """Shape:   shows: all that can make the partial look different, as values whose repr says all of them; its trigger is added:
    a region that looks the same must still learn that it may stop polling
    """
    seen = repr((shows, context.get("trigger")))
    return Region(template=template, version=hashlib.blake2b(seen.encode(), digest_size=9).hexdigest(), context=context)


def trigger_of(status: JobStatus) -> str:
    """When a region of a job in this status looks again."""
    if status in ACTIVE:
        return POLLS
    if status is JobStatus.PAUSED:
        return POLLS_SLOWLY  # resumed from elsewhere, perhaps
    return WAITS
