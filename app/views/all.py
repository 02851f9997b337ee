"""Every blueprint of pages. The modules of actions add their routes to the jobs' blueprint by being imported."""

from __future__ import annotations

from app.views import drafts as _drafts  # noqa: F401 - adds routes
from app.views import job_actions as _job_actions  # noqa: F401 - adds routes
from app.views import job_money as _job_money  # noqa: F401 - adds routes
from app.views.accounts import blueprint as accounts
from app.views.aws import blueprint as aws
from app.views.doctor import blueprint as doctor
from app.views.downloads import blueprint as downloads
from app.views.farm import blueprint as farm
from app.views.frames import blueprint as frames
from app.views.health import blueprint as health
from app.views.images import blueprint as images
from app.views.jobs import blueprint as jobs
from app.views.people import blueprint as people
from app.views.statistics import blueprint as statistics

BLUEPRINTS = (accounts, people, aws, images, doctor, farm, jobs, frames, downloads, statistics, health)
