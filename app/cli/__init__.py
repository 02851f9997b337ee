"""The `kiln` command: run a farm, look after it, send it work."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

import click

from app.bootstrap import AlreadyServed
from supervisor.cloud.ports import CloudError
from supervisor.config import BadConfig
from supervisor.domain.errors import CommandError
from supervisor.store.care import NoDatabase
from supervisor.store.migrate import DamagedDatabase, NewerDatabase

from .backup import BadBackup, backup, restore
from .client import ApiError, ServerUnreachable
from .health import doctor, sweep
from .jobs import jobs
from .people import token, user
from .project import BadProject
from .submit import NotRendered, submit
from .watch import BadFrame

#: Their messages say what is wrong and what to do; a traceback would only hide it.
_EXPECTED = (
    ServerUnreachable,
    NotRendered,
    BadFrame,
    BadBackup,
    BadConfig,
    CommandError,
    CloudError,
    NoDatabase,
    NewerDatabase,
    DamagedDatabase,
    AlreadyServed,
)


class _Cli(click.Group):
    """Turns the failures that are expected into a message and exit code 1."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except ApiError as error:
            raise click.ClickException(_explained(error)) from error
        except BadProject as error:
            raise click.UsageError(str(error)) from error
        except _EXPECTED as error:
            raise click.ClickException(str(error)) from error


def _explained(error: ApiError) -> str:
    if error.status == 401:
        return f"the farm does not know the token: {error}"
    fields = [f"  {each.field}: {each.detail}" for each in error.problem.errors if each.detail != str(error)]
    return "\n".join([str(error), *fields])


@click.group(cls=_Cli, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(version("kiln"), prog_name="kiln")
def main() -> None:
    """Kiln, a Blender render farm of your own."""


for _command in (user, token, submit, jobs, doctor, sweep, backup, restore):
    main.add_command(_command)
