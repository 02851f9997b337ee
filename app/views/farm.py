"""The farm as a whole: what keeps it from working at present, for the head of every page."""

from __future__ import annotations

from flask import Blueprint, Flask, Response

from app.auth import signed_in_user
from app.current import current_farm, has_images
from app.views.regions import Region, region

blueprint = Blueprint("farm", __name__)


@blueprint.get("/farm/trouble")
def trouble() -> Response:
    return trouble_region().answer()


def trouble_region() -> Region:
    """Why the supervisor decides nothing at present. It looks again while there is a reason."""
    text = current_farm().standing.trouble
    person = signed_in_user()
    may_mend = person is not None and person.role == "admin"
    return region("farm/_trouble.html", shows=(text, may_mend), trouble=text, may_mend=may_mend)


def init_farm_head(app: Flask) -> None:
    """Let every page know what the farm's head shows."""

    @app.context_processor
    def _head() -> dict[str, object]:
        return {"rents": current_farm().cloud.account is not None, "has_images": has_images(), "trouble_region": trouble_region}
