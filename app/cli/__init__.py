"""The `kiln` command: run a farm, look after it, send it work."""

from __future__ import annotations

from errno import EPIPE
from importlib import import_module
from importlib.metadata import version
from typing import Any

import click

from app.logs import logs_of_a_command
from supervisor.cloud.ports import CloudError
from supervisor.config import BadConfig
from supervisor.domain.errors import CommandError

from .client import ApiError, ServerUnreachable
from .failure import Failed
from .project import BadProject

#: Command -> module. Each is imported when it is asked for: who sends a job need not load the whole farm.
_COMMANDS = {
    "serve": "serving",
    "user": "people",
    "token": "people",
    "submit": "submit",
    "jobs": "jobs",
    "doctor": "health",
    "sweep": "health",
    "aws": "aws",
    "ami": "ami",
    "backup": "backup",
    "restore": "restore",
}


class _Cli(click.Group):
    """Loads its commands late, and turns the failures that are expected into a message and exit code 1."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        command = getattr(import_module(f"{__name__}.{_COMMANDS[cmd_name]}"), cmd_name)
        assert isinstance(command, click.Command), "guaranteed by the table"
        return command

    def invoke(self, ctx: click.Context) -> Any:
        try:
            with logs_of_a_command():
                return super().invoke(ctx)
        except ApiError as error:
            raise click.ClickException(_explained(error)) from error
        except BadProject as error:
            raise click.UsageError(str(error)) from error
        except (Failed, ServerUnreachable, BadConfig, CommandError, CloudError) as error:
            raise click.ClickException(str(error)) from error
        except OSError as error:
            if error.errno == EPIPE:
                raise  # click's own: whoever read our output has gone
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
